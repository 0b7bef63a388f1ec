"""Several of a teacher's classes become one: their probabilities add up, before the best is chosen.

In: a `ClassMap` and any `TeacherSource`. Out: a `TeacherSource` of the target classes.
Next: `fetched.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from ray_st.data.labels import Detections, Labels
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.looks import Looks
from ray_st.labeling.teacher import Learned, Predictor, SavedTeacher, TeacherSource
from ray_st.labeling.teachers.class_map import ClassMap
from ray_st.labeling.teachers.origin import digest_of
from ray_st.models.saved import SavedModel
from ray_st.tasks.classification import Classification
from ray_st.tasks.segmentation import Segmentation

Order = tuple[tuple[int, ...], ...]
"""Teacher class ids that become each class, as `ClassMap.order` gives them."""


def merged_logits(logits: Tensor, order: Order) -> Tensor:
    """(b, c, ...) -> (b, len(order), ...): softmax gives the sums of the old probabilities."""
    out = logits[:, [ids[0] for ids in order]]
    for k, ids in enumerate(order):
        if len(ids) > 1:
            out[:, k] = logits[:, list(ids)].logsumexp(dim=1)
    return out


class Merged(nn.Module):
    """A model that gives class logits, with other classes."""

    def __init__(self, model: nn.Module, order: Order) -> None:
        super().__init__()
        self.model, self.order = model, order

    def forward(self, pixels: Tensor) -> Tensor:
        """As the model's own, with `len(order)` classes."""
        return merged_logits(self.model(pixels), self.order)


@dataclass(frozen=True, kw_only=True)
class MergedModel(SavedModel):
    """A model folder whose model gives merged logits; its card still names its own classes."""

    order: Order

    def load(self, device: torch.device | str = "cpu") -> nn.Module:
        """Build the model for inference."""
        return Merged(super().load(device), self.order).eval()


@runtime_checkable
class GivesLogits(Protocol):
    """A `TeacherSource` from elsewhere that can merge classes before it chooses the best."""

    def merging(self, order: Order) -> TeacherSource:
        """Give the same teacher; class k of its labels is then the k-th of `order`."""


def logits_task(kind: type[Labels], num_classes: int) -> Segmentation | Classification:
    """The task that reads logits of so many classes."""
    kinds = {task.kind: task for task in (Segmentation, Classification)}
    found: Any = kinds[kind]
    return found(num_classes=num_classes)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class MappedTeacher:
    """A teacher whose labels have other classes."""

    teacher: TeacherSource
    class_map: ClassMap  # from the classes of its labels
    digest: str
    classes: tuple[str, ...]

    @property
    def task(self) -> Learned:
        """What it has learned."""
        return self.teacher.task

    @property
    def image_size_px(self) -> int:
        """Side of the views that it looks at."""
        return self.teacher.image_size_px

    def looks(self, config: LabelConfig) -> Looks:
        """Which views it takes of an image."""
        return self.teacher.looks(config)

    def load(self, device: torch.device | str, looks: Looks | None = None) -> Predictor:
        """Make it ready on a device."""
        return _Mapped(self.teacher.load(device, looks), self.class_map)


class _Mapped:
    def __init__(self, teacher: Predictor, to: ClassMap) -> None:
        self._teacher, self._map = teacher, to

    @property
    def kind(self) -> type[Labels]:
        return self._teacher.kind

    def predict(self, pixels: np.ndarray, sizes_hw: np.ndarray) -> list[Labels]:
        return [self._map.apply(one) for one in self._teacher.predict(pixels, sizes_hw)]


def mapped(source: TeacherSource, to: ClassMap) -> MappedTeacher:
    """Give a teacher the target's classes."""
    facts = {"teacher": source.digest, "classes": to.target, "ids": to.ids}
    merging = _merging(source, to.order) if source.task.kind is not Detections else None
    return MappedTeacher(
        teacher=merging or source,
        class_map=to.merged if merging else to,
        digest=digest_of(facts, b""),
        classes=to.target,
    )


def _merging(source: TeacherSource, order: Order) -> TeacherSource | None:
    if isinstance(source, SavedTeacher):
        saved = MergedModel(weights=source.saved.weights, card=source.saved.card, order=order)
        return replace(source, saved=saved, task=logits_task(source.task.kind, len(order)))
    return source.merging(order) if isinstance(source, GivesLogits) else None
