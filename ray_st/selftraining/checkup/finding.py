"""One thing that was found: how bad, where, what with its number, and what to do about it.

In: words and numbers, or a refusal. Out: `Finding`. Next: `files.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ray_st.config import UserError

Severity = Literal["fail", "warn", "fine"]
SEVERITIES: Final[tuple[Severity, ...]] = ("fail", "warn", "fine")  # worst first
_MOST_NAMES = 5


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of a checkup."""

    severity: Severity  # fail: a run would fail or surely disappoint; warn: it may; fine: neither
    where: str  # the field, as the user knows it
    what: str
    move: str = ""  # what to do; nothing where all is fine
    numbers: Mapping[str, Any] = field(default_factory=dict)  # plain values, for doctor.json

    @property
    def line(self) -> str:
        """All but the numbers that do not stand in the words."""
        return f"{self.severity:<6}{self.where}: {self.what}{f'; {self.move}' if self.move else ''}"

    @classmethod
    def refusal(cls, error: UserError) -> Finding:
        """What a run would be refused for: such a line names field, rule, value and next move."""
        where, colon, rest = str(error).partition(": ")
        if not colon or " " in where:  # not a field or a file
            where, rest = "recipe", str(error)
        what, _, move = rest.rpartition("; ")
        return cls(severity="fail", where=where, what=what or move, move=move if what else "")


def graded(value: float, *, warn: float, fail: float = float("inf")) -> Severity:
    """How bad a value is that should be low: `warn` above the one, `fail` above the other."""
    return "fail" if value > fail else "warn" if value > warn else "fine"


def named(names: Sequence[str]) -> str:
    """The first few names of a list, and how many more there are."""
    beyond = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {beyond} more" if beyond > 0 else "")


def percent(share: float) -> str:
    """Whole percent, but never 0% of something or 100% of less than all."""
    return "<1%" if 0 < share < 0.01 else ">99%" if 0.99 < share < 1 else f"{share:.0%}"
