"""Changes of place: pixels and labels move together, and the frame stays.

In: a `Scene` and an argument. Out: a `Scene`. Pillow moves pixels, by nearest neighbour as in the
authors' code; labels move themselves. Next: `erase.py`.
"""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from ray_st.data.affine import Affine
from ray_st.data.augment.scene import Scene

FILL_RGB = (128, 128, 128)  # where nothing of the image is


def rotate(scene: Scene, degrees: float) -> Scene:
    """Turn about the middle, counter-clockwise."""
    return _warped(scene, Affine.rotation(degrees, scene.size_hw))


def shear_x(scene: Scene, shear: float) -> Scene:
    """Move each row to the left by `shear` times its distance from the top."""
    return _warped(scene, Affine(b=shear))


def shear_y(scene: Scene, shear: float) -> Scene:
    """Move each column up by `shear` times its distance from the left."""
    return _warped(scene, Affine(d=shear))


def translate_x(scene: Scene, amount: float) -> Scene:
    """Move to the left by so many pixels of the policy's listing."""
    return _warped(scene, Affine(c=amount * scene.unit_px))


def translate_y(scene: Scene, amount: float) -> Scene:
    """Move up by so many pixels of the policy's listing."""
    return _warped(scene, Affine(f=amount * scene.unit_px))


def flip(scene: Scene) -> Scene:
    """Mirror left to right."""
    mirrored = scene.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return replace(scene, image=mirrored, labels=scene.labels.mirrored(scene.size_hw[1]))


def _warped(scene: Scene, warp: Affine) -> Scene:
    image = scene.image.transform(
        scene.image.size,
        Image.Transform.AFFINE,
        warp.scaled(scene.ratio_xy).coefficients,
        Image.Resampling.NEAREST,
        fillcolor=FILL_RGB,
    )
    return replace(scene, image=image, labels=scene.labels.warped(warp, scene.size_hw))
