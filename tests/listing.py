"""What the authors' listing says of each operation, slowly: a pixel at a time, an image to a list.

Each function takes uint8 pixels (h, w, 3) and an argument, and gives pixels of the same shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

GREY = 128
ROUNDING_PX = 0.002  # Pillow reckons in 1/65536 of a pixel, summed over a row


def each(pixels: np.ndarray, change: Callable[[int], float]) -> np.ndarray:
    """Change every value by itself; what is no whole number is cut off, as a cast to uint8 does."""
    values = [int(min(max(change(int(value)), 0), 255)) for value in pixels.ravel()]
    return np.array(values, np.uint8).reshape(pixels.shape)


def planes(pixels: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.stack([change(pixels[..., channel]) for channel in range(3)], axis=2)


def autocontrast(pixels: np.ndarray) -> np.ndarray:
    def stretched(plane: np.ndarray) -> np.ndarray:
        low, high = int(plane.min()), int(plane.max())
        # Divided last, so that the brightest is 255 and not what a float leaves below it.
        return plane if low == high else each(plane, lambda v: (v - low) * 255 / (high - low))

    return planes(pixels, stretched)


def equalize(pixels: np.ndarray) -> np.ndarray:
    def levelled(plane: np.ndarray) -> np.ndarray:
        values = sorted(int(value) for value in plane.ravel())
        step = (len(values) - values.count(values[-1])) // 255
        darker = {value: sum(v < value for v in values) for value in set(values)}
        return plane if step == 0 else each(plane, lambda v: (darker[v] + step // 2) // step)

    return planes(pixels, levelled)


def invert(pixels: np.ndarray) -> np.ndarray:
    return each(pixels, lambda v: 255 - v)


def posterize(pixels: np.ndarray, bits: int) -> np.ndarray:
    lost = 2 ** (8 - bits)
    return each(pixels, lambda v: v // lost * lost)


def solarize(pixels: np.ndarray, threshold: int) -> np.ndarray:
    return each(pixels, lambda v: v if v < threshold else 255 - v)


def solarize_add(pixels: np.ndarray, addition: int) -> np.ndarray:
    return each(pixels, lambda v: v + addition if v < 128 else v)


def blend(ground: np.ndarray, pixels: np.ndarray, factor: float) -> np.ndarray:
    pairs = zip(ground.ravel().tolist(), pixels.ravel().tolist(), strict=True)
    mixed = [int(min(max(low + factor * (high - low), 0), 255)) for low, high in pairs]
    return np.array(mixed, np.uint8).reshape(pixels.shape)


def color(pixels: np.ndarray, factor: float) -> np.ndarray:
    ground = np.empty_like(pixels)
    for y, x in np.ndindex(pixels.shape[:2]):
        red, green, blue = pixels[y, x].tolist()
        ground[y, x] = round(0.299 * red + 0.587 * green + 0.114 * blue)
    return blend(ground, pixels, factor)


def contrast(pixels: np.ndarray, factor: float) -> np.ndarray:
    count = sum(1 for _ in np.ndindex(pixels.shape[:2]))
    return blend(np.full_like(pixels, min(count // 256, 255)), pixels, factor)


def brightness(pixels: np.ndarray, factor: float) -> np.ndarray:
    return blend(np.zeros_like(pixels), pixels, factor)


def sharpness(pixels: np.ndarray, factor: float) -> np.ndarray:
    smooth, (height, width, _) = pixels.copy(), pixels.shape
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            around = pixels[y - 1 : y + 2, x - 1 : x + 2].astype(int).sum(axis=(0, 1))
            smooth[y, x] = (around + 4 * pixels[y, x].astype(int)) // 13
    return blend(smooth, pixels, factor)


def flip(pixels: np.ndarray) -> np.ndarray:
    return np.array([row[::-1] for row in pixels.tolist()], np.uint8)


# Where a pixel's middle is read.
Reading = Callable[[float, float], tuple[float, float]]


def rotation(degrees: float, size_hw: tuple[int, int]) -> Reading:
    """Counter-clockwise: what is read lies clockwise of where it goes, and y points down."""
    middle_y, middle_x = size_hw[0] / 2, size_hw[1] / 2

    def read(x: float, y: float) -> tuple[float, float]:
        radius = math.hypot(x - middle_x, y - middle_y)
        angle = math.atan2(middle_y - y, x - middle_x) - math.radians(degrees)
        return middle_x + radius * math.cos(angle), middle_y - radius * math.sin(angle)

    return read


def shear_x(shear: float) -> Reading:
    return lambda x, y: (x + shear * y, y)


def shear_y(shear: float) -> Reading:
    return lambda x, y: (x, y + shear * x)


def translation(right: float, down: float) -> Reading:
    """Where it is read: to the right, so that the picture moves to the left."""
    return lambda x, y: (x + right, y + down)


def moved(values: np.ndarray, read: Reading, fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (h, w, ...) read at the nearest place, and where (h, w) no rounding could decide."""
    height, width = values.shape[:2]
    result, is_sure = np.full_like(values, fill), np.ones((height, width), bool)
    for row, column in np.ndindex(height, width):
        x, y = read(column + 0.5, row + 0.5)
        is_sure[row, column] = min(abs(x - round(x)), abs(y - round(y))) > ROUNDING_PX
        if 0 <= x < width and 0 <= y < height:
            result[row, column] = values[int(y), int(x)]
    return result, is_sure
