"""How far the work is: workers count, the one who asked looks on.

In: counts from actors and train workers, wherever they run. Out: progress bars in the caller's
terminal. Next: `data`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_POLL_S = 0.5


def keeper(kind: type, *args: Any) -> Any:
    """Start an actor that keeps counts, on the caller's own node: no other's death takes it away.

    One whose process dies is started again, and counts from zero.
    """
    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lasting = {"max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": node}
    return ray.remote(num_cpus=0, **lasting)(kind).remote(*args)


class _Board:
    """The actor behind the bars: a count and a note a name."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, str]] = {}

    def put(self, name: str, done: int, note: str) -> None:
        self._rows[name] = (done, note)

    def add(self, name: str, count: int) -> None:
        done, note = self._rows.get(name, (0, ""))
        self._rows[name] = (done + count, note)

    def read(self) -> dict[str, tuple[int, str]]:
        return self._rows


@dataclass(frozen=True, kw_only=True)
class Counter:
    """What a worker holds: it can be sent anywhere, and never makes the worker wait."""

    name: str
    board: Any  # actor handle of the board

    def put(self, done: int, note: str = "") -> None:
        """Say how much is done, and something about it."""
        self.board.put.remote(self.name, done, note)

    def add(self, count: int) -> None:
        """Say that `count` more are done."""
        self.board.add.remote(self.name, count)


@contextmanager
def shown(totals: dict[str, int], console: Console) -> Iterator[dict[str, Counter]]:
    """Show a bar for each name while the block runs; give it the counters to hand out."""
    board = keeper(_Board)
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    # Without a terminal a bar would be a log line every half second.
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        rows = {name: bars.add_task(name, total=total, note="") for name, total in totals.items()}
        done = threading.Event()

        def look() -> None:
            while not done.wait(_POLL_S):
                for name, (count, note) in ray.get(board.read.remote()).items():
                    bars.update(rows[name], completed=count, note=note)

        watcher = threading.Thread(target=look, daemon=True)
        if console.is_terminal:
            watcher.start()
        try:
            yield {name: Counter(name=name, board=board) for name in totals}
        finally:
            done.set()
            if watcher.is_alive():
                watcher.join()
            ray.kill(board)
