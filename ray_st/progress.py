"""How far the work is: workers count, the one who asked looks on.

In: counts from actors and train workers, wherever they run. Out: bars in the caller's terminal, or
a line a minute in a log. Next: `data`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ray_st import logs
from ray_st.standing import Log, Row

_POLL_S = 0.5
_PATIENCE_S = 10.0


def keeper(kind: type, *args: Any) -> Any:
    """Start an actor that keeps counts, on the caller's own node: no other's death takes it away.

    One whose process dies is started again, and counts from zero.
    """
    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lasting = {"max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": node}
    return ray.remote(num_cpus=0, **lasting)(kind).remote(*args)


class _Board:
    """The actor behind the bars: a row a name."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def put(self, name: str, done: int, note: str) -> None:
        row = self._rows.get(name, Row())
        self._rows[name] = replace(row, done=done, note=note)

    def add(self, name: str, count: int, failed: int) -> None:
        row = self._rows.get(name, Row())
        self._rows[name] = replace(row, done=row.done + count, failed=row.failed + failed)

    def warn(self, name: str, lines: Mapping[str, str]) -> None:
        row = self._rows.get(name, Row())
        self._rows[name] = replace(row, warnings={**lines, **row.warnings})

    def read(self) -> dict[str, Row]:
        return self._rows


@dataclass(frozen=True, kw_only=True)
class Counter:
    """What a worker holds: it can be sent anywhere, and never makes the worker wait."""

    name: str
    board: Any  # actor handle of the board

    def put(self, done: int, note: str = "") -> None:
        """Say how much is done, and something about it."""
        self.board.put.remote(self.name, done, note)

    def add(self, count: int, failed: int = 0) -> None:
        """Say that `count` more are done, `failed` of which came to nothing."""
        self.board.add.remote(self.name, count, failed)

    def warn(self, lines: Mapping[str, str]) -> None:
        """Say what would worry us: a line of each kind, of which the first is shown, once."""
        self.board.warn.remote(self.name, lines)


@contextmanager
def shown(
    totals: dict[str, int],
    console: Console,
    *,
    every_s: float = 60.0,
    tell: Callable[[Mapping[str, Row]], None] | None = None,
) -> Iterator[dict[str, Counter]]:
    """Show how far each name is while the block runs; give it the counters to hand out.

    On a terminal a bar each; elsewhere, as in the log of a job, a line each every `every_s`
    seconds. `tell` is told at every look, some times a second.
    """
    board = keeper(_Board)
    look = _bars if console.is_terminal else _lines
    done = threading.Event()
    said: set[tuple[str, str]] = set()
    with look(totals, console, every_s) as update:

        def watch() -> None:
            is_last = False
            while not is_last:
                is_last = done.wait(min(_POLL_S, every_s))
                try:
                    rows = ray.get(board.read.remote(), timeout=_PATIENCE_S)
                except GetTimeoutError:
                    continue  # the board is being started again
                except RayError:
                    return  # the cluster is gone, and the work itself says so
                update(rows)
                if tell is not None:
                    tell(rows)
                _say_warnings(rows, said, console)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield {name: Counter(name=name, board=board) for name in totals}
        finally:
            done.set()
            watcher.join()
            ray.kill(board)


def _say_warnings(rows: Mapping[str, Row], said: set[tuple[str, str]], console: Console) -> None:
    """Print of each name and kind of warning the first, above the bars where there are any."""
    for name, row in rows.items():
        for kind, line in row.warnings.items():
            if (name, kind) not in said:
                said.add((name, kind))
                if logs.is_json():
                    logs.event("warning", line, level="warning", stage=name, kind=kind)
                    continue
                text = f"{'warning':<11}{name}: {line}"
                console.print(text, markup=False, highlight=False, soft_wrap=True)


_Update = Callable[[Mapping[str, Row]], None]


@contextmanager
def _bars(totals: Mapping[str, int], console: Console, every_s: float) -> Iterator[_Update]:
    del every_s  # as often as is looked
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {name: bars.add_task(name, total=total, note="") for name, total in totals.items()}

        def update(rows: Mapping[str, Row]) -> None:
            for name, row in rows.items():
                bars.update(tasks[name], completed=row.done, note=row.words)

        yield update


@contextmanager
def _lines(totals: Mapping[str, int], console: Console, every_s: float) -> Iterator[_Update]:
    log = Log(totals, every_s, time.monotonic())

    def update(rows: Mapping[str, Row]) -> None:
        for each in log.due(rows, time.monotonic()):
            if logs.is_json():
                logs.event("progress", each.line, stage=each.name, **each.facts)
            else:
                console.out(each.line, highlight=False)

    yield update
