"""How far a run is, in a small file of its own folder, so that anybody can see it from anywhere.

In: rows of the board, at every look. Out: `.progress.json` in the folder or bucket, written anew
every few seconds, kept where a run breaks off, removed where a part of it ends well. What a verb
leaves at its end is read back whole, or refused. Next: `watching.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.standing import Pace, Row

PROGRESS = ".progress.json"
RECIPE, SUMMARY = "recipe.yaml", "summary.json"  # from the start, and from the end
_EVERY_S = 10.0


class Record:
    """What `ray-st status` reads while a run goes on, and after it was killed."""

    def __init__(
        self,
        out: str,
        totals: Mapping[str, int],
        *,
        every_s: float = _EVERY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin, with nothing done. `out`: a folder or bucket that stands."""
        self._uri = storage.join(storage.absolute(out), PROGRESS)
        self._totals, self._every_s, self._clock = totals, every_s, clock
        self._pace, self._moved = Pace(totals), dict[str, tuple[int, float]]()
        self._begun_s = self._written_s = clock()
        self._write({})

    def take(self, rows: Mapping[str, Row]) -> None:
        """Note how far the names are; it is written when it is due."""
        now = self._clock()
        self._pace.begin(rows, now)
        for name, row in rows.items():
            if self._moved.get(name, (0, 0.0))[0] != row.done:
                self._moved[name] = (row.done, now)
        if now - self._written_s >= self._every_s:
            self._written_s = now
            self._write(rows)

    def end(self) -> None:
        """All of it is done, and stands in other files."""
        try:
            storage.remove(self._uri)
        except OSError:  # a bucket that fails now costs a stale file, which a later run replaces
            return

    def _write(self, rows: Mapping[str, Row]) -> None:
        stages = {name: self._stage(name, rows.get(name, Row())) for name in self._totals}
        known = {"begun_at_s": self._begun_s, "at_s": self._written_s, "stages": stages}
        try:
            storage.put(self._uri, json.dumps(known).encode())
        except OSError:  # the next one may come through; the work itself will say
            return

    def _stage(self, name: str, row: Row) -> dict[str, Any]:
        _, moved_at_s = self._moved.get(name, (0, None))
        standing = self._pace.look(name, row, self._written_s)
        return {**standing.facts, "moved_at_s": moved_at_s, "warnings": [*row.warnings.values()]}


def left_whole(path: str) -> dict[str, Any] | None:
    """An object that a verb put in its place at once, or None; refuses one that is damaged."""
    if not storage.exists(path):
        return None
    try:
        found = json.loads(storage.read(path))
    except OSError as error:  # which may be gone at the next try: nothing is to be removed
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read ({reason}); check your access to it") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: must be readable JSON, got {' '.join(str(error).split())}; "
            "remove it and run its verb again"
        ) from error
    if not isinstance(found, dict):
        raise UserError(
            f"{path}: must be a JSON object, got {found!r:.80}; remove it and run its verb again"
        )
    return found
