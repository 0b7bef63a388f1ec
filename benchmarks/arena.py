"""Our model and torchvision's with the same weights, and the images that both work on."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import rival
import torch
from synthetic import enliven, random_labels, random_pixels
from torch import Tensor

from ray_st.data.labels import Detections
from ray_st.models import ModelConfig, build
from ray_st.tasks.detection import DetectConfig, Detection

BATCH, NUM_CLASSES = 8, 80
CANDIDATES = 1000  # an image, of the random model
MODEL = ModelConfig()  # resnet18, levels 3 to 7, 128 channels, four convolutions a tower
TASK = Detection(
    num_classes=NUM_CLASSES,
    levels=MODEL.levels,
    anchor_scale=MODEL.anchor_scale,
    detect=DetectConfig(candidates="level", max_candidates=1000),
)


@dataclass(frozen=True, kw_only=True)
class Arena:
    """Two models with the same weights, and what both work on."""

    side_px: int
    device: torch.device
    model: Any
    theirs: Any
    labels: list[Detections]
    pixels: np.ndarray  # (b, side, side, 3), uint8

    @property
    def size_hw(self) -> tuple[int, int]:
        """Of a view."""
        return self.side_px, self.side_px

    @property
    def views(self) -> Tensor:
        """As ours takes them."""
        return torch.from_numpy(self.pixels).permute(0, 3, 1, 2).to(self.device)

    @property
    def images(self) -> list[Tensor]:
        """As torchvision takes them."""
        return [image.contiguous().float() / 255 for image in self.views]

    @property
    def targets(self) -> list[dict[str, Tensor]]:
        """As torchvision takes them."""
        return [
            {
                "boxes": torch.from_numpy(one.boxes_xyxy).to(self.device),
                "labels": torch.from_numpy(one.class_ids).long().to(self.device),
            }
            for one in self.labels
        ]


def arena(side_px: int, device: torch.device) -> Arena:
    """Build both models from one set of random weights."""
    torch.manual_seed(0)
    model: Any = build(MODEL, "detection", NUM_CLASSES).to(
        device, memory_format=torch.channels_last
    )  # type: ignore[call-overload]
    pixels = random_pixels(BATCH, side_px, seed=0)
    views = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)
    enliven(model, views, TASK.detect.score_floor, candidates=BATCH * CANDIDATES)
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    return Arena(
        side_px=side_px,
        device=device,
        model=model.eval(),
        theirs=rival.rival_of(plain, MODEL.channels, TASK).to(device).eval(),
        labels=random_labels(BATCH, side_px, NUM_CLASSES, seed=0),
        pixels=pixels,
    )
