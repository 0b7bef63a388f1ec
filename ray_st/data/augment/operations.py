"""Every operation by the name that the authors' listing gives it, and what a level of 0..10 means.

In: a name, a level, a `Scene`. Out: a `Scene`. Next: `policies.py`.

Source: fact by fact the listing of the authors' detection code; its maximum level is 10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ray_st.data.augment import colour, erase, warp
from ray_st.data.augment.scene import Scene
from ray_st.data.labels import ClassLabel

MAX_LEVEL = 10
_ONLY = "_Only_BBoxes"
_ONLY_SHARE = 1 / 3  # of the probability that is listed: how often each box is changed


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Largest amounts, in pixels of a listing; they differ from policy to policy."""

    translate_px: float
    cutout_px: float  # half a side


AUTOAUGMENT_RANGES = Ranges(translate_px=250.0, cutout_px=100.0)
RANDAUGMENT_RANGES = Ranges(translate_px=100.0, cutout_px=40.0)
_ONLY_RANGES = Ranges(translate_px=120.0, cutout_px=50.0)

Apply = Callable[[Scene, float, np.random.Generator], Scene]  # the float is what a level means
Meaning = Callable[[float, Ranges], float]  # of level / 10


@dataclass(frozen=True)
class Operation:
    """What it does, and how a level becomes its argument."""

    apply: Apply
    meaning: Meaning = lambda share, _: share

    def __call__(
        self, scene: Scene, level: float, ranges: Ranges, rng: np.random.Generator
    ) -> Scene:
        """Change a scene."""
        return self.apply(scene, self.meaning(level / MAX_LEVEL, ranges), rng)


def apply_operation(
    scene: Scene,
    name: str,
    probability: float,
    level: float,
    ranges: Ranges,
    rng: np.random.Generator,
) -> Scene:
    """Change the image, or each of its boxes, with a probability."""
    if name.endswith(_ONLY):
        return _in_boxes(scene, OPERATIONS[_WHOLE[name]], probability, level, rng)
    if rng.random() >= probability:
        return scene
    return OPERATIONS[name](scene, level, ranges, rng)


def names() -> list[str]:
    """Every name that a policy may use."""
    return [*OPERATIONS, *_WHOLE]


def _in_boxes(
    scene: Scene, operation: Operation, probability: float, level: float, rng: np.random.Generator
) -> Scene:
    """Change what is inside of boxes, each as an image of its own; the boxes stay."""
    image = scene.image.copy()
    objects = scene.labels.objects_xyxy() * np.tile(scene.ratio_xy, 2)
    limit = np.array([*image.size, *image.size])
    for box in rng.permutation(objects):
        if rng.random() >= probability * _ONLY_SHARE:
            continue
        corners = np.concatenate([np.floor(box[:2]), np.ceil(box[2:])])
        left, top, right, bottom = np.clip(corners, 0, limit).astype(int).tolist()
        if left >= right or top >= bottom:
            continue
        inside = Scene(
            image=image.crop((left, top, right, bottom)),
            labels=ClassLabel.unknown(),
            size_hw=_source_hw((bottom - top, right - left), scene.ratio_xy),
            unit_px=scene.unit_px,
        )
        image.paste(operation(inside, level, _ONLY_RANGES, rng).image, (left, top))
    return scene.shown(image)


def _source_hw(size_hw: tuple[int, int], ratio_xy: tuple[float, float]) -> tuple[int, int]:
    return max(1, round(size_hw[0] / ratio_xy[1])), max(1, round(size_hw[1] / ratio_xy[0]))


def _plain(change: Callable[[Scene], Scene]) -> Operation:
    return Operation(lambda scene, _, __: change(scene))


def _blend(change: Callable[[Scene, float], Scene]) -> Operation:
    return Operation(
        lambda scene, factor, _: change(scene, factor), lambda share, _: 1.8 * share + 0.1
    )


def _signed(change: Callable[[Scene, float], Scene], meaning: Meaning) -> Operation:
    """Either way with equal chance."""

    def apply(scene: Scene, argument: float, rng: np.random.Generator) -> Scene:
        return change(scene, argument if rng.random() < 0.5 else -argument)

    return Operation(apply, meaning)


def _level(change: Callable[[Scene, float], Scene], most: int) -> Operation:
    """A whole number, rounded down."""
    return Operation(lambda scene, argument, _: change(scene, argument),
                     lambda share, _: int(share * most))  # fmt: skip


OPERATIONS: dict[str, Operation] = {
    "Identity": _plain(lambda scene: scene),
    "AutoContrast": _plain(colour.auto_contrast),
    "Equalize": _plain(colour.equalize),
    "Invert": _plain(colour.invert),
    "Posterize": _level(colour.posterize, 4),
    "Solarize": _level(colour.solarize, 256),
    "SolarizeAdd": _level(colour.solarize_add, 110),
    "Color": _blend(colour.color),
    "Contrast": _blend(colour.contrast),
    "Brightness": _blend(colour.brightness),
    "Sharpness": _blend(colour.sharpness),
    "Rotate_BBox": _signed(warp.rotate, lambda share, _: 30 * share),
    "ShearX_BBox": _signed(warp.shear_x, lambda share, _: 0.3 * share),
    "ShearY_BBox": _signed(warp.shear_y, lambda share, _: 0.3 * share),
    "TranslateX_BBox": _signed(warp.translate_x, lambda share, to: share * to.translate_px),
    "TranslateY_BBox": _signed(warp.translate_y, lambda share, to: share * to.translate_px),
    "Flip": _plain(warp.flip),
    "Cutout": Operation(erase.cutout, lambda share, to: int(share * to.cutout_px)),
    "BBox_Cutout": Operation(erase.bbox_cutout, lambda share, _: 0.75 * share),
}

# Of an operation that moves a box, the form within boxes has a name without that.
_WHOLE = {
    name.removesuffix("_BBox") + _ONLY: name
    for name in OPERATIONS
    if name not in ("Identity", "BBox_Cutout")
}
