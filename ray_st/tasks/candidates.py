"""Candidates: the scored boxes of a batch that suppression chooses from.

In: `Outputs` and their anchors. Out: `Candidates`. Source: paper.md 5.4. Next: `nms.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from ray_st.models.retinanet import ANCHORS_PER_LOCATION, Outputs
from ray_st.tasks.anchors import decode
from ray_st.tasks.task import Shown

Rule = Literal["image", "level", "class"]
MIN_SIDE_PX = 0.01  # thinner boxes could vanish when placed in the source image
_MANY = 4  # times `limit`: more spots an image than this are first cut
_SLACK = 1e-3  # a logit this far below the floor is looked at again as a score


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Scored boxes: image after image, best first within one.

    Of equal scores the earlier anchor stands first, and of one anchor the lower class.
    """

    image: Int64[Tensor, " n"]  # index into the batch
    boxes_xyxy: Float32[Tensor, "n 4"]  # view pixels
    class_ids: Int64[Tensor, " n"]
    scores: Float32[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: Tensor) -> Candidates:
        """Choose boxes by mask or indices, in all fields at once."""
        return Candidates(
            image=self.image[chosen],
            boxes_xyxy=self.boxes_xyxy[chosen],
            class_ids=self.class_ids[chosen],
            scores=self.scores[chosen],
        )


def find_candidates(
    outputs: Outputs,
    anchors: Float[Tensor, "a 4"],
    size_hw: tuple[int, int],
    *,
    score_floor: float,
    per: Rule,
    limit: int,
) -> Candidates:
    """Boxes that score above `score_floor`, the best `limit` of each image, level or class.

    "level" and "class" count within an image. Boxes are clipped to a view of `size_hw`; slivers
    are dropped, after counting.
    """
    spot, class_ids, scores = _above(outputs, score_floor, per, limit)
    num_anchors, num_classes = outputs.class_logits.shape[1:]
    image = spot // num_anchors
    order = best_first(image, scores)
    group = image * num_classes + class_ids if per == "class" else _groups(outputs, per, spot)
    order = order[_leading(group[order], limit)]
    image, spot = image[order], spot[order]
    codes = outputs.box_codes.flatten(0, 1).index_select(0, spot)
    boxes = decode(codes, anchors.index_select(0, spot % num_anchors))
    height, width = size_hw
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
    found = Candidates(
        image=image, boxes_xyxy=boxes, class_ids=class_ids[order], scores=scores[order]
    )
    return found[((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE_PX).all(1)]


def carried(found: Candidates, shown: Shown, first: Shown) -> Candidates:
    """Take the candidates of one view of each image to another view of it, in their order.

    Boxes are cut to the area of their image before that: what stands out to its right lies in the
    padding, and mirrored it would be cut at the view's left edge. Slivers are dropped.
    """
    boxes = found.boxes_xyxy
    sides, new_sides = (
        boxes.new_tensor(each.areas_hw).view(-1, 2).flip(1)[found.image].repeat(1, 2)
        for each in (shown, first)
    )
    boxes = boxes.minimum(sides)
    is_seen = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE_PX).all(1)
    if shown.is_mirrored:
        left, top, right, bottom = boxes.unbind(1)
        width = sides[:, 0]
        boxes = torch.stack([width - right, top, width - left, bottom], dim=1)
    boxes = (boxes * (new_sides / sides)).minimum(new_sides)
    return replace(found, boxes_xyxy=boxes)[is_seen]


def together(parts: Sequence[Candidates]) -> Candidates:
    """Candidates of several views, in pixels of one: of equal scores the earlier view's first."""
    image, boxes, class_ids, scores = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("image", "boxes_xyxy", "class_ids", "scores")
    )
    found = Candidates(image=image, boxes_xyxy=boxes, class_ids=class_ids, scores=scores)
    return found[best_first(image, scores)]


def _above(
    outputs: Outputs, score_floor: float, per: Rule, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Spot (image * anchors + anchor), class and score of all above the floor, in this order.

    One pass over the logits finds the few spots that matter; the rest is work on those.
    """
    logits = outputs.class_logits.flatten(0, 1)
    cut = math.log(score_floor / (1 - score_floor)) - _SLACK if score_floor > 0 else -math.inf
    best = logits.amax(dim=1)
    spot = torch.nonzero(best > cut)[:, 0]
    if per != "class" and len(spot) > limit * len(outputs.class_logits) * _MANY:
        # A spot that `limit` of its group surpass holds no candidate. This bounds the work for a
        # model that says yes everywhere.
        spot = spot[torch.sort(best[spot], descending=True, stable=True).indices]
        spot = spot[_leading(_groups(outputs, per, spot), limit)].sort().values
    scores = logits.index_select(0, spot).sigmoid()
    row, class_ids = torch.nonzero(scores > score_floor, as_tuple=True)
    return spot[row], class_ids, scores[row, class_ids]


def _groups(outputs: Outputs, per: Rule, spot: Tensor) -> Tensor:
    """Give each spot the number of its image, or of its level of an image."""
    num_anchors = outputs.class_logits.shape[1]
    if per == "image":
        return spot // num_anchors
    sizes = [ANCHORS_PER_LOCATION * height * width for height, width in outputs.feature_sizes]
    ends = torch.tensor(sizes, device=spot.device).cumsum(0)
    level = torch.bucketize(spot % num_anchors, ends, right=True)
    return spot // num_anchors * len(sizes) + level


def _leading(group: Tensor, limit: int) -> Tensor:
    """Indices of the first `limit` of each group, in order."""
    if len(group) <= limit or torch.bincount(group).max() <= limit:
        return torch.arange(len(group), device=group.device)
    return torch.nonzero(ranks(group) < limit)[:, 0]


def best_first(group: Int64[Tensor, " n"], scores: Float[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Return the order that puts groups one after another, and the best of each first; stable."""
    order = torch.sort(scores, descending=True, stable=True).indices
    return order[torch.sort(group[order], stable=True).indices]


def ranks(group: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Return the place of each element, from 0, among those of its group."""
    grouped, order = torch.sort(group, stable=True)
    counts = torch.bincount(grouped)
    first = (counts.cumsum(0) - counts)[grouped]
    places = torch.arange(len(group), device=group.device) - first
    return torch.empty_like(group).scatter_(0, order, places)
