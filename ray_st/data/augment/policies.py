"""The policies as data: each line is a sub-policy as the paper's listing prints it.

In: lines such as "TranslateX_BBox .6/4 + Equalize .8/10" (probability / level of each operation).
Out: `Policy`, a table from which every image draws. Next: `config.py`.

AutoAugment draws one line an image. RandAugment is a table too: an operation a line, that always
fires, all at one level, and several draws an image.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ray_st.config import UserError, require
from ray_st.data.augment.operations import (
    AUTOAUGMENT_RANGES,
    MAX_LEVEL,
    RANDAUGMENT_RANGES,
    Ranges,
    apply_operation,
    names,
)
from ray_st.data.augment.scene import Scene

# Learned for detection on COCO (Zoph et al. 2019); v0 is the one that its authors used.
V0 = (
    "TranslateX_BBox .6/4 + Equalize .8/10",
    "TranslateY_Only_BBoxes .2/2 + Cutout .8/8",
    "Sharpness 0/8 + ShearX_BBox .4/0",
    "ShearY_BBox 1/2 + TranslateY_Only_BBoxes .6/6",
    "Rotate_BBox .6/10 + Color 1/6",
)
V1 = (
    *V0,
    "Color 0/0 + ShearX_Only_BBoxes .8/4",
    "ShearY_Only_BBoxes .8/2 + Flip_Only_BBoxes 0/10",
    "Equalize .6/10 + TranslateX_BBox .2/2",
    "Color 1/10 + TranslateY_Only_BBoxes .4/6",
    "Rotate_BBox .8/10 + Contrast 0/10",
    "Cutout .2/2 + Brightness .8/10",
    "Color 1/6 + Equalize 1/2",
    "Cutout_Only_BBoxes .4/6 + TranslateY_Only_BBoxes .8/2",
    "Color .2/8 + Rotate_BBox .8/10",
    "Sharpness .4/4 + TranslateY_Only_BBoxes 0/4",
    "Sharpness 1/4 + SolarizeAdd .4/4",
    "Rotate_BBox 1/8 + Sharpness .2/8",
    "ShearY_BBox .6/10 + Equalize_Only_BBoxes .6/8",
    "ShearX_BBox .2/6 + TranslateY_Only_BBoxes .2/10",
    "SolarizeAdd .6/8 + Brightness .8/10",
)
V2 = (
    "Color 0/6 + Cutout .6/8 + Sharpness .4/8",
    "Rotate_BBox .4/8 + Sharpness .4/2 + Rotate_BBox .8/10",
    "TranslateY_BBox 1/8 + AutoContrast .8/2",
    "AutoContrast .4/6 + ShearX_BBox .8/8 + Brightness 0/10",
    "SolarizeAdd .2/6 + Contrast 0/10 + AutoContrast .6/0",
    "Cutout .2/0 + Solarize .8/8 + Color 1/4",
    "TranslateY_BBox 0/4 + Equalize .6/8 + Solarize 0/10",
    "TranslateY_BBox .2/2 + ShearY_BBox .8/8 + Rotate_BBox .8/8",
    "Cutout .8/8 + Brightness .8/8 + Cutout .2/2",
    "Color .8/4 + TranslateY_BBox 1/6 + Rotate_BBox .6/6",
    "Rotate_BBox .6/10 + BBox_Cutout 1/4 + Cutout .2/8",
    "Rotate_BBox 0/0 + Equalize .6/6 + ShearY_BBox .6/8",
    "Brightness .8/8 + AutoContrast .4/2 + Brightness .2/2",
    "TranslateY_BBox .4/8 + Solarize .4/6 + SolarizeAdd .2/10",
    "Contrast 1/10 + SolarizeAdd .2/8 + Equalize .2/4",
)
V3 = (
    "Posterize .8/2 + TranslateX_BBox 1/8",
    "BBox_Cutout .2/10 + Sharpness 1/8",
    "Rotate_BBox .6/8 + Rotate_BBox .8/10",
    "Equalize .8/10 + AutoContrast .2/10",
    "SolarizeAdd .2/2 + TranslateY_BBox .2/8",
    "Sharpness 0/2 + Color .4/8",
    "Equalize 1/8 + TranslateY_BBox 1/8",
    "Posterize .6/2 + Rotate_BBox 0/10",
    "AutoContrast .6/0 + Rotate_BBox 1/6",
    "Equalize 0/4 + Cutout .8/10",
    "Brightness 1/2 + TranslateY_BBox 1/6",
    "Contrast 0/2 + ShearY_BBox .8/0",
    "AutoContrast .8/10 + Contrast .2/10",
    "Rotate_BBox 1/10 + Cutout 1/10",
    "SolarizeAdd .8/6 + Equalize .8/8",
)
AUTOAUGMENT = {"v0": V0, "v1": V1, "v2": V2, "v3": V3}

RANDAUGMENT = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate_BBox",
    "Posterize",
    "Solarize",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX_BBox",
    "ShearY_BBox",
    "TranslateX_BBox",
    "TranslateY_BBox",
    "Cutout",
    "SolarizeAdd",
    "Identity",  # not in the paper's list of 16; the authors' detection code adds it
)

_STEP = re.compile(r"(\w+)\s+(\d*\.?\d+)/(\d*\.?\d+)")


@dataclass(frozen=True)
class Step:
    """One operation of a sub-policy."""

    operation: str
    probability: float  # 0..1
    level: float  # from 0; 10 is the largest that was searched


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A table of sub-policies; every image draws from it, each line with equal chance."""

    table: tuple[tuple[Step, ...], ...] = ()
    draws: int = 1  # an image
    ranges: Ranges = AUTOAUGMENT_RANGES

    @classmethod
    def autoaugment(cls, lines: Iterable[str], field: str = "sub_policies") -> Policy:
        """Read sub-policies; a `UserError` names `field`."""
        return cls(table=tuple(read_line(line, field) for line in lines))

    @classmethod
    def randaugment(cls, operations: Iterable[str], *, layers: int, magnitude: float) -> Policy:
        """Any `layers` of these operations, each at level `magnitude`."""
        table = tuple((Step(name, 1.0, magnitude),) for name in operations)
        return cls(table=table, draws=layers, ranges=RANDAUGMENT_RANGES)

    def __call__(self, scene: Scene, rng: np.random.Generator) -> Scene:
        """Vary a scene; the same generator state gives the same one."""
        for _ in range(self.draws if self.table else 0):
            for step in self.table[rng.integers(len(self.table))]:
                scene = apply_operation(
                    scene, step.operation, step.probability, step.level, self.ranges, rng
                )
        return scene


def read_line(line: str, field: str) -> tuple[Step, ...]:
    """Read "Operation probability/level + ..."; a `UserError` names `field`."""
    steps = []
    for text in map(str.strip, line.split("+")):
        found = _STEP.fullmatch(text)
        if found is None:
            example = "write Rotate_BBox .6/10 + Color 1/6"
            raise UserError(f"{field}: {text!r} is no OPERATION PROBABILITY/LEVEL; {example}")
        step = Step(found[1], float(found[2]), float(found[3]))
        require_known(step.operation, field)
        in_range = step.probability <= 1 and step.level <= MAX_LEVEL
        require(in_range, field, f"probability 0 to 1 / level 0 to {MAX_LEVEL}", text)
        steps.append(step)
    return tuple(steps)


def require_known(operation: str, field: str) -> None:
    """Refuse an operation that does not exist, with the nearest one that does."""
    if operation not in names():
        near = difflib.get_close_matches(operation, names(), 1, 0.0)[0]
        raise UserError(f"{field}: {operation!r} is no operation; did you mean {near}?")
