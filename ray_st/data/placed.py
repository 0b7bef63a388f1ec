"""How a source image lies in a frame: one scale an axis and one offset.

In: sizes in pixels. Out: `Placed`, which takes boxes there and back. Next: `affine.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ray_st.config import require
from ray_st.data import boxes

SIDES_PX = (16, 8192)  # least and most of a square view; beyond is a slip of the hand


def require_side(side_px: int | None, field: str) -> None:
    """Refuse a side that no square view has; None is left to others to choose."""
    least, most = SIDES_PX
    is_one = side_px is None or least <= side_px <= most
    require(is_one, field, f"from {least} to {most}", side_px)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """How a source image was resized and put into a frame."""

    scale_xy: tuple[float, float]  # resized / source, as it came out after rounding to pixels
    offset_xy: tuple[float, float]  # where the source's corner lies; below 0 where it is cropped
    size_hw: tuple[int, int]  # of the source image

    @classmethod
    def fitting(cls, size_hw: tuple[int, int], size_px: int) -> Placed:
        """Give what `images.fit` does to a source of this size, without its pixels."""
        (height_px, width_px), (new_h, new_w) = size_hw, fitted_hw(size_hw, size_px)
        scale_xy = (new_w / width_px, new_h / height_px)
        return cls(scale_xy=scale_xy, offset_xy=(0.0, 0.0), size_hw=size_hw)

    @property
    def resized_hw(self) -> tuple[int, int]:
        """Height and width of the whole source image in frame pixels."""
        (height, width), (scale_x, scale_y) = self.size_hw, self.scale_xy
        return round(height * scale_y), round(width * scale_x)

    def place(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Take boxes from source pixels to frame pixels; nothing is clipped."""
        moved = boxes_xyxy * np.tile(self.scale_xy, 2) + np.tile(self.offset_xy, 2)
        return np.asarray(moved, np.float32)

    def unplace(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Take boxes from frame pixels to source pixels, clipped to the source image."""
        moved = (boxes_xyxy - np.tile(self.offset_xy, 2)) / np.tile(self.scale_xy, 2)
        return np.asarray(boxes.clip(moved, self.size_hw), np.float32)


def fitted_hw(size_hw: tuple[int, int], size_px: int) -> tuple[int, int]:
    """Size with a long side of `size_px`, aspect kept, no side below 1 px."""
    scale = size_px / max(size_hw)
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))
