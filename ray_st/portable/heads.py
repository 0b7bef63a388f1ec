"""What a file gives: a model's outputs, finished or as they are, under names.

In: a model's outputs. Out: named tensors, in operations that `torch.export` takes; and how close
the results of a file are to them. Next: `files.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ray_st.models.retinanet import Outputs
from ray_st.portable import agreement
from ray_st.portable.agreement import Agreement
from ray_st.portable.choosing import candidates, chosen
from ray_st.tasks.anchors import decode, pyramid_anchors, strides_of
from ray_st.tasks.classification import Classification
from ray_st.tasks.detection import Detection
from ray_st.tasks.segmentation import Segmentation
from ray_st.tasks.task import Task

Wanted = Literal["labels", "logits"]


class Head(nn.Module, ABC):
    """From a model's outputs to what a file gives."""

    meanings: Mapping[str, str]
    """Names of the tensors, in order, and what their numbers are, with the unit."""

    @abstractmethod
    def agreement(self, got: Mapping[str, np.ndarray], outputs: Any) -> Agreement:
        """Compare what a file gave with a model's outputs. Raises `DisagreementError`."""


class Program(nn.Module):
    """All that a file holds: uint8 RGB (n, 3, side, side) -> named tensors."""

    def __init__(self, model: nn.Module, head: Head) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Run all of it."""
        named: dict[str, Tensor] = self.head(self.model(pixels))
        return named


class Boxes(Head):
    """The boxes of a view, suppressed."""

    anchors: Tensor

    def __init__(self, task: Detection, side_px: int, anchors: Tensor) -> None:
        super().__init__()
        self._task, self._side_px = task, side_px
        self.register_buffer("anchors", anchors)
        self.meanings = {
            "boxes": "left, top, right, bottom in pixels of the view; 0 behind `count`",
            "scores": "0..1, best first; 0 behind `count`",
            "labels": "class ids, indices into `classes`; 0 behind `count`",
            "count": "how many of the rows are boxes",
        }

    def forward(self, outputs: Outputs) -> dict[str, Tensor]:
        """Choose boxes."""
        detect = self._task.detect
        boxes, labels, scores = chosen(
            candidates(outputs, self.anchors, self._side_px, detect), detect
        )
        count = (scores > 0).sum(dim=1)
        return {"boxes": boxes, "scores": scores, "labels": labels, "count": count}

    def agreement(self, got: Mapping[str, np.ndarray], outputs: Outputs) -> Agreement:
        """Compare the boxes of each view."""
        return agreement.boxes_agree(got, outputs, self.anchors, self._side_px, self._task)


class ClassMap(Head):
    """The likeliest class of every pixel of a view."""

    def __init__(self, task: Segmentation, side_px: int) -> None:
        super().__init__()
        self._task, self._size_hw = task, (side_px, side_px)
        self.meanings = {
            "class_map": "class id of every pixel of the view, index into `classes`",
            "confidence": "its probability, 0..1",
        }

    def forward(self, outputs: Tensor) -> dict[str, Tensor]:
        """Choose classes at the view's size; the logits of a whole batch are held at it."""
        full = F.interpolate(outputs, size=self._size_hw, mode="bilinear", align_corners=False)
        best, class_map = full.max(dim=1)
        confidence = torch.exp(best - full.logsumexp(dim=1))
        return {"class_map": class_map.to(torch.uint8), "confidence": confidence}

    def agreement(self, got: Mapping[str, np.ndarray], outputs: Tensor) -> Agreement:
        """Compare every pixel."""
        expected = self._task.predictions(outputs, self._size_hw)
        return agreement.maps_agree(got, outputs, expected)


class Probabilities(Head):
    """How likely each class is."""

    def __init__(self, task: Classification) -> None:
        super().__init__()
        self._task = task
        self.meanings = {"probabilities": "0..1, one a class of `classes`; they add up to 1"}

    def forward(self, outputs: Tensor) -> dict[str, Tensor]:
        """Softmax."""
        return {"probabilities": outputs.softmax(dim=1)}

    def agreement(self, got: Mapping[str, np.ndarray], outputs: Tensor) -> Agreement:
        """Compare the likeliest classes."""
        return agreement.classes_agree(got, self._task.predictions(outputs, (0, 0)))


class Logits(Head):
    """Outputs as they are, of a class map or of a class."""

    def __init__(self) -> None:
        super().__init__()
        self.meanings = {"logits": "of each class of `classes`; softmax gives probabilities"}

    def forward(self, outputs: Tensor) -> dict[str, Tensor]:
        """Change nothing."""
        return {"logits": outputs}

    def agreement(self, got: Mapping[str, np.ndarray], outputs: Tensor) -> Agreement:
        """Compare every number."""
        return agreement.numbers_agree(got, self(outputs))


class BoxLogits(Head):
    """What a detector says of each anchor, before anything is chosen."""

    anchors: Tensor

    def __init__(self, anchors: Tensor) -> None:
        super().__init__()
        self.register_buffer("anchors", anchors)
        self.meanings = {
            "class_logits": "of each anchor, each class of `classes`; sigmoid gives scores",
            "boxes": "of each anchor: left, top, right, bottom in pixels of the view, not clipped",
        }

    def forward(self, outputs: Outputs) -> dict[str, Tensor]:
        """Decode every box."""
        boxes = decode(outputs.box_codes, self.anchors)
        return {"class_logits": outputs.class_logits, "boxes": boxes}

    def agreement(self, got: Mapping[str, np.ndarray], outputs: Outputs) -> Agreement:
        """Compare every number."""
        return agreement.numbers_agree(got, self(outputs))


@torch.no_grad()
def head_of(task: Task, model: nn.Module, side_px: int, wanted: Wanted) -> Head:
    """The head for a task of ours; the model runs once, to see the sizes of its maps."""
    if isinstance(task, Detection):
        outputs: Outputs = model(torch.zeros(1, 3, side_px, side_px, dtype=torch.uint8))
        strides = strides_of(task.levels)
        anchors = pyramid_anchors(
            outputs.feature_sizes, strides, task.anchor_scale, torch.device("cpu")
        ).clone()
        return Boxes(task, side_px, anchors) if wanted == "labels" else BoxLogits(anchors)
    if wanted == "logits":
        return Logits()
    if isinstance(task, Segmentation):
        return ClassMap(task, side_px)
    assert isinstance(task, Classification), "there are three tasks"
    return Probabilities(task)
