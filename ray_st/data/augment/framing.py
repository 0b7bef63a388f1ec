"""Flip, scale jitter, crop and pad: Augment-S1, and the last step of every other policy.

In: a `Scene`. Out: square uint8 pixels, and its labels in pixels of that view. Next: `view.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ray_st.data.augment.config import AugmentConfig
from ray_st.data.augment.scene import Scene
from ray_st.data.augment.warp import flip
from ray_st.data.images import resize
from ray_st.data.labels import Labels
from ray_st.data.placed import Placed


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How one view lies on its image. It is drawn before the image is decoded."""

    is_mirrored: bool
    target_px: int  # long side of the whole image in the view
    top: int  # where the view begins in it, pixels
    left: int
    size_px: int  # side of the view

    @classmethod
    def draw(
        cls, size_hw: tuple[int, int], size_px: int, rng: np.random.Generator, config: AugmentConfig
    ) -> Framing:
        """Draw for a source image of this size."""
        is_mirrored = rng.random() < config.flip_probability
        target_px = max(1, round(float(rng.uniform(*config.jitter)) * size_px))
        height, width = Placed.fitting(size_hw, target_px).resized_hw
        # One draw an axis even where nothing is cropped: the next draws do not shift.
        top = int(rng.integers(0, max(0, height - size_px) + 1))
        left = int(rng.integers(0, max(0, width - size_px) + 1))
        return cls(
            is_mirrored=is_mirrored, target_px=target_px, top=top, left=left, size_px=size_px
        )

    def frame(self, scene: Scene) -> tuple[np.ndarray, Labels]:
        """Give what is shown of the image, unpadded, and the labels of the padded view."""
        if self.is_mirrored:
            scene = flip(scene)
        placed = Placed.fitting(scene.size_hw, self.target_px)
        whole = resize(np.asarray(scene.image), placed.resized_hw)
        shown = whole[self.top : self.top + self.size_px, self.left : self.left + self.size_px]
        cropped = replace(placed, offset_xy=(float(-self.left), float(-self.top)))
        shown_hw = (shown.shape[0], shown.shape[1])
        return shown, scene.labels.in_view(cropped, shown_hw, self.size_px)
