"""Soft targets: what a teacher's kept probabilities say of all classes, and the loss against them.

In: labels that are soft. Out: probabilities, and the cross entropy with them. Source: Noisy Student
(Xie et al., 2020), soft pseudo labels. Next: `segmentation.py`.

Kept are some classes of an image, and one of a pixel. What is left of the probability is spread
evenly over the other classes: of all distributions that agree with what is known, that of greatest
entropy. None of them gets more than the least that was kept, else it would have been kept too;
where the sum is then not 1 (scores were rounded, classes were dropped), all are divided by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from ray_st.data.labels import IGNORE, ClassLabel, SegmentationMap

_SURE = 255  # confidence of a hard label


def class_probabilities(
    labels: Sequence[ClassLabel], num_classes: int
) -> Float32[np.ndarray, "b k"]:
    """Probabilities of all classes: 1 for the class of a hard label, all 0 without any class."""
    found = np.zeros((len(labels), num_classes), np.float32)
    for row, one in zip(found, labels, strict=True):
        if one.is_soft:
            row[:] = _of_all(one.top_class_ids, one.top_scores.astype(np.float64), num_classes)
        elif one.amount():
            row[one.top_class_ids] = 1
    return found


def _of_all(class_ids: np.ndarray, scores: np.ndarray, num_classes: int) -> np.ndarray:
    others = num_classes - len(class_ids)
    left = max(0.0, 1 - scores.sum())
    shares = np.full(num_classes, min(left / others, scores.min()) if others else 0.0)
    shares[class_ids] = scores
    total = shares.sum()
    return shares / total if total > 0 else np.full(num_classes, 1 / num_classes)


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftMaps:
    """Class maps of a batch, and how likely the class of each pixel is."""

    class_map: UInt8[Tensor, "b y x"]  # class ids, or IGNORE
    confidence: UInt8[Tensor, "b y x"]  # as `SegmentationMap.confidence`; 255 in hard labels

    @classmethod
    def of(cls, class_map: UInt8[Tensor, "b y x"], labels: Sequence[SegmentationMap]) -> SoftMaps:
        """Put the confidences of a batch beside its maps."""
        confidence = np.full(tuple(class_map.shape), _SURE, np.uint8)
        for i, one in enumerate(labels):
            if one.confidence is not None and one.confidence.size:
                confidence[i] = one.confidence
        moved = torch.from_numpy(confidence).to(class_map.device, non_blocking=True)
        return cls(class_map=class_map, confidence=moved)


def soft_cost(
    outputs: Float32[Tensor, "b k h w"],
    class_map: Int64[Tensor, "b h w"],
    confidence: Int64[Tensor, "b h w"],
) -> Float32[Tensor, "b h w"]:
    """Cross entropy of every pixel with its probabilities; 0 where it is ignored.

    Two numbers a pixel stand for the probabilities of all classes, which are never spelled out.
    """
    num_classes = outputs.shape[1]
    is_known = class_map != IGNORE
    # The others get no more than the likeliest has: so it has its even share at least.
    share = (confidence / _SURE).clamp(min=1 / num_classes)
    other = (1 - share) / max(1, num_classes - 1)
    logs = outputs.log_softmax(dim=1)
    own = logs.gather(1, torch.where(is_known, class_map, 0)[:, None])[:, 0]
    cost = -(share * own + other * (logs.sum(dim=1) - own))
    return torch.where(is_known, cost, 0.0)
