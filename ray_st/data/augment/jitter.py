"""Colours that vary while the scene stays: jitter and grey, as in SimCLR (appendix A).

In: uint8 pixels (h, w, 3) and a generator. Out: pixels of the same shape. Labels do not change.
Next: `view.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

JITTER_PROBABILITY = 0.8  # an image in five keeps its colours, so that these are learned too
BLEND_RANGE = 0.8  # of brightness, contrast and saturation, at strength 1
HUE_RANGE = 0.2  # of the colour circle, to either side, at strength 1


def jittered(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue, in random order, of most images.

    A factor of 1 +- 0.8 * strength for the first three, a turn of +- 0.2 * strength for the hue.
    """
    is_jittered = rng.random() < JITTER_PROBABILITY
    factors = 1 + BLEND_RANGE * strength * rng.uniform(-1, 1, 3)
    turn = HUE_RANGE * strength * float(rng.uniform(-1, 1))
    order = rng.permutation(4)
    if not is_jittered:
        return pixels
    changes: list[Callable[[Image.Image], Image.Image]] = [
        lambda image: ImageEnhance.Brightness(image).enhance(factors[0]),
        lambda image: ImageEnhance.Contrast(image).enhance(factors[1]),
        lambda image: ImageEnhance.Color(image).enhance(factors[2]),
        lambda image: _turned(image, turn),
    ]
    image = Image.fromarray(pixels)
    for i in order:
        image = changes[i](image)
    return np.array(image)


def greyed(pixels: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Take the colours away from some images."""
    if rng.random() >= probability:
        return pixels
    return np.array(Image.fromarray(pixels).convert("L").convert("RGB"))


def _turned(image: Image.Image, turn: float) -> Image.Image:
    steps = round(turn * 256)  # Pillow's circle has 256 steps
    if steps == 0:  # the way to HSV and back is not without loss
        return image
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(step + steps) % 256 for step in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
