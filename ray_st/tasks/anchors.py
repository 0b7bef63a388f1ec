"""Anchors: where they stand, which object each answers for, and how boxes are coded against them.

In: the sizes of the feature maps, boxes in view pixels. Out: anchors, matches, codes.
Source: paper.md 5.2, the authors' anchor.py. Next: `candidates.py`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

MATCH_IOU = 0.5
INSIDE_SHARE = 0.5  # of an anchor, in a region where nothing is known
_SCALES = (2.0 ** (0 / 3), 2.0 ** (1 / 3), 2.0 ** (2 / 3))
_RATIOS = (1.0, 2.0, 0.5)  # width over height
_MAX_LOG_SIZE = math.log(1000 / 16)


@lru_cache(maxsize=32)
def pyramid_anchors(
    feature_sizes: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    scale: float,
    device: torch.device,
) -> Float[Tensor, "a 4"]:
    """Nine anchors a location as left, top, right, bottom in view pixels; they may reach outside.

    Order: levels as given, rows, columns, scales, ratios. The result is cached: do not change it.
    """
    # A tensor made in inference mode could later not be used where gradients are recorded.
    with torch.inference_mode(mode=False):
        grids = [
            _level_anchors(size, stride, scale)
            for size, stride in zip(feature_sizes, strides, strict=True)
        ]
        return torch.cat(grids).to(device)


def _level_anchors(size: tuple[int, int], stride: int, scale: float) -> Tensor:
    half_sizes = torch.tensor(
        [
            (scale * stride * k * math.sqrt(r) / 2, scale * stride * k / math.sqrt(r) / 2)
            for k in _SCALES
            for r in _RATIOS
        ]
    )
    y, x = (torch.arange(n) * stride + stride / 2 for n in size)
    centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).view(-1, 1, 2)
    return torch.cat([centres - half_sizes, centres + half_sizes], dim=-1).view(-1, 4)


def encode(boxes: Float[Tensor, "*n 4"], anchors: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Boxes of positive size -> (dx / wa, dy / ha, log w / wa, log h / ha), without scaling."""
    centre, size = _centre_size(boxes)
    anchor_centre, anchor_size = _centre_size(anchors)
    return torch.cat(
        [(centre - anchor_centre) / anchor_size, torch.log(size / anchor_size)], dim=-1
    )


def decode(codes: Float[Tensor, "*n 4"], anchors: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Undo `encode`; a box is at most 62.5 times its anchor. Without the source's +1 / -1 pixel."""
    anchor_centre, anchor_size = _centre_size(anchors)
    centre = anchor_centre + codes[..., :2] * anchor_size
    half = torch.exp(codes[..., 2:].clamp(max=_MAX_LOG_SIZE)) * anchor_size / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low


def match(
    anchors: Float[Tensor, "a 4"],
    boxes: Float[Tensor, "b m 4"],
    is_box: Bool[Tensor, "b m"],
) -> Int64[Tensor, "b a"]:
    """Return the index of the box that each anchor answers for, -1 for none.

    That is its best box where IoU >= 0.5; besides, each box takes its best anchor whatever the
    IoU, unless it touches none. Where two boxes want one anchor, the first has it.
    """
    num_images, num_boxes = is_box.shape
    if num_boxes == 0:
        return torch.full((num_images, len(anchors)), -1, device=boxes.device)
    iou = _iou(boxes, anchors).masked_fill_(~is_box[..., None], -1.0)
    anchor_iou, anchor_box = iou.max(dim=1)
    by_iou = torch.where(anchor_iou >= MATCH_IOU, anchor_box, -1)
    box_iou, box_anchor = iou.max(dim=2)
    # Masked boxes and boxes that touch no anchor bid `num_boxes`, which loses to every real bid.
    bids = torch.arange(num_boxes, device=boxes.device).where(box_iou > 0, num_boxes)
    forced = torch.full_like(by_iou, num_boxes).scatter_reduce_(1, box_anchor, bids, "amin")
    return torch.where(forced < num_boxes, forced, by_iou)


def best_iou(
    boxes: Float[Tensor, "n 4"],
    feature_sizes: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    scale: float,
) -> Float[Tensor, " n"]:
    """IoU 0..1 of each box with its best anchor of the pyramid, without comparing it with all.

    Of the anchors of one shape the one whose centre is nearest overlaps a box most.
    """
    best = boxes.new_zeros(len(boxes))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    for size, stride in zip(feature_sizes, strides, strict=True):
        last = torch.tensor([size[1] - 1, size[0] - 1])
        places = ((centres - stride / 2) / stride).round().clamp(min=0).minimum(last)
        anchors = _level_anchors((1, 1), stride, scale) + (places * stride).repeat(1, 2)[:, None]
        best = torch.maximum(best, _iou(boxes, anchors).amax(dim=1))
    return best


def inside(anchors: Float[Tensor, "a 4"], regions: Float[Tensor, "b c 4"]) -> Bool[Tensor, "b a"]:
    """Say which anchors lie in a region with half of their area or more; c must not be 0."""
    return (_shared(regions, anchors).amax(dim=1) / _areas(anchors)) >= INSIDE_SHARE


def _iou(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(b, m, 4) and (a, 4) -> (b, m, a); or (n, 4) and (n, a, 4), anchors of each box -> (n, a).

    In place, as this is the largest tensor of a step.
    """
    shared = _shared(boxes, anchors)
    return shared.div_((_areas(boxes)[..., None] + _areas(anchors)).sub_(shared))


def _shared(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(b, m, 4) and (a, 4) -> the area (b, m, a) that each two have in common."""
    left, top, right, bottom = (side[..., None] for side in boxes.unbind(-1))
    a_left, a_top, a_right, a_bottom = anchors.unbind(-1)
    shared = (torch.minimum(right, a_right) - torch.maximum(left, a_left)).clamp_(min=0)
    shared *= (torch.minimum(bottom, a_bottom) - torch.maximum(top, a_top)).clamp_(min=0)
    return shared


def _areas(boxes: Tensor) -> Tensor:
    left, top, right, bottom = boxes.unbind(-1)
    return (right - left) * (bottom - top)


def strides_of(levels: tuple[int, int]) -> tuple[int, ...]:
    """Finest and coarsest level -> the stride of each level, in pixels."""
    return tuple(2**level for level in range(levels[0], levels[1] + 1))
