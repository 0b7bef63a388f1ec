"""What a plan assumes, each of it said in the end.

In: the `assume:` section. Out: `AssumeConfig`. Next: `rates.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_st.config import require


@dataclass(frozen=True, kw_only=True)
class AssumeConfig:
    """What cannot be measured here."""

    node_start_s: float = 240.0
    """From asking for a node until Ray runs on it: those beyond min_workers, and replacements."""
    interruptions_per_hour: float = 0.05
    """How often an hour a spot node is taken away."""
    driver_blocks_per_s: float = 40.0
    """Blocks that the one driver of a labelling hands on; 35 to 45 on two busy cores."""
    network_gbit: float = 10.0
    """Between two nodes, for the gradients of training."""
    seed: int = 0
    """Of the interruptions."""

    def __post_init__(self) -> None:
        for name in ("node_start_s", "interruptions_per_hour", "seed"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"assume.{name}", "0 or more, and finite", value)
        for name in ("driver_blocks_per_s", "network_gbit"):
            require(getattr(self, name) > 0, f"assume.{name}", "above 0", getattr(self, name))
