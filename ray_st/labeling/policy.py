"""From raw predictions to pseudo labels: a view over the store that costs no accelerator.

In: LABEL_ROWs with every prediction above the floor. Out: LABEL_ROWs with those worth learning
from. Next: `training`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_st.config import require
from ray_st.data.labels import Origin
from ray_st.data.rows import kind_of, pack, unpack


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which raw predictions become pseudo labels."""

    score_threshold: float = 0.5
    """Lowest score of a pseudo label, 0..1 (the paper: 0.5)."""

    def __post_init__(self) -> None:
        require(
            0 <= self.score_threshold <= 1,
            "policy.score_threshold",
            "in [0, 1]",
            self.score_threshold,
        )


def pseudo_labels(raw: pa.Table, policy: PolicyConfig) -> pa.Table:
    """Keep the predictions that the policy accepts; images that keep none stay, as empty ones."""
    kept = [one.above(policy.score_threshold) for one in unpack(raw)]
    sizes = zip(
        raw.column("height_px").to_pylist(), raw.column("width_px").to_pylist(), strict=True
    )
    return pack(
        image_ids=raw.column("image_id").to_pylist(),
        uris=raw.column("uri").to_pylist(),
        sizes_hw=list(sizes),
        labels=kept,
        origin=Origin.PSEUDO,
        kind=kind_of(raw.schema),
    )


def pool_facts(pseudo: pa.Table, human: pa.Table) -> dict[str, float | int]:
    """What to look at before training on pseudo labels: how much they label, beside people."""
    kind = kind_of(pseudo.schema)
    assert kind is not None
    amounts = np.array([one.amount() for one in unpack(pseudo)])
    human_amounts = np.array([one.amount() for one in unpack(human)])
    return {
        "images": len(amounts),
        kind.AMOUNT: _mean(amounts),
        f"human_{kind.AMOUNT}": _mean(human_amounts),
        "empty_share": _mean(amounts == 0),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
