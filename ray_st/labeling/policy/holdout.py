"""Thresholds that a hold-out vouches for: each class's lowest with the precision asked for.

In: the truth of some images, and the teacher's raw predictions on them. Out: a score a class.
Next: `choice.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from ray_st.labeling.policy.config import PolicyConfig
from ray_st.labeling.policy.tally import Judged, Predictions


@dataclass(frozen=True, kw_only=True, eq=False)
class Holdout:
    """Images whose truth is known, and what the teacher sees on them."""

    truths: pa.Table  # LABEL_ROWs
    predictions: pa.Table  # LABEL_ROWs, raw
    # The teacher's, 0..100, where somebody measured it; the first ranks models.
    figures: Mapping[str, float | None] = field(default_factory=dict)


def reaching(
    holdout: Holdout, kind: type[Predictions], policy: PolicyConfig, num_classes: int
) -> Float[np.ndarray, " k"]:
    """Lowest threshold of each class with the precision asked for; infinity where there is none.

    The precision of a threshold is the share that is right of all predictions of the class that
    reach it. It need not grow with the threshold; the lowest that has it keeps the most.
    """
    assert policy.target_precision is not None
    judged = kind.judged(holdout.truths, holdout.predictions, policy)
    keys = [_lowest(judged, k, policy.target_precision) for k in range(num_classes)]
    scores = kind.scores_of(np.array(keys, np.int64).clip(0))
    return np.where(np.array(keys, np.int64) >= 0, scores, np.inf)


def _lowest(judged: Judged, class_id: int, precision: float) -> int:
    """Key of the lowest threshold, or -1."""
    mine = judged.tally.class_ids == class_id
    keys, at = np.unique(judged.tally.keys[mine], return_inverse=True)
    if not len(keys):
        return -1
    # Counts of what reaches each key.
    right, every = (
        np.bincount(at, weights=values[mine])[::-1].cumsum()[::-1]
        for values in (judged.right, judged.tally.counts)
    )
    enough = np.flatnonzero(right / every >= precision)
    return int(keys[enough[0]]) if len(enough) else -1
