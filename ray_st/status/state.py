"""What can be known of a run from outside.

In: nothing. Out: `Stage`, `Run`. Times are seconds of the epoch. Next: `values.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["waiting", "running", "stopped", "done"]
"""stopped: begun, not done, and nobody works on it; the same command goes on."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The last that a training can go on from."""

    step: int
    saved_at_s: float


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of a run; None is what cannot be known."""

    name: str
    unit: str  # steps, images
    done: int | None = None
    total: int | None = None
    failed: int | None = None  # of those done
    per_s: float | None = None
    left_s: float | None = None
    note: str = ""
    checkpoint: Checkpoint | None = None
    warnings: tuple[str, ...] = ()
    moved_at_s: float | None = None
    begun: bool = False
    ended: bool = False
    state: State = "waiting"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A whole folder."""

    uri: str
    verb: str
    state: State
    holder: str | None  # HOST:PID of who works on it
    stages: tuple[Stage, ...]

    @property
    def moved_at_s(self) -> float | None:
        """When it last got any further."""
        return max((each.moved_at_s for each in self.stages if each.moved_at_s), default=None)
