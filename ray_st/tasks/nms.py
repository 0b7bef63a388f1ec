"""Non-maximum suppression: of boxes of one class that overlap, the best counts.

In: `Candidates`. Out: those that stand, at most `limit` an image, best first, with their final
scores. Source: paper.md 5.4. Next: `focal.py`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torchvision.ops import nms

from ray_st.tasks.candidates import Candidates, best_first, ranks

_LEAST_AREA = 1e-12  # so that nothing over nothing is 0
_FIRST_LOOK = 4  # times `limit`: so many candidates often hold all that will stand


def hard_nms(found: Candidates, *, iou: float, limit: int) -> Candidates:
    """Drop each box whose IoU with a better box that stands, of its class, exceeds `iou`."""
    return found[hard_choice(found, iou=iou, limit=limit)]


def hard_choice(found: Candidates, *, iou: float, limit: int) -> Int64[Tensor, " k"]:
    """Indices of what `hard_nms` keeps, in its order."""
    # Classes are moved apart, so that one call serves all; float64 keeps the IoU exact out there.
    boxes, scores = found.boxes_xyxy.double(), found.scores.double()
    apart = boxes.max() + 1 if len(found) else 0.0
    boxes = boxes + (found.class_ids * apart)[:, None]
    standing, start = [found.image[:0]], 0
    for count in torch.bincount(found.image).tolist():
        end = start + count
        standing.append(start + _standing(boxes[start:end], scores[start:end], iou, limit))
        start = end
    return torch.cat(standing)


def _standing(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], iou: float, limit: int
) -> Int64[Tensor, " k"]:
    """Indices of the first `limit` that stand; boxes come best first.

    A box is judged by better ones only, so a look at the first few is final for these.
    """
    size = _FIRST_LOOK * limit
    while True:
        standing: Tensor = nms(boxes[:size], scores[:size], iou)[:limit]
        if len(standing) == limit or size >= len(boxes):
            return standing
        size *= _FIRST_LOOK


def soft_nms(found: Candidates, *, sigma: float, score_floor: float, limit: int) -> Candidates:
    """Lower the score of each box by every better one of its class: * exp(-IoU^2 / (2 sigma)).

    Greedy, the best of what is left first, until `limit` are taken or all scores are at or below
    `score_floor`; a score is final when its box is taken. `sigma` is TensorFlow's, as in the
    authors' code: 0.3 decays by exp(-IoU^2 / 0.6), which the Soft-NMS paper calls sigma 0.6.
    """
    chosen, final = soft_choice(found, sigma=sigma, score_floor=score_floor, limit=limit)
    return replace(found[chosen], scores=final)


def soft_choice(
    found: Candidates, *, sigma: float, score_floor: float, limit: int
) -> tuple[Int64[Tensor, " k"], Float[Tensor, " k"]]:
    """Indices of what `soft_nms` takes, in its order, and their scores."""
    if not len(found):
        return found.image, found.scores
    # One row an image. Classes share `limit` places, so taking the best of all classes each time
    # is the rule of class after class, less the boxes that the places would cut anyway.
    place = ranks(found.image)
    shape = (int(found.image[-1]) + 1, int(place.max()) + 1)

    def rows(values: Tensor, padding: float) -> Tensor:
        return values.new_full(shape, padding).index_put_((found.image, place), values)

    sides = [rows(side, 0) for side in found.boxes_xyxy.unbind(1)]
    class_ids, scores = rows(found.class_ids, -1), rows(found.scores, 0)
    index = rows(torch.arange(len(found), device=place.device), 0)
    taken = [(index[:0, 0], scores[:0, 0])]
    for _ in range(min(limit, shape[1])):
        score, at = scores.max(dim=1, keepdim=True)
        is_taken = score > score_floor
        if not is_taken.any():
            break
        taken.append((index.gather(1, at)[is_taken], score[is_taken]))
        iou = _iou_with(sides, at).mul_(class_ids == class_ids.gather(1, at))
        scores.mul_(iou.square_().mul_(-0.5 / sigma).exp_()).scatter_(1, at, 0)
    chosen, final = (torch.cat(values) for values in zip(*taken, strict=True))
    order = best_first(found.image[chosen], final)
    return chosen[order], final[order]


def _iou_with(sides: list[Tensor], at: Int64[Tensor, "b 1"]) -> Float[Tensor, "b n"]:
    """IoU of all boxes of a row with one of them; 0 on padding, which has no area."""
    left, top, right, bottom = sides
    x0, y0, x1, y1 = (side.gather(1, at) for side in sides)
    shared = (torch.minimum(right, x1) - torch.maximum(left, x0)).clamp_(min=0)
    shared *= (torch.minimum(bottom, y1) - torch.maximum(top, y0)).clamp_(min=0)
    areas = (right - left) * (bottom - top)
    return shared / (areas + (x1 - x0) * (y1 - y0) - shared).clamp_(min=_LEAST_AREA)
