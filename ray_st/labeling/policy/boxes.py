"""Boxes to choose from: all of some thousand images in flat arrays, no Python object a box.

In: LABEL_ROWs of detections. Out: `BoxPredictions`. Next: `maps.py`.

Loading processes choose too: torch is imported where boxes suppress each other, and only then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa

from ray_st.data.labels import Detections
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
class BoxPredictions:
    """The `Predictions` of detection."""

    rows: pa.Table
    row: np.ndarray  # (n,) of each box; never falls
    found: Detections  # all boxes as one
    is_large: np.ndarray  # (n,)

    KEY_BITS: ClassVar[int] = SCORE_BITS

    @classmethod
    def of(cls, rows: pa.Table, policy: PolicyConfig) -> Self:
        """Read LABEL_ROWs, and suppress if `policy.nms` says so."""
        row, found = Detections.together(rows)
        if policy.nms != "none":
            from ray_st.labeling.policy.suppression import suppressed

            row, found = suppressed(row, found, policy)
        sides_px = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
        is_large = (sides_px >= policy.min_size_px).all(axis=1)
        return cls(rows=rows, row=row, found=found, is_large=is_large)

    @classmethod
    def judged(cls, truths: pa.Table, predictions: pa.Table, policy: PolicyConfig) -> Judged:
        """Compare what NMS and size leave, best score first; see `compare`."""
        from ray_st.tasks.coco_ap import compare

        left = cls.of(predictions, policy)
        columns = left.found[left.is_large].apart(left.row[left.is_large], predictions.num_rows)
        seen = compare(truths, pseudo_rows(predictions, columns, label_row(Detections)))
        guess = seen.guess[seen.judged]
        return Judged(
            tally=tally_of(guess.class_ids, guess.scores),
            right=seen.right[seen.judged].astype(np.int64),
        )

    @staticmethod
    def scores_of(keys: np.ndarray) -> np.ndarray:
        """Keys are the bits of scores."""
        return scores_of(keys)

    @staticmethod
    def counted(rows: pa.Table, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Count boxes of each image and of each class; crowd regions are none."""
        row, found = Detections.together(rows)
        is_box = ~found.is_crowd
        amounts = np.bincount(row[is_box], minlength=rows.num_rows).astype(np.float64)
        return amounts, np.bincount(found.class_ids[is_box], minlength=num_classes)

    def tally(self) -> Tally:
        """Give all boxes that are large enough."""
        return tally_of(self.found.class_ids[self.is_large], self.found.scores[self.is_large])

    def accepted(self, thresholds: np.ndarray, policy: PolicyConfig) -> pa.Table:
        """Keep boxes; those that `ignore_from` spares become crowd regions."""
        scores = self.found.scores
        kept = self.is_large & (scores >= thresholds.astype(np.float32)[self.found.class_ids])
        if policy.max_per_image is not None:
            among = np.flatnonzero(kept)
            place = _places(self.row[among], scores[among])
            kept[among[place >= policy.max_per_image]] = False
        is_crowd, stays = self.found.is_crowd, kept
        if policy.ignore_from is not None:
            stays = kept | (scores >= np.float32(policy.ignore_from))
            is_crowd = is_crowd | ~kept
        chosen = replace(self.found, is_crowd=is_crowd)[stays]
        columns = chosen.apart(self.row[stays], self.rows.num_rows)
        return pseudo_rows(self.rows, columns, label_row(Detections))


def _places(row: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Place of each box in its image, 0 for the best; of equal ones the first stands first."""
    order = np.lexsort((-scores, row))
    places = np.empty(len(row), np.int64)
    places[order] = np.arange(len(row)) - np.searchsorted(row, row)  # rows never fall
    return places
