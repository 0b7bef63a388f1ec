"""The teacher: pixels to raw predictions in source-image pixels, on one device, without Ray.

In: a model, then batches of fitted views. Out: `Labels` an image, above the task's low floor:
thresholds are the business of `policy/`. `TeacherSource` is what travels to where it is loaded.
Teachers from elsewhere: `teachers/`. Next: `identity.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from ray_st.data.labels import Labels
from ray_st.data.placed import Placed
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.looks import Looks, looks_of, views
from ray_st.models.saved import SavedModel
from ray_st.tasks.task import Task


class PredictionError(ValueError):
    """What a teacher from elsewhere made of an image is no label; one line that says what."""


class Learned(Protocol):
    """What is known of a teacher's task by those who only ask it for labels."""

    @property
    def name(self) -> str:
        """As recipes name it: detection, segmentation, classification."""

    @property
    def kind(self) -> type[Labels]:
        """The kind of labels that it gives."""


class Predictor(Protocol):
    """Whatever labels fitted views, on one device, in one process."""

    @property
    def kind(self) -> type[Labels]:
        """The kind of labels that it gives."""

    def predict(self, pixels: np.ndarray, sizes_hw: np.ndarray) -> list[Labels]:
        """Label fitted views; arguments and result are as `Teacher.predict` says."""


class TeacherSource(Protocol):
    """A teacher at rest: small enough to be sent to any worker, which loads it."""

    @property
    def digest(self) -> str:
        """The name by which labels remember it: another hash, another teacher."""

    @property
    def task(self) -> Learned:
        """What it has learned."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the class ids in its labels, in order."""

    @property
    def image_size_px(self) -> int:
        """Side of the views that it looks at, at scale 1."""

    def looks(self, config: LabelConfig) -> Looks:
        """Which views it takes of an image. Raises `UserError` for some that it cannot."""

    def load(self, device: torch.device | str, looks: Looks | None = None) -> Predictor:
        """Make it ready on a device, to be given views of `looks.largest_px`; by default one."""


class Teacher:
    """Any model in evaluation mode, asked for labels."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        device: torch.device | str = "cpu",
        looks: Looks | None = None,
    ) -> None:
        """The model must be on `device` and in evaluation mode; by default it looks once."""
        self._model, self._task, self._device = model, task, torch.device(device)
        self._looks = looks

    @property
    def kind(self) -> type[Labels]:
        """The kind of labels that it gives."""
        return self._task.kind

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray, sizes_hw: np.ndarray) -> list[Labels]:
        """Label fitted views.

        Args:
            pixels: uint8, (n, side, side, 3), from `data.views.fitted_views`; of several looks
                the largest.
            sizes_hw: int, (n, 2), size of each source image in pixels.

        Returns:
            Raw predictions an image, in source-image pixels.
        """
        side = pixels.shape[1]
        # A permuted view of HWC memory is channels-last; `.copy()` since Arrow's is read-only.
        decoded = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).to(self._device)
        sizes = [(int(h), int(w)) for h, w in sizes_hw]
        if self._looks is None or self._looks.is_single:
            found = self._task.predictions(self._model(decoded), (side, side))
        else:
            taken = views(decoded, sizes, self._looks)
            found = self._task.merged((self._model(view), shown) for view, shown in taken)
        return [
            one.in_source(Placed.fitting(size, side))
            for one, size in zip(found, sizes, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class SavedTeacher:
    """The `TeacherSource` of a model folder."""

    saved: SavedModel
    task: Task

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return self.saved.digest

    @property
    def classes(self) -> tuple[str, ...]:
        """As the model's card names them."""
        return self.saved.card.classes

    @property
    def image_size_px(self) -> int:
        """The size that the model was trained with."""
        return self.saved.card.model.image_size_px

    def looks(self, config: LabelConfig) -> Looks:
        """What the recipe asks for, if the model takes it."""
        return looks_of(config, self.saved.card.model, self.saved.card.task)

    def load(self, device: torch.device | str, looks: Looks | None = None) -> Teacher:
        """Build the model, its BatchNorms folded away; by default it looks once."""
        return Teacher(self.saved.load(device), self.task, device, looks)
