"""Boxes as a detector will meet them: which are too small, too large or too narrow for its anchors.

In: LABEL_ROWs with boxes, and a `ModelConfig`. Out: findings. Next: `pixels.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from ray_st.data.labels import Detections, Origin
from ray_st.data.placed import Placed
from ray_st.data.rows import pack, unpack
from ray_st.labeling.policy.kinds import parts_of
from ray_st.models import ModelConfig, build
from ray_st.models.retinanet import Outputs
from ray_st.selftraining.checkup.classes import Counts
from ray_st.selftraining.checkup.finding import Finding, graded, named, percent
from ray_st.tasks.anchors import MATCH_IOU, best_iou, strides_of

_MANY_UNSEEN, _MOST_UNSEEN = 0.1, 0.5  # of the boxes
_LARGEST_OF_LEVEL = 2 ** (2 / 3)  # of the three scales of an anchor
_SIZE = ("height_px", "width_px")
_LEAST_PX = 1.0  # of a box's side: `Detections.in_view` drops what is less


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """Boxes of a set in views that show whole images, and how well anchors fit them."""

    row: np.ndarray  # (n,) row of each box
    class_ids: np.ndarray  # (n,)
    sides_px: np.ndarray  # (n, 2) width and height in the view
    iou: np.ndarray  # (n,) with the best anchor, 0..1

    @property
    def is_unseen(self) -> np.ndarray:
        """Boxes that one anchor at most answers for, and badly."""
        return self.iou < MATCH_IOU


def fit_anchors(rows: pa.Table, model: ModelConfig) -> Fitted:
    """Place every box in a view at scale 1, without crowds, some thousand rows at a time."""
    sizes, strides = feature_sizes(model), strides_of(model.levels)
    parts, first = [], 0
    for part in parts_of(rows):
        row, boxes = Detections.together(part)
        row, boxes = row[~boxes.is_crowd], boxes[~boxes.is_crowd]
        heights, widths = (part[name].to_numpy() for name in _SIZE)
        placed = [
            Placed.fitting((int(h), int(w)), model.image_size_px)
            for h, w in zip(heights, widths, strict=True)
        ]
        scales = np.array([each.scale_xy for each in placed]).reshape(-1, 2)
        corners = (boxes.boxes_xyxy * np.tile(scales, 2)[row]).astype(np.float32)
        iou = best_iou(torch.from_numpy(corners), sizes, strides, model.anchor_scale).numpy()
        parts.append((row + first, boxes.class_ids, corners[:, 2:] - corners[:, :2], iou))
        first += part.num_rows
    row, class_ids, sides_px, iou = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Fitted(row=row, class_ids=class_ids, sides_px=sides_px, iou=iou)


def feature_sizes(config: ModelConfig) -> tuple[tuple[int, int], ...]:
    """Height and width of each level's map, as the model itself makes them, without numbers."""
    side = config.image_size_px
    with torch.device("meta"), torch.no_grad():
        outputs = build(config, "detection", 1).eval()(
            torch.empty(1, 3, side, side, dtype=torch.uint8)
        )
    assert isinstance(outputs, Outputs), "detection is learned by a RetinaNet"
    return outputs.feature_sizes


def worst_images(rows: pa.Table, fitted: Fitted, most: int) -> pa.Table:
    """LABEL_ROWs of up to `most` images, those first with most boxes that no anchor fits.

    They hold these boxes alone.
    """
    counts = np.bincount(fitted.row[fitted.is_unseen], minlength=rows.num_rows)
    chosen = np.argsort(-counts, kind="stable")[:most]
    taken = rows.take(pa.array(chosen[counts[chosen] > 0]))
    labels: list[Detections] = []
    for place, one in zip(chosen, unpack(taken), strict=False):
        objects = one[~one.is_crowd]
        labels.append(objects[fitted.is_unseen[fitted.row == place]])
    plain = {name: taken[name].to_pylist() for name in ("image_id", "uri", *_SIZE)}
    return pack(
        image_ids=plain["image_id"],
        uris=plain["uri"],
        sizes_hw=[*zip(*(plain[name] for name in _SIZE), strict=True)],
        labels=labels,
        origin=Origin.HUMAN,
        kind=Detections,
    )


def unseen_classes(fitted: Fitted, classes: Sequence[str]) -> list[Finding]:
    """Say of which classes no anchor fits most boxes, which the share of all boxes may hide."""
    total = np.bincount(fitted.class_ids, minlength=len(classes))
    unseen = np.bincount(fitted.class_ids[fitted.is_unseen], minlength=len(classes))
    shares = unseen / total.clip(1)
    found = [k for k in np.argsort(-shares, kind="stable") if shares[k] > _MOST_UNSEEN]
    if not found:
        return []
    shown = [f"{classes[k]} {percent(float(shares[k]))}" for k in found]
    return [
        Finding(
            severity="warn",
            where="data.train",
            what=f"no anchor fits most boxes of {len(found)} of {len(classes)} classes: "
            f"{named(shown)}",
            move="suit model.image_size_px and model.anchor_scale to them: unseen_boxes.png shows "
            "some",
            numbers={"unseen_share": dict(zip(classes, shares.tolist(), strict=True))},
        )
    ]


def unseen_boxes(fitted: Fitted, model: ModelConfig) -> list[Finding]:
    """Say which share of the training boxes no anchor fits, and why."""
    total = len(fitted.iou)
    if not total:
        return []
    sides = np.sqrt(fitted.sides_px.clip(0).prod(axis=1))
    least, most = _anchor_sides_px(model)
    low, middle, high = np.quantile(sides, (0.05, 0.5, 0.95))
    share = float(fitted.is_unseen.mean())
    small, large = sides < least, sides > most
    causes = {
        "small": int((fitted.is_unseen & small).sum()),
        "large": int((fitted.is_unseen & large).sum()),
        "narrow": int((fitted.is_unseen & ~small & ~large).sum()),
    }
    severity = graded(share, warn=_MANY_UNSEEN, fail=_MOST_UNSEEN)
    gone = int((fitted.sides_px < _LEAST_PX).any(axis=1).sum())
    said = f", {gone} of them less than a pixel wide or high and so dropped" if gone else ""
    return [
        Finding(
            severity=severity,
            where="data.train",
            what=f"{percent(share)} of the boxes have IoU below {MATCH_IOU} with their best anchor"
            f"{said}: boxes have sides of {low:.0f} to {high:.0f} px in a view, half of them over "
            f"{middle:.0f}, anchors of {least:.0f} to {most:.0f} px",
            move=_move(causes) if severity != "fine" else "",
            numbers={
                "boxes": total,
                "unseen_share": share,
                **{f"unseen_{cause}": count for cause, count in causes.items()},
                "below_a_pixel": gone,
                "box_side_px": [round(float(x), 1) for x in (low, middle, high)],
                "anchor_side_px": [round(least, 1), round(most, 1)],
            },
        )
    ]


def _anchor_sides_px(model: ModelConfig) -> tuple[float, float]:
    strides = strides_of(model.levels)
    return model.anchor_scale * strides[0], model.anchor_scale * strides[-1] * _LARGEST_OF_LEVEL


def _move(causes: dict[str, int]) -> str:
    return {
        "small": "raise model.image_size_px, or lower model.anchor_scale or the finest of "
        "model.levels",
        "large": "raise model.anchor_scale or the coarsest of model.levels",
        "narrow": "most lie between anchors or are too narrow for ratios of 1 to 2: another "
        "model.anchor_scale may suit them better",
    }[max(causes, key=lambda cause: causes[cause])]


def crowded_images(where: str, counts: Counts, most: int) -> list[Finding]:
    """Say how many objects an image has, and in how many there are more than can be found."""
    if not len(counts.amounts):
        return []
    over = counts.amounts > most
    lost = int((counts.amounts - most)[over].sum())
    said = f"{counts.amounts.mean():.1f} boxes an image, {counts.amounts.max():.0f} at most"
    numbers = {
        "boxes_per_image": float(counts.amounts.mean()),
        "most": int(counts.amounts.max()),
        "images_over": int(over.sum()),
        "boxes_over": lost,
    }
    if not lost:
        return [Finding(severity="fine", where=where, what=said, numbers=numbers)]
    return [
        Finding(
            severity="warn",
            where="detect.max_detections",
            what=f"{int(over.sum())} images of {where} have more than {most} boxes ({said}): "
            f"{lost} of their boxes can never be found",
            move="raise detect.max_detections",
            numbers=numbers,
        )
    ]
