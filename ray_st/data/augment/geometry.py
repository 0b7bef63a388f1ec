"""Augment-S1 of "Rethinking Pre-training and Self-training": flip and scale jitter; then colours.

In: pixels of any size and their labels in source pixels. Out: a square view and its labels in view
pixels. Next: `sources/folder.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ray_st.config import require
from ray_st.data.augment.colour import greyed, jittered
from ray_st.data.images import pad, resize
from ray_st.data.labels import Labels
from ray_st.data.placed import Placed


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How strongly training images are varied."""

    flip_probability: float = 0.5
    """Chance that an image is mirrored left to right, 0..1."""

    scale_jitter: tuple[float, float] = (0.8, 1.2)
    """Smallest and largest long side of an image, as a multiple of the view's side."""

    colour_jitter: float = 0.0
    """Strength, 0..1, of random brightness, contrast, saturation and hue; SimCLR's is 1."""

    grey_probability: float = 0.0
    """Chance that a view loses its colours, 0..1; SimCLR's is 0.2."""

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
        for name in ("colour_jitter", "grey_probability"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"augment.{name}", "from 0 to 1", value, "0 leaves colours be")


def view(
    pixels: np.ndarray,
    labels: Labels,
    size_px: int,
    rng: np.random.Generator,
    config: AugmentConfig,
) -> tuple[np.ndarray, Labels]:
    """Make one random view: pixels (size_px, size_px, 3) uint8, and what of the labels it shows.

    The same generator state gives the same view.
    """
    if rng.random() < config.flip_probability:
        # Contiguous, because Pillow copies a reversed array pixel by pixel.
        mirrored = np.ascontiguousarray(pixels[:, ::-1])
        pixels, labels = mirrored, labels.mirrored(pixels.shape[1])
    target_px = max(1, round(float(rng.uniform(*config.scale_jitter)) * size_px))
    placed = Placed.fitting((pixels.shape[0], pixels.shape[1]), target_px)
    resized = resize(pixels, target_px)
    # One draw an axis even where nothing is cropped: the next draws do not shift.
    top = int(rng.integers(0, max(0, resized.shape[0] - size_px) + 1))
    left = int(rng.integers(0, max(0, resized.shape[1] - size_px) + 1))
    shown = resized[top : top + size_px, left : left + size_px]
    # Of what is seen, not of padding; and drawn last, so that they move no crop.
    if config.colour_jitter > 0:
        shown = jittered(shown, config.colour_jitter, rng)
    if config.grey_probability > 0:
        shown = greyed(shown, config.grey_probability, rng)
    cropped = replace(placed, offset_xy=(float(-left), float(-top)))
    shown_hw = (shown.shape[0], shown.shape[1])
    return pad(shown, size_px), labels.in_view(cropped, shown_hw, size_px)
