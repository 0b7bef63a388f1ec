"""Boxes suppress each other, image by image and class by class.

In: the boxes of some thousand images in flat arrays. Out: those that are left. Next: `boxes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from ray_st.data.labels import Detections
from ray_st.labeling.policy.config import PolicyConfig
from ray_st.tasks.candidates import Candidates
from ray_st.tasks.nms import hard_choice, soft_choice


def suppressed(
    row: np.ndarray, found: Detections, policy: PolicyConfig
) -> tuple[np.ndarray, Detections]:
    """NMS inside each image, class by class; what stands comes best first.

    `row` (n,) is the image of each box.
    """
    with _one_thread():
        scores = found.scores
        if policy.nms == "hard":
            order = np.lexsort((-scores, row))
            candidates, limit = _candidates(row[order], found[order]), max(1, len(row))
            stands = order[hard_choice(candidates, iou=policy.nms_iou, limit=limit).numpy()]
        else:
            stands, scores = _soft(row, found, policy.soft_nms_sigma)
    order = np.lexsort((stands, -scores[stands], row[stands]))
    stands = stands[order]
    return row[stands], replace(found[stands], scores=scores[stands])


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
