"""Grey rectangles over a part of an image; labels stay, for what is left must tell of them.

In: a `Scene`, an argument and a generator. Out: a `Scene`. Next: `operations.py`.
"""

from __future__ import annotations

import numpy as np

from ray_st.data.augment.scene import Scene
from ray_st.data.augment.warp import FILL_RGB


def cutout(scene: Scene, half_side: float, rng: np.random.Generator) -> Scene:
    """Cover a square whose middle lies anywhere in the image, in pixels of the policy's listing."""
    height, width = scene.size_hw
    middle_xy = rng.uniform(0, (width, height))
    return _covered(scene, middle_xy, np.full(2, half_side * scene.unit_px))


def bbox_cutout(scene: Scene, share: float, rng: np.random.Generator) -> Scene:
    """Cover a part of one object: a rectangle of `share` of its sides about a place within it."""
    objects = scene.labels.objects_xyxy()
    if not len(objects):
        return scene
    low, high = objects[rng.integers(len(objects))].reshape(2, 2)
    return _covered(scene, rng.uniform(low, np.maximum(low, high)), share * (high - low) / 2)


def _covered(scene: Scene, middle_xy: np.ndarray, half_xy: np.ndarray) -> Scene:
    ratio, limit = np.array(scene.ratio_xy), np.array(scene.image.size)
    corners = [(middle_xy + sign * half_xy) * ratio for sign in (-1, 1)]
    left, top, right, bottom = np.clip(np.rint(corners), 0, limit).astype(int).ravel().tolist()
    if left >= right or top >= bottom:
        return scene
    image = scene.image.copy()
    image.paste(FILL_RGB, (left, top, right, bottom))
    return scene.shown(image)
