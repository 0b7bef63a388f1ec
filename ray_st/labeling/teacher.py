"""The teacher: pixels to raw predictions in source-image pixels, on one device, without Ray.

In: a model, then batches of fitted views. Out: `Labels` an image, above the task's low floor:
thresholds are the business of `policy/`. Next: `verify.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ray_st.data.labels import Labels
from ray_st.data.placed import Placed
from ray_st.tasks.task import Task


class Teacher:
    """Any model in evaluation mode, asked for labels."""

    def __init__(self, model: nn.Module, task: Task, device: torch.device | str = "cpu") -> None:
        """The model must be on `device` and in evaluation mode."""
        self._model, self._task, self._device = model, task, torch.device(device)

    @property
    def kind(self) -> type[Labels]:
        """The kind of labels that it gives."""
        return self._task.kind

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray, sizes_hw: np.ndarray) -> list[Labels]:
        """Label fitted views.

        Args:
            pixels: uint8, (n, side, side, 3), from `data.views.fitted_views`.
            sizes_hw: int, (n, 2), size of each source image in pixels.

        Returns:
            Raw predictions an image, in source-image pixels.
        """
        side = pixels.shape[1]
        # A permuted view of HWC memory is channels-last; `.copy()` since Arrow's is read-only.
        views = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).to(self._device)
        found = self._task.predictions(self._model(views), (side, side))
        return [
            one.in_source(Placed.fitting((int(h), int(w)), side))
            for one, (h, w) in zip(found, sizes_hw, strict=True)
        ]
