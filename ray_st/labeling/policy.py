"""From raw predictions to pseudo labels: a view over the store that costs no accelerator.

In: LABEL_ROWs with every prediction above the floor. Out: LABEL_ROWs with those worth learning
from. Next: `actor.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_st.config import require
from ray_st.data.labels import Labels, Origin
from ray_st.data.rows import kind_of, pack, unpack

_ROWS_AT_ONCE = 256


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
    return pa.concat_tables(_accepted(part, policy) for part in _parts(raw)).combine_chunks()


def _accepted(raw: pa.Table, policy: PolicyConfig) -> pa.Table:
    sizes = zip(
        raw.column("height_px").to_pylist(), raw.column("width_px").to_pylist(), strict=True
    )
    return pack(
        image_ids=raw.column("image_id").to_pylist(),
        uris=raw.column("uri").to_pylist(),
        sizes_hw=list(sizes),
        labels=[one.above(policy.score_threshold) for one in unpack(raw)],
        origin=Origin.PSEUDO,
        kind=kind_of(raw.schema),
    )


def pool_facts(pseudo: pa.Table, human: pa.Table) -> dict[str, float | int]:
    """What to look at before training on pseudo labels: how much they label, beside people."""
    kind = kind_of(pseudo.schema)
    assert kind is not None
    amounts = _amounts(pseudo)
    return {
        "images": len(amounts),
        kind.AMOUNT: _mean(amounts),
        **human_fact(human, kind),
        "empty_share": _mean(amounts == 0),
    }


def human_fact(human: pa.Table, kind: type[Labels]) -> dict[str, float | int]:
    """How much people label, under the name that it has among the facts of a pool."""
    return {f"human_{kind.AMOUNT}": _mean(_amounts(human))}


def _amounts(table: pa.Table) -> np.ndarray:
    return np.array([one.amount() for part in _parts(table) for one in unpack(part)])


def _parts(table: pa.Table) -> Iterator[pa.Table]:
    """Some rows at a time, one part at least: the open class maps of a whole pool would not fit."""
    starts = range(0, max(1, table.num_rows), _ROWS_AT_ONCE)
    return (table.slice(start, _ROWS_AT_ONCE) for start in starts)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
