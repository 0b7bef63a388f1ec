"""Classes of images to choose from: of each image, the likeliest.

In: LABEL_ROWs of classes. Out: `ClassPredictions`. Next: `kinds.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa

from ray_st.data.labels import ClassLabel, ragged
from ray_st.data.rows import label_row
from ray_st.labeling.policy.config import PolicyConfig
from ray_st.labeling.policy.tally import (
    SCORE_BITS,
    Judged,
    Tally,
    pseudo_rows,
    scores_of,
    tally_of,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassPredictions:
    """The `Predictions` of classification."""

    rows: pa.Table
    row: np.ndarray  # (n,) of each image that has a class
    class_ids: np.ndarray  # (n,) the likeliest
    scores: np.ndarray  # (n,)

    KEY_BITS: ClassVar[int] = SCORE_BITS

    @classmethod
    def of(cls, rows: pa.Table, policy: PolicyConfig) -> Self:
        """Read LABEL_ROWs."""
        del policy  # nothing goes before thresholds
        class_ids, counts = ragged.together(rows.column("top_class_ids"))
        scores, _ = ragged.together(rows.column("top_scores"))
        row = np.flatnonzero(counts)
        first = (np.cumsum(counts) - counts)[row]
        return cls(rows=rows, row=row, class_ids=class_ids[first], scores=scores[first])

    @classmethod
    def judged(cls, truths: pa.Table, predictions: pa.Table, policy: PolicyConfig) -> Judged:
        """Compare the likeliest class with the truth, where there is one."""
        truth, guess = cls.of(truths, policy), cls.of(predictions, policy)
        ids = truth.rows.column("image_id").to_numpy()[truth.row]
        known = dict(zip(ids.tolist(), truth.class_ids.tolist(), strict=True))
        asked = guess.rows.column("image_id").to_numpy()[guess.row]
        true = np.array([known.get(i, -1) for i in asked.tolist()], np.int64)
        is_known = true >= 0
        right = (true == guess.class_ids)[is_known].astype(np.int64)
        return Judged(
            tally=tally_of(guess.class_ids[is_known], guess.scores[is_known]), right=right
        )

    @staticmethod
    def scores_of(keys: np.ndarray) -> np.ndarray:
        """Keys are the bits of scores."""
        return scores_of(keys)

    @staticmethod
    def counted(rows: pa.Table, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
        """1 for an image with a class, else 0; and how many images each class has."""
        found = ClassPredictions.of(rows, PolicyConfig())
        amounts = np.bincount(found.row, minlength=rows.num_rows).astype(np.float64)
        return amounts, np.bincount(found.class_ids, minlength=num_classes)

    def tally(self) -> Tally:
        """Give the likeliest class of each image."""
        return tally_of(self.class_ids, self.scores)

    def accepted(self, thresholds: np.ndarray, policy: PolicyConfig) -> pa.Table:
        """Keep the likeliest classes; as soft targets all that are stored of the same images."""
        kept = self.scores >= thresholds.astype(np.float32)[self.class_ids]
        row, count = self.row[kept], self.rows.num_rows
        if policy.soft_targets:
            return pseudo_rows(self.rows, self._whole(row), label_row(ClassLabel))
        columns = [
            ragged.apart(values[kept], row, count, field.type.value_type)
            for values, field in zip((self.class_ids, self.scores), ClassLabel.FIELDS, strict=True)
        ]
        return pseudo_rows(self.rows, columns, label_row(ClassLabel))

    def _whole(self, row: np.ndarray) -> list[pa.Array]:
        """All that is stored of these images, and nothing of the others."""
        columns, count = [], self.rows.num_rows
        for field in ClassLabel.FIELDS:
            values, counts = ragged.together(self.rows.column(field.name))
            entries = np.repeat(np.arange(count), counts)
            kept = np.isin(entries, row)
            columns.append(ragged.apart(values[kept], entries[kept], count, field.type.value_type))
        return columns
