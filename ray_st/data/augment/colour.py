"""Whole-image changes of colour, as the authors' policies name them; labels do not change.

In: a `Scene` and an argument. Out: a `Scene`. Pillow computes them. Next: `warp.py`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageEnhance, ImageOps

from ray_st.data.augment.scene import Scene

_HALF = 128  # below it, SolarizeAdd adds
_BINS = 256


def auto_contrast(scene: Scene) -> Scene:
    """Stretch each channel over 0..255."""
    return scene.shown(ImageOps.autocontrast(scene.image))


def equalize(scene: Scene) -> Scene:
    """Make all levels of each channel equally common."""
    return scene.shown(ImageOps.equalize(scene.image))


def invert(scene: Scene) -> Scene:
    """Give the negative."""
    return scene.shown(ImageChops.invert(scene.image))


def posterize(scene: Scene, bits: float) -> Scene:
    """Keep the highest `bits` of eight; at least one, as TensorFlow's shift does."""
    return scene.shown(ImageOps.posterize(scene.image, int(np.clip(bits, 1, 8))))


def solarize(scene: Scene, threshold: float) -> Scene:
    """Invert what is not darker than `threshold`, 0..256."""
    return scene.shown(ImageOps.solarize(scene.image, int(threshold)))


def solarize_add(scene: Scene, addition: float) -> Scene:
    """Brighten what is darker than half by `addition`."""
    table = [min(level + int(addition), 255) if level < _HALF else level for level in range(256)]
    return scene.shown(scene.image.point(table * 3))


def color(scene: Scene, factor: float) -> Scene:
    """Blend with the grey image: 0 is grey, 1 as it was, 2 twice as colourful."""
    return scene.shown(ImageEnhance.Color(scene.image).enhance(factor))


def brightness(scene: Scene, factor: float) -> Scene:
    """Blend with black: 0 is black, 1 as it was."""
    return scene.shown(ImageEnhance.Brightness(scene.image).enhance(factor))


def sharpness(scene: Scene, factor: float) -> Scene:
    """Blend with a smoothed image: 0 is smooth, 1 as it was, 2 sharp."""
    return scene.shown(ImageEnhance.Sharpness(scene.image).enhance(factor))


def contrast(scene: Scene, factor: float) -> Scene:
    """Blend with one grey. It is not the image's mean, but its number of pixels / 256, up to 255.

    The authors' code sums a histogram's counts where it means to average its levels: from 256 x 256
    pixels on, this blends with white. It counts pixels of the source, at whatever size it was read.
    """
    count = scene.size_hw[0] * scene.size_hw[1]
    level = min(count // _BINS, 255)
    ground = Image.new("RGB", scene.image.size, (level, level, level))
    return scene.shown(Image.blend(ground, scene.image, factor))
