"""Boxes to choose from: all of some thousand images in flat arrays, no Python object a box.

In: LABEL_ROWs of detections. Out: `BoxPredictions`. Next: `maps.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
import torch

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
from ray_st.tasks.candidates import Candidates
from ray_st.tasks.coco_ap import compare
from ray_st.tasks.nms import hard_choice, soft_choice


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
            with _one_thread():
                row, found = _suppressed(row, found, policy)
        sides_px = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
        is_large = (sides_px >= policy.min_size_px).all(axis=1)
        return cls(rows=rows, row=row, found=found, is_large=is_large)

    @classmethod
    def judged(cls, truths: pa.Table, predictions: pa.Table, policy: PolicyConfig) -> Judged:
        """Compare what NMS and size leave, best score first; see `compare`."""
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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: on tensors this small, threads cost more than they give.

    Soft-NMS of 500 000 boxes: 0.4 s of CPU time with one, 6.2 s with two on a busy machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _suppressed(
    row: np.ndarray, found: Detections, policy: PolicyConfig
) -> tuple[np.ndarray, Detections]:
    """NMS inside each image, class by class; what stands comes best first."""
    scores = found.scores
    if policy.nms == "hard":
        order = np.lexsort((-scores, row))
        candidates = _candidates(row[order], found[order])
        stands = order[hard_choice(candidates, iou=policy.nms_iou, limit=max(1, len(row))).numpy()]
    else:
        stands, scores = _soft(row, found, policy.soft_nms_sigma)
    order = np.lexsort((stands, -scores[stands], row[stands]))
    stands = stands[order]
    return row[stands], replace(found[stands], scores=scores[stands])


def _soft(row: np.ndarray, found: Detections, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of boxes that are left, and all scores (n,), lowered.

    Boxes meet those of their image and class alone. Such groups are lowered side by side, small
    ones apart from large ones, for what stands side by side is padded to the largest.
    """
    pairs = row * (int(found.class_ids.max(initial=0)) + 1) + found.class_ids
    _, group, sizes = np.unique(pairs, return_inverse=True, return_counts=True)
    scores, rank = found.scores.copy(), np.ceil(np.log2(sizes)).astype(np.int64)[group]
    left = [np.flatnonzero(rank == 0)]
    for each in range(1, rank.max(initial=0) + 1):
        mine = np.flatnonzero(rank == each)
        mine = mine[np.lexsort((-found.scores[mine], group[mine]))]
        _, number = np.unique(group[mine], return_inverse=True)
        candidates = _candidates(number, found[mine])
        chosen, lowered = soft_choice(candidates, sigma=sigma, score_floor=0.0, limit=2**each)
        left.append(mine[chosen.numpy()])
        scores[left[-1]] = lowered.numpy()
    return np.concatenate(left), scores


def _candidates(group: np.ndarray, found: Detections) -> Candidates:
    return Candidates(
        image=torch.from_numpy(group),
        boxes_xyxy=torch.from_numpy(found.boxes_xyxy),
        class_ids=torch.from_numpy(found.class_ids.astype(np.int64)),
        scores=torch.from_numpy(found.scores),
    )
