"""How far work is, as plain values: counts of a name, how fast they grow, how long still.

In: counts and a clock that the caller reads. Out: `Row`, `Standing`, the lines of a log. Next:
`logs.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_LINES_OF_A_RATE = 10


@dataclass(frozen=True, kw_only=True)
class Row:
    """How far the work of one name is."""

    done: int = 0
    failed: int = 0  # of these
    note: str = ""
    warnings: Mapping[str, str] = field(default_factory=dict)  # a line of each kind

    @property
    def words(self) -> str:
        """What is to say beside the numbers."""
        return "  ".join(filter(None, (f"{self.failed:,} failed" * bool(self.failed), self.note)))


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A row, of how much it is, and how fast it grows."""

    name: str
    row: Row
    total: int
    per_s: float  # 0 where nothing moved, or before it can be known

    @property
    def left_s(self) -> float | None:
        """Seconds to the end at this rate."""
        return (self.total - self.row.done) / self.per_s if self.per_s else None

    @property
    def line(self) -> str:
        """One line of a log."""
        left = "time left unknown" if self.left_s is None else f"{duration(self.left_s)} left"
        speed = f"{self.per_s:,.1f}/s  {left}" if self.row.done else "waiting for the first"
        words = (f"{self.name:<9}", f"{self.row.done:,} / {self.total:,}", speed, self.row.words)
        return "  ".join(filter(None, words))

    @property
    def facts(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "done": self.row.done,
            "total": self.total,
            "failed": self.row.failed,
            "per_s": round(self.per_s, 3),
            "left_s": None if self.left_s is None else round(self.left_s, 1),
            "note": self.row.note,
        }


class Pace:
    """How fast names move, by their last few looks.

    A rate begins when the first is done: a start of minutes, and what an earlier run did, are no
    part of it.
    """

    def __init__(self, totals: Mapping[str, int]) -> None:
        self._totals = totals
        self._seen: dict[str, deque[tuple[float, int]]] = {
            name: deque(maxlen=_LINES_OF_A_RATE) for name in totals
        }

    def begin(self, rows: Mapping[str, Row], now: float) -> None:
        """Notice names whose first is done."""
        for name, seen in self._seen.items():
            if not seen and name in rows and rows[name].done:
                seen.append((now, rows[name].done))

    def look(self, name: str, row: Row, now: float) -> Standing:
        """How far a name is and how fast it was since its look ten looks ago."""
        seen, rate = self._seen[name], 0.0
        if seen:
            then, before = seen[0]
            # Fewer than before: the board was started again, and counts from zero.
            rate = max(0, row.done - before) / (now - then) if now > then else 0.0
            seen.append((now, row.done))
        return Standing(name=name, row=row, total=self._totals[name], per_s=rate)


class Log:
    """What is to say where there are no bars: how much, how fast, how long still."""

    def __init__(self, totals: Mapping[str, int], every_s: float, now: float) -> None:
        self._totals, self._every_s = totals, every_s
        self._due = now + every_s
        self._pace = Pace(totals)

    def due(self, rows: Mapping[str, Row], now: float) -> list[Standing]:
        """What to say now: each name that is under way, once in `every_s` seconds."""
        self._pace.begin(rows, now)
        if now < self._due:
            return []
        self._due = now + self._every_s
        begun = [name for name in self._totals if rows.get(name, Row()).done] or [*self._totals]
        open_ = [name for name in begun if rows.get(name, Row()).done < self._totals[name]]
        return [self._pace.look(name, rows.get(name, Row()), now) for name in open_]

    def lines(self, rows: Mapping[str, Row], now: float) -> list[str]:
        """The same as lines of text."""
        return [each.line for each in self.due(rows, now)]


def duration(seconds: float) -> str:
    """Whole seconds, minutes, or hours and minutes."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
