"""What a tracker is, and what it is told.

In: rows of metrics.jsonl. Out: `Tracker`, `Tracked`, and the numbers of a row. Next:
`tensorboard.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

PROJECT = "ray_st"  # where WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME does not say another


class Tracker(Protocol):
    """Whoever is told."""

    def put(self, step: int, scalars: Mapping[str, float]) -> None:
        """Take the numbers of a step."""

    def flush(self) -> None:
        """See to it that what was put outlives this process."""

    def close(self) -> None:
        """Nothing more comes."""


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """What trackers know of a run."""

    out: str  # its folder or bucket
    run_id: str  # the same on every start
    begun_at: int  # steps done before this start
    recipe: Mapping[str, Any]


def scalars(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a row of metrics.jsonl, but its step; those of a part are PART/NAME."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and name != "step":
            found |= {f"{prefix}{name}": float(value)} if math.isfinite(value) else {}
    return found
