"""Whether a file's boxes are what a detector's rules allow, where two of them are as good as tied.

In: boxes of one image as a file gave them, the model's own candidates. Out: the largest
differences, or `DisagreementError`. Next: `agreement.py`.

Suppression takes the best box first. Where two scores differ by rounding, or an overlap lies on the
threshold, either choice is right, and what follows from it too. So the file's boxes are taken one
after another, and each must be a candidate that the rules, with that much slack, let be next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ray_st.tasks.detection import DetectConfig

_IOU_SLACK = 1e-3


class DisagreementError(ValueError):
    """A file's results are not the model's; one line that says which."""


@dataclass(frozen=True, kw_only=True)
class Close:
    """How far apart two numbers may be that count as one."""

    scores: float
    boxes_px: float


@dataclass(frozen=True, kw_only=True)
class Found:
    """Boxes of one image, best first."""

    boxes_xyxy: np.ndarray  # float32 (n, 4), view pixels
    class_ids: np.ndarray  # int (n,)
    scores: np.ndarray  # float32 (n,)

    def __len__(self) -> int:
        return len(self.scores)

    def apart(self, one: Found, i: int) -> tuple[np.ndarray, np.ndarray]:
        """How far box i of another lies from each of these: scores, and pixels at most."""
        boxes_px = np.abs(self.boxes_xyxy - one.boxes_xyxy[i]).max(axis=1, initial=0)
        return np.abs(self.scores - one.scores[i]), boxes_px


def paired(found: Found, expected: Found, close: Close) -> tuple[float, float] | None:
    """Largest differences of scores and pixels between two sets of boxes; None for other sets."""
    if len(found) != len(expected):
        return None
    is_free, worst = np.ones(len(expected), bool), (0.0, 0.0)
    for i in range(len(found)):
        at = _nearest(expected, found, i, is_free, close)
        if at is None:
            return None
        is_free[at] = False
        worst = _further(worst, expected, found, i, at)
    return worst


def replayed(
    found: Found, pool: Found, is_extra: np.ndarray, detect: DetectConfig, close: Close
) -> tuple[float, float]:
    """Largest differences of scores and pixels between a file's boxes and the candidates they are.

    Args:
        found: the file's boxes.
        pool: the model's candidates.
        is_extra: bool (n,), those that a limit or the floor would leave out by a hair, perhaps.
        detect: the rules.
        close: what counts as one number.
    """
    now = Found(
        boxes_xyxy=pool.boxes_xyxy.astype(np.float64),
        class_ids=pool.class_ids,
        scores=pool.scores.astype(np.float64),
    )
    is_free, is_due, worst = np.ones(len(pool), bool), ~is_extra, (0.0, 0.0)
    for i in range(len(found)):
        at = _nearest(now, found, i, is_free, close)
        if at is None:
            raise DisagreementError(f"{_named(found, i)} is not one of the model's boxes")
        worst = _further(worst, now, found, i, at)
        _require_none_due(now, is_due & (now.scores > now.scores[at] + 2 * close.scores))
        is_free[at] = is_due[at] = False
        overlap = np.where(now.class_ids == now.class_ids[at], _iou(now.boxes_xyxy, at), 0.0)
        if detect.nms == "hard":
            is_free &= overlap <= detect.nms_iou + _IOU_SLACK
            is_due &= overlap <= detect.nms_iou - _IOU_SLACK
        else:
            now.scores[:] *= np.exp(overlap**2 * (-0.5 / detect.soft_nms_sigma))
    if len(found) < detect.max_detections:
        _require_none_due(now, is_due & (now.scores > detect.score_floor + close.scores))
    return worst


def _require_none_due(pool: Found, is_due: np.ndarray) -> None:
    if is_due.any():
        raise DisagreementError(f"{_named(pool, int(np.argmax(is_due)))} is missing")


def _nearest(pool: Found, found: Found, i: int, is_free: np.ndarray, close: Close) -> int | None:
    """Index of the free box that box i of `found` is, None for none."""
    scores, boxes_px = pool.apart(found, i)
    fits = is_free & (pool.class_ids == found.class_ids[i])
    fits &= (scores <= close.scores) & (boxes_px <= close.boxes_px)
    apart = np.where(fits, scores / close.scores + boxes_px / close.boxes_px, np.inf)
    return int(apart.argmin()) if fits.any() else None


def _further(
    worst: tuple[float, float], pool: Found, found: Found, i: int, at: int
) -> tuple[float, float]:
    scores, boxes_px = pool.apart(found, i)
    return max(worst[0], float(scores[at])), max(worst[1], float(boxes_px[at]))


def _named(found: Found, i: int) -> str:
    box = ", ".join(f"{side:.2f}" for side in found.boxes_xyxy[i])
    return f"a box of class id {found.class_ids[i]}, score {found.scores[i]:.4f}, at [{box}]"


def _iou(boxes: np.ndarray, at: int) -> np.ndarray:
    one = boxes[at]
    sides = np.minimum(boxes[:, 2:], one[2:]) - np.maximum(boxes[:, :2], one[:2])
    shared = sides.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = areas + areas[at] - shared
    iou: np.ndarray = shared / union.clip(min=1e-12)
    return iou
