"""What the loss of a fresh head must be, where a formula says it.

In: what a model gave before its first step, and its targets. Out: `StartLoss`. A head that starts
at random knows nothing: its loss depends on the number of classes, and of positives, alone. Next:
`memory.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from ray_st.data.labels import ClassLabel, Detections, Labels, SegmentationMap
from ray_st.selftraining.checkup.finding import Finding
from ray_st.tasks.focal import FOCAL_ALPHA, FOCAL_GAMMA
from ray_st.tasks.task import LossSums

PRIOR = 0.01  # of every class of every anchor, by the head's bias
_FAR_OFF = 1.5  # times as much, or as little


@dataclass(frozen=True, kw_only=True)
class StartLoss:
    """The loss of the classes before the first step, as it is and as it should be."""

    found: float
    expected: float


def start_loss(kind: type[Labels], outputs: Any, sums: LossSums, is_valid: Tensor) -> StartLoss:
    """Compare with the formula of a kind of labels; images that cannot be read do not count."""
    count = float(sums.counts[is_valid].sum())
    found = float(sums.part_means(is_valid)["class"])
    return StartLoss(found=found, expected=_EXPECTED[kind](outputs, count, int(is_valid.sum())))


def _of_boxes(outputs: Any, positives: float, images: int) -> float:
    """Focal loss of anchors that all say `PRIOR`, over the positives plus 1."""
    _, anchors, classes = outputs.class_logits.shape
    no = (1 - FOCAL_ALPHA) * math.pow(PRIOR, FOCAL_GAMMA) * -math.log(1 - PRIOR)
    yes = FOCAL_ALPHA * math.pow(1 - PRIOR, FOCAL_GAMMA) * -math.log(PRIOR)
    negatives = images * int(anchors) * int(classes) - positives
    return (negatives * no + positives * yes) / (positives + 1)


def _of_classes(outputs: Any, count: float, images: int) -> float:
    """Cross entropy of classes that are all equally likely."""
    del images
    return math.log(int(outputs.shape[1])) if count else 0.0


_EXPECTED: Final[Mapping[type[Labels], Callable[[Any, float, int], float]]] = {
    Detections: _of_boxes,
    SegmentationMap: _of_classes,
    ClassLabel: _of_classes,
}


def as_expected(loss: StartLoss) -> list[Finding]:
    """Say how far the first loss is from what it must be."""
    numbers = {"loss": loss.found, "expected": loss.expected}
    said = f"the loss of the classes starts at {loss.found:.3g}, a fresh head's at "
    said += f"{loss.expected:.3g}"
    low, high = sorted((loss.found, loss.expected))
    if high <= _FAR_OFF * low:
        return [Finding(severity="fine", where="model", what=said, numbers=numbers)]
    return [
        Finding(
            severity="warn",
            where="model",
            what=f"{said}: far off",
            move="check init.mean and init.std, and whether the weights are of this backbone",
            numbers=numbers,
        )
    ]
