"""Augment-S1 of "Rethinking Pre-training and Self-training": flip and scale jitter.

In: pixels of any size and their labels in source pixels. Out: a square view and its labels in view
pixels. Next: `sources/folder.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ray_st.config import require
from ray_st.data import boxes
from ray_st.data.images import Placed, pad, resize
from ray_st.data.labels import Detections

_MIN_SIDE_PX = 1.0  # a box cut down to less than this shows nothing of its object


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How strongly training images are varied."""

    flip_probability: float = 0.5
    """Chance that an image is mirrored left to right, 0..1."""

    scale_jitter: tuple[float, float] = (0.8, 1.2)
    """Smallest and largest long side of an image, as a multiple of the view's side."""

    def __post_init__(self) -> None:
        require(
            0 <= self.flip_probability <= 1,
            "augment.flip_probability",
            "from 0 to 1",
            self.flip_probability,
            "0.5 is the paper's, 0 mirrors none",
        )
        low_high = tuple(self.scale_jitter)
        require(
            len(low_high) == 2 and 0 < low_high[0] <= low_high[1] < float("inf"),
            "augment.scale_jitter",
            "two numbers above 0, the smaller first",
            self.scale_jitter,
            "0.8 and 1.2 are the paper's Augment-S1",
        )


def view(
    pixels: np.ndarray,
    labels: Detections,
    size_px: int,
    rng: np.random.Generator,
    config: AugmentConfig,
) -> tuple[np.ndarray, Detections]:
    """Make one random view: pixels (size_px, size_px, 3) uint8, and the boxes left in it.

    The same generator state gives the same view. Crowd boxes are dropped: they are no targets.
    """
    labels = labels[~labels.is_crowd]
    if rng.random() < config.flip_probability:
        pixels, labels = _mirror(pixels, labels)
    target_px = max(1, round(float(rng.uniform(*config.scale_jitter)) * size_px))
    placed = Placed.fitting((pixels.shape[0], pixels.shape[1]), target_px)
    resized = resize(pixels, target_px)
    # One draw an axis even where nothing is cropped: the next draws do not shift.
    top = int(rng.integers(0, max(0, resized.shape[0] - size_px) + 1))
    left = int(rng.integers(0, max(0, resized.shape[1] - size_px) + 1))
    shown = resized[top : top + size_px, left : left + size_px]
    cropped = replace(placed, offset_xy=(float(-left), float(-top)))
    return pad(shown, size_px), _shown(labels, cropped, (shown.shape[0], shown.shape[1]))


def _mirror(pixels: np.ndarray, labels: Detections) -> tuple[np.ndarray, Detections]:
    mirrored = labels.boxes_xyxy.copy()
    mirrored[:, [0, 2]] = pixels.shape[1] - labels.boxes_xyxy[:, [2, 0]]
    # Contiguous, because Pillow copies a reversed array pixel by pixel.
    return np.ascontiguousarray(pixels[:, ::-1]), labels.with_boxes(mirrored)


def _shown(labels: Detections, placed: Placed, shown_hw: tuple[int, int]) -> Detections:
    # Clipped to what is shown of the image, not to the view: padding holds no objects.
    moved = boxes.clip(placed.place(labels.boxes_xyxy), shown_hw)
    sides_px = moved[:, 2:] - moved[:, :2]
    return labels.with_boxes(moved)[(sides_px >= _MIN_SIDE_PX).all(axis=1)]
