"""What to look at before training on pseudo labels: how much they label, and of what.

In: accepted rows, whole or a part at a time, perhaps beside the raw ones. Out: figures.
Next: `../stored.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ray_st.data.labels import Labels
from ray_st.labeling.policy.choice import Choice
from ray_st.labeling.policy.kinds import PREDICTIONS_OF, parts_of

HISTOGRAM_BINS = 20


def human_fact(human: pa.Table, kind: type[Labels], classes: Sequence[str]) -> dict[str, Any]:
    """How much people label, and of what, under the names of these among the facts of a pool."""
    amount, per_class = 0.0, np.zeros(len(classes), np.int64)
    for part in parts_of(human):
        amounts, counts = PREDICTIONS_OF[kind].counted(part, len(classes))
        amount += float(amounts.sum())
        per_class += counts
    return {
        f"human_{kind.AMOUNT}": amount / max(1, human.num_rows),
        "human_labels_per_class": dict(zip(classes, per_class.tolist(), strict=True)),
    }


@dataclass(kw_only=True, eq=False)
class Summed:
    """The same facts, and more, of a pool that passes by in parts."""

    choice: Choice
    images: int = 0
    empty: int = 0
    amount: float = 0.0
    per_class: np.ndarray = field(init=False)
    histogram: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.per_class = np.zeros(len(self.choice.classes), np.int64)
        self.histogram = np.zeros(HISTOGRAM_BINS, np.int64)

    def accept(self, raw: pa.Table) -> pa.Table:
        """Choose from one part, and count; each part of a pool must pass here once."""
        predictions = self.choice.predictions(raw)
        accepted = predictions.accepted(self.choice.thresholds, self.choice.policy)
        amounts, per_class = predictions.counted(accepted, len(self.per_class))
        self.images += len(amounts)
        self.empty += int((amounts == 0).sum())
        self.amount += float(amounts.sum())
        self.per_class += per_class
        tally = predictions.tally()
        bins = (predictions.scores_of(tally.keys) * HISTOGRAM_BINS).astype(np.int64)
        self.histogram += np.bincount(
            bins.clip(max=HISTOGRAM_BINS - 1), weights=tally.counts, minlength=HISTOGRAM_BINS
        ).astype(np.int64)
        return accepted

    def facts(self) -> dict[str, Any]:
        """How much is labelled, of each class too, and all raw scores."""
        count = max(1, self.images)
        per_class = zip(self.choice.classes, self.per_class.tolist(), strict=True)
        return {
            "images": self.images,
            self.choice.kind.AMOUNT: self.amount / count,
            "empty_share": self.empty / count,
            "labels_per_class": dict(per_class),
            # Of the predictions before thresholds, in equal bins from 0 to 1.
            "score_histogram": self.histogram.tolist(),
        }
