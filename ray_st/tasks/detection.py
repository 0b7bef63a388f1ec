"""Detection as a task: RetinaNet outputs to loss sums, to labels, and labels to AP.

In: `Outputs` of the model, `Detections` in view pixels. Out: `LossSums`, `Detections`, metrics.
Source: paper.md 5.2-5.4. Next: `coco_ap.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from ray_st.config import UserError, require
from ray_st.data.labels import Detections, Labels
from ray_st.models.retinanet import Outputs
from ray_st.tasks.anchors import encode, inside, match, pyramid_anchors, strides_of
from ray_st.tasks.candidates import Candidates, Rule, carried, find_candidates, together
from ray_st.tasks.coco_ap import box_ap, precision_recall
from ray_st.tasks.focal import focal_sums
from ray_st.tasks.nms import hard_nms, soft_nms
from ray_st.tasks.task import LossSums, Shown

HUBER_DELTA = 0.1
BOX_WEIGHT = 50.0 / 4  # the paper's 50, over the four numbers of a box


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """How a detector's outputs become boxes: when it labels, and when it is evaluated."""

    nms: Literal["hard", "soft"] = "hard"
    """hard: a box that overlaps a better one of its class goes; soft: its score is lowered."""
    nms_iou: float = 0.5
    """Hard NMS: overlap (IoU) with a better box above which a box goes."""
    soft_nms_sigma: float = 0.3
    """Soft NMS: scores fall by exp(-IoU^2 / (2 sigma)); less is harsher (the paper: 0.3)."""
    score_floor: float = 0.05
    """Boxes at or below this score are left out."""
    max_detections: int = 100
    """Most boxes of an image."""
    candidates: Rule = "image"
    """NMS sees the best boxes of each image, each level of it (torchvision) or each class of it."""
    max_candidates: int = 1000
    """How many boxes NMS sees of each of these (the paper's code: 5000 a class)."""

    def __post_init__(self) -> None:
        require(0 <= self.nms_iou <= 1, "detect.nms_iou", "0 to 1", self.nms_iou)
        sigma = self.soft_nms_sigma
        require(0 < sigma < math.inf, "detect.soft_nms_sigma", "above 0", sigma, "the paper: 0.3")
        floor = self.score_floor
        require(0 <= floor < 1, "detect.score_floor", "at least 0 and below 1", floor)
        for name in ("max_detections", "max_candidates"):
            require(getattr(self, name) >= 1, f"detect.{name}", "at least 1", getattr(self, name))


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """The objects of a batch, padded to the image with the most; m is 0 when no image has one."""

    boxes_xyxy: Float32[Tensor, "b m 4"]
    class_ids: Int64[Tensor, "b m"]
    is_box: Bool[Tensor, "b m"]  # false on padding
    crowds_xyxy: Float32[Tensor, "b c 4"]  # no area on padding; c is 0 when no image has one


@dataclass(kw_only=True, eq=False)
class Detection:
    """The `Task` of RetinaNet; `levels` and `anchor_scale` must be the model's."""

    num_classes: int
    levels: tuple[int, int]
    anchor_scale: float
    detect: DetectConfig = field(default_factory=lambda: DetectConfig())
    name: str = field(default="detection", init=False)
    kind: type[Labels] = field(default=Detections, init=False)
    figures: tuple[str, ...] = field(default=("AP", "AP50", "AP75"), init=False)

    def targets(
        self, labels: Sequence[Detections], size_hw: tuple[int, int], device: torch.device
    ) -> Targets:
        """Pad the labels of a batch, in view pixels; crowd regions stand apart."""
        del size_hw  # boxes in view pixels say all
        chosen = [one[~one.is_crowd] for one in labels]
        boxes, is_box = _padded([one.boxes_xyxy for one in chosen])
        class_ids = np.zeros(is_box.shape, np.int64)
        if is_box.any():
            class_ids[is_box] = np.concatenate([one.class_ids for one in chosen])
            self._check_class_ids(class_ids)
        crowds, _ = _padded([one.boxes_xyxy[one.is_crowd] for one in labels])

        def on_device(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device, non_blocking=True)

        return Targets(
            boxes_xyxy=on_device(boxes),
            class_ids=on_device(class_ids),
            is_box=on_device(is_box),
            crowds_xyxy=on_device(crowds),
        )

    def _check_class_ids(self, class_ids: np.ndarray) -> None:
        if class_ids.min() < 0 or class_ids.max() >= self.num_classes:
            raise UserError(
                f"data.classes: class ids must be 0..{self.num_classes - 1}, got "
                f"{class_ids.min()}..{class_ids.max()}; give the class list of these labels"
            )

    def loss_sums(self, outputs: Outputs, targets: Targets) -> LossSums:
        """Focal loss and weighted Huber loss, summed over each image; counts are its positives.

        An anchor that lies in a crowd region and answers for no object costs nothing.

        The authors' code also leaves out code elements that are exactly 0, an accident of padding
        in their framework that touches almost no element: not done here.
        """
        anchors = self._anchors(outputs)
        matched = match(anchors, targets.boxes_xyxy, targets.is_box)
        image, anchor = torch.nonzero(matched >= 0, as_tuple=True)
        truth = matched[image, anchor]
        class_ids = targets.class_ids[image, truth]
        codes = encode(targets.boxes_xyxy[image, truth], anchors[anchor])
        spared = None
        if targets.crowds_xyxy.shape[1]:
            spared = inside(anchors, targets.crowds_xyxy) & (matched < 0)
        class_sums = focal_sums(outputs.class_logits, image, anchor, class_ids, spared)
        huber = F.huber_loss(
            outputs.box_codes[image, anchor], codes, delta=HUBER_DELTA, reduction="none"
        )
        zeros = torch.zeros_like(class_sums)
        box_sums = BOX_WEIGHT * zeros.index_add(0, image, huber.sum(1))
        return LossSums(
            sums=class_sums + box_sums,
            counts=(matched >= 0).sum(1).float(),
            parts={"class": class_sums.detach(), "box": box_sums.detach()},
            count_offset=1.0,
        )

    def counts(self, outputs: Outputs, targets: Targets) -> Float32[Tensor, " b"]:
        """Anchors of each image that answer for an object."""
        matched = match(self._anchors(outputs), targets.boxes_xyxy, targets.is_box)
        return (matched >= 0).sum(1).float()

    @torch.no_grad()
    def predictions(self, outputs: Outputs, size_hw: tuple[int, int]) -> list[Detections]:
        """Labels in pixels of a view of `size_hw`, best first, above the floor of `detect`.

        Boxes are clipped to the view.
        """
        found = self._candidates(outputs, size_hw)
        return self._chosen(found, len(outputs.class_logits))

    @torch.no_grad()
    def merged(self, views: Iterable[tuple[Outputs, Shown]]) -> list[Detections]:
        """Choose among the boxes of all views by the rules for those of one.

        Each view brings as many candidates as it would alone. Boxes are clipped to the images.
        """
        parts: list[Candidates] = []
        first: Shown | None = None
        for outputs, shown in views:
            first = first or shown
            parts.append(carried(self._candidates(outputs, shown.size_hw), shown, first))
            del outputs  # before the next view's are made
        assert first is not None, "an image is looked at once or more"
        return self._chosen(together(parts), len(first.areas_hw))

    def _candidates(self, outputs: Outputs, size_hw: tuple[int, int]) -> Candidates:
        detect = self.detect
        return find_candidates(
            outputs,
            self._anchors(outputs),
            size_hw,
            score_floor=detect.score_floor,
            per=detect.candidates,
            limit=detect.max_candidates,
        )

    def _chosen(self, found: Candidates, num_images: int) -> list[Detections]:
        """Suppress, and split by image."""
        detect = self.detect
        if detect.nms == "soft":
            kept = soft_nms(
                found,
                sigma=detect.soft_nms_sigma,
                score_floor=detect.score_floor,
                limit=detect.max_detections,
            )
        else:
            kept = hard_nms(found, iou=detect.nms_iou, limit=detect.max_detections)
        ends = torch.bincount(kept.image, minlength=num_images).cumsum(0)[:-1]
        columns = (
            np.split(values.cpu().numpy(), ends.cpu().numpy())
            for values in (kept.boxes_xyxy, kept.class_ids, kept.scores)
        )
        return [Detections.of(b, c, scores=s) for b, c, s in zip(*columns, strict=True)]

    def _anchors(self, outputs: Outputs) -> Tensor:
        return pyramid_anchors(
            outputs.feature_sizes,
            strides_of(self.levels),
            self.anchor_scale,
            outputs.class_logits.device,
        )

    def metrics(
        self, truths: pa.Table, predictions: pa.Table, classes: Sequence[str]
    ) -> dict[str, float]:
        """COCO box AP and AR, 0..100; see `box_ap`."""
        return box_ap(truths, predictions, classes)

    def agreement(self, truths: pa.Table, labels: pa.Table) -> tuple[float, float]:
        """Share of boxes that are right, and of true boxes that were found; see the function."""
        return precision_recall(truths, labels)


def _padded(boxes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of each image -> (b, m, 4) with zeros behind, and which of these (b, m) are boxes."""
    counts = np.array([len(one) for one in boxes], np.int64)
    is_box = np.arange(counts.max(initial=0)) < counts[:, None]
    padded = np.zeros((*is_box.shape, 4), np.float32)
    if is_box.any():
        padded[is_box] = np.concatenate(boxes)
    return padded, is_box
