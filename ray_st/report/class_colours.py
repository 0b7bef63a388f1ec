"""One colour a class, for class maps of any data set, told apart by the colour-blind too.

In: nothing. Out: colours by class id. Next: `drawing`.

The first eight are a dark grey, often the background, and the set of Okabe and Ito. Every further
one is the colour that is farthest from all before it, for whoever tells them apart worst: people
with full colour vision, or without red or green cones. So only higher ids come close to others.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from jaxtyping import Float64, UInt8

NUM_COLOURS = 255  # class ids of a class map
_FIRST: Final = np.array(
    [[95, 95, 95], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178],
     [213, 94, 0], [204, 121, 167]], np.uint8,
)  # fmt: skip
_STEPS = 12  # of each channel, among the colours to choose from
_LIGHTNESS = (0.4, 0.9)  # neither lost on a dark photograph nor on a light one
_COLOUR_BLIND_WEIGHT = 1.5  # their colours lie closer together: without it, hues would hardly vary

# Linear RGB as seen without red and without green cones: Machado et al. 2009, severity 1.
_VISIONS: Final = (
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
              [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
              [-0.011820, 0.042940, 0.968881]]),
)  # fmt: skip

# Linear RGB to cone responses to OKLab (Ottosson 2020), in which distance is what eyes say it is.
_TO_CONES: Final = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                             [0.2119034982, 0.6806995451, 0.1073969566],
                             [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
_TO_LAB: Final = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                           [1.9779984951, -2.4285922050, 0.4505937099],
                           [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip


@cache
def class_colours() -> UInt8[np.ndarray, "k 3"]:
    """`NUM_COLOURS` colours as sRGB, all different, always the same."""
    steps = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    lightness = as_seen(grid)[0, :, 0]
    grid = grid[(lightness >= _LIGHTNESS[0]) & (lightness <= _LIGHTNESS[1])]
    colours = np.concatenate([_FIRST, grid])
    labs = as_seen(colours)
    labs[1:] *= _COLOUR_BLIND_WEIGHT
    chosen: list[int] = []
    nearest = np.full(len(colours), np.inf)
    while len(chosen) < NUM_COLOURS:
        chosen.append(len(chosen) if len(chosen) < len(_FIRST) else int(nearest.argmax()))
        distance = np.linalg.norm(labs - labs[:, chosen[-1:]], axis=2).min(axis=0)
        nearest = np.minimum(nearest, distance)
    return colours[chosen]


def as_seen(colours: UInt8[np.ndarray, "n 3"]) -> Float64[np.ndarray, "v n 3"]:
    """OKLab of sRGB colours: with full colour vision, without red, and without green cones."""
    srgb = colours / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    visions = np.stack([linear @ vision.T for vision in _VISIONS]).clip(0, 1)
    labs: np.ndarray = np.cbrt(visions @ _TO_CONES.T) @ _TO_LAB.T
    return labs
