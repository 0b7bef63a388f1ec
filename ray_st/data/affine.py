"""A straight-line map of the plane, as a warp of an image and of the boxes on it.

In: angles, shears, shifts. Out: `Affine`. Next: `labels`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Affine:
    """Where each output pixel is read: x_in = a x + b y + c, y_in = d x + e y + f, in pixels.

    The same six numbers, in the same order, are what Pillow's `transform` takes.
    """

    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 1.0
    f: float = 0.0

    @classmethod
    def rotation(cls, degrees: float, size_hw: tuple[int, int]) -> Affine:
        """Turn about the middle of an image, counter-clockwise as it is seen."""
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        x, y = size_hw[1] / 2, size_hw[0] / 2
        return cls(cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)

    @property
    def coefficients(self) -> tuple[float, float, float, float, float, float]:
        """The six numbers."""
        return self.a, self.b, self.c, self.d, self.e, self.f

    def scaled(self, ratio_xy: tuple[float, float]) -> Affine:
        """Give the same map of the image resized by `ratio_xy`."""
        x, y = ratio_xy
        return Affine(self.a, self.b * x / y, self.c * x, self.d * y / x, self.e, self.f * y)

    def hulls(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Where boxes go: the upright boxes around their moved corners; nothing is clipped."""
        forward = np.linalg.inv(np.array([[self.a, self.b, self.c], [self.d, self.e, self.f],
                                          [0, 0, 1]]))  # fmt: skip
        corners = boxes_xyxy[:, [[0, 1], [2, 1], [0, 3], [2, 3]]].astype(np.float64)
        moved = corners @ forward[:2, :2].T + forward[:2, 2]
        return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)
