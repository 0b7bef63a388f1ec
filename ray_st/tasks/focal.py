"""Focal loss of a detector's classes, without a one-hot tensor.

In: logits of all anchors, and which anchor answers for which class. Out: a sum an image.
Source: paper.md 5.3. Next: `detection.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float, Int64
from torch import Tensor

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 1.5


def focal_sums(
    class_logits: Float[Tensor, "b a k"],
    image: Int64[Tensor, " p"],
    anchor: Int64[Tensor, " p"],
    class_ids: Int64[Tensor, " p"],
    spared: Bool[Tensor, "b a"] | None = None,
    *,
    alpha: float = FOCAL_ALPHA,
    gamma: float = FOCAL_GAMMA,
) -> Float[Tensor, " b"]:
    """Sum the focal loss of each image; positives are given as (image, anchor, class) triples.

    First all logits as negatives, then the few positives put right: no one-hot tensor is built.
    Anchors that are `spared` must not be positives; they cost nothing.
    """
    positive = class_logits[image, anchor, class_ids]
    right = alpha * _focal_negative(-positive, gamma)  # yes at x costs what no costs at -x
    wrong = (1 - alpha) * _focal_negative(positive, gamma)
    costs = _focal_negative(class_logits, gamma)
    if spared is None:
        negatives = costs.sum(dim=(1, 2))
    else:
        negatives = costs.sum(dim=2).masked_fill(spared, 0.0).sum(dim=1)
    return ((1 - alpha) * negatives).index_add(0, image, right - wrong)


def _focal_negative(logits: Tensor, gamma: float) -> Tensor:
    # p^gamma * -log(1 - p) with -log(1 - p) = softplus(x) and log p = x - softplus(x): exact at
    # both ends, and without pow, whose gradient at 0 is not.
    cost = F.softplus(logits)
    return torch.exp(gamma * (logits - cost)) * cost
