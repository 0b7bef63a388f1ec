"""Box arithmetic in numpy, for any unit of pixels.

In: arrays of shape (n, 4), left, top, right, bottom. Out: the same, areas, or overlaps.
Next: `storage.py`.
"""

from __future__ import annotations

import numpy as np


def area_px(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Area of each box, shape (n,); an inverted box has none."""
    sides = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0)
    area: np.ndarray = sides[:, 0] * sides[:, 1]
    return area


def clip(boxes_xyxy: np.ndarray, size_hw: tuple[float, float] | np.ndarray) -> np.ndarray:
    """Cut boxes off at the border of an image, or of one image each where sizes are (n, 2).

    A box that lies outside comes back with no area, never inverted.
    """
    sizes = np.asarray(size_hw, boxes_xyxy.dtype)
    limits = sizes[..., [1, 0, 1, 0]]
    clipped: np.ndarray = np.clip(boxes_xyxy, 0, limits)
    return clipped


def iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair, shape (n, m), 0..1; 0 where neither has area."""
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    inter = np.prod(np.maximum(high - low, 0), axis=2)
    union = area_px(a_xyxy)[:, None] + area_px(b_xyxy)[None, :] - inter
    ratio: np.ndarray = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return ratio
