"""A detector's boxes in operations of fixed shapes, which a graph can hold.

In: `Outputs` and anchors of a batch. Out: `max_detections` rows an image, best first, zeros behind.
The rules are those of `tasks/candidates.py` and `tasks/nms.py`, which choose the same boxes in less
time, in shapes that depend on the boxes. Next: `replay.py`.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ray_st.models.retinanet import ANCHORS_PER_LOCATION, Outputs
from ray_st.tasks.anchors import decode
from ray_st.tasks.candidates import MIN_SIDE_PX
from ray_st.tasks.detection import DetectConfig

_LEAST_AREA = 1e-12  # so that nothing over nothing is 0


class Scored(NamedTuple):
    """n boxes an image; a score of 0 stands for no box."""

    boxes_xyxy: Tensor  # float32 (b, n, 4), view pixels
    class_ids: Tensor  # int64 (b, n)
    scores: Tensor  # float32 (b, n)


def candidates(outputs: Outputs, anchors: Tensor, side_px: int, detect: DetectConfig) -> Scored:
    """Boxes that suppression chooses from: the best of each image, level or class.

    They stand in the order of anchors, then classes, which decides between equal scores.
    """
    logits, num_classes = outputs.class_logits, outputs.class_logits.shape[2]
    spot = torch.cat(_leading(outputs, detect), dim=1).sort(dim=1).values
    anchor, class_ids = spot // num_classes, spot % num_classes
    scores = logits.flatten(1).gather(1, spot).sigmoid()
    codes = outputs.box_codes.gather(1, anchor[..., None].expand(-1, -1, 4))
    boxes = decode(codes, anchors[anchor]).clamp(0, side_px)
    least_side = (boxes[..., 2:] - boxes[..., :2]).amin(dim=-1)
    counts = (least_side >= MIN_SIDE_PX) & (scores > detect.score_floor)
    return Scored(boxes, class_ids, torch.where(counts, scores, 0.0))


def _leading(outputs: Outputs, detect: DetectConfig) -> list[Tensor]:
    """Where the candidates stand in each image's flat logits: anchor * classes + class."""
    logits, limit = outputs.class_logits, detect.max_candidates
    num_anchors, num_classes = logits.shape[1], logits.shape[2]
    if detect.candidates == "class":
        anchor = logits.topk(min(limit, num_anchors), dim=1).indices
        return [(anchor * num_classes + torch.arange(num_classes)).flatten(1)]
    if detect.candidates == "image":
        return [_leading_spots(logits, limit)]
    sizes = [ANCHORS_PER_LOCATION * height * width for height, width in outputs.feature_sizes]
    starts = accumulate(sizes[:-1], initial=0)
    parts = torch.split(logits, sizes, dim=1)
    return [
        _leading_spots(part, limit) + start * num_classes
        for part, start in zip(parts, starts, strict=True)
    ]


def _leading_spots(logits: Tensor, limit: int) -> Tensor:
    num_anchors, num_classes = logits.shape[1], logits.shape[2]
    # An anchor that `limit` others surpass holds no candidate.
    anchor = logits.amax(dim=2).topk(min(limit, num_anchors), dim=1).indices
    rows = logits.gather(1, anchor[..., None].expand(-1, -1, num_classes)).flatten(1)
    best = rows.topk(min(limit, min(limit, num_anchors) * num_classes), dim=1).indices
    return anchor.gather(1, best // num_classes) * num_classes + best % num_classes


def chosen(found: Scored, detect: DetectConfig) -> Scored:
    """Take the best box of each image, lower those of its class that overlap it, and so on.

    Ends after `max_detections` boxes, or when no image has one above the floor.
    """
    boxes, class_ids, scores = found
    limit, floor, is_hard = detect.max_detections, detect.score_floor, detect.nms == "hard"
    slots = torch.arange(limit)

    def goes_on(step: Tensor, scores: Tensor, places: Tensor, kept: Tensor) -> Tensor:
        del places, kept
        return (step < limit) & (scores.max() > floor)

    def take(
        step: Tensor, scores: Tensor, places: Tensor, kept: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        score, at = scores.max(dim=1, keepdim=True)
        score = torch.where(score > floor, score, 0.0)
        is_rival = class_ids == class_ids.gather(1, at)
        iou = torch.where(is_rival, _iou_with(boxes, at), 0.0)
        if is_hard:
            lowered = torch.where(iou > detect.nms_iou, 0.0, scores)
        else:
            lowered = scores * torch.exp(iou * iou * (-0.5 / detect.soft_nms_sigma))
        is_slot = slots == step
        places, kept = torch.where(is_slot, at, places), torch.where(is_slot, score, kept)
        return step + 1, lowered.scatter(1, at, 0.0), places, kept

    shape = (scores.shape[0], limit)
    start = (torch.zeros((), dtype=torch.int64), scores.clone())
    rows = (torch.zeros(shape, dtype=torch.int64), torch.zeros(shape))
    loop: Any = torch.while_loop
    _, _, places, kept = loop(goes_on, take, (*start, *rows))
    is_box = kept > 0
    picked = boxes.gather(1, places[..., None].expand(-1, -1, 4))
    return Scored(
        torch.where(is_box[..., None], picked, 0.0),
        torch.where(is_box, class_ids.gather(1, places), 0),
        kept,
    )


def _iou_with(boxes: Tensor, at: Tensor) -> Tensor:
    """IoU (b, n) of boxes (b, n, 4) with that at (b, 1) of their image."""
    one = boxes.gather(1, at[..., None].expand(-1, -1, 4))
    low = torch.maximum(boxes[..., :2], one[..., :2])
    shared = (torch.minimum(boxes[..., 2:], one[..., 2:]) - low).clamp(min=0).prod(dim=-1)
    areas, own = ((each[..., 2:] - each[..., :2]).prod(dim=-1) for each in (boxes, one))
    return shared / (areas + own - shared).clamp(min=_LEAST_AREA)
