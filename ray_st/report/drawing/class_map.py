"""Lay class maps over a picture: a colour a class, pixels without a class hatched.

In: `Seen` with a `SegmentationMap`. Out: a `Drawing`. Next: `class_label.py`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ray_st.data.labels import IGNORE
from ray_st.report.class_colours import class_colours
from ray_st.report.drawing.drawing import Drawing, Seen, Swatch

STRENGTH = 0.5  # of the colours over the picture
_EDGE = 0.35  # of the picture's light that is left where two classes meet
_HATCH_PX = 8  # from line to line
_NO_CLASS = "no label"


def draw_class_map(seen: Seen) -> Drawing:
    """Draw the class of every pixel; the caption compares with people, pixel by pixel."""
    class_map = _of_size(seen.labels.class_map, seen.picture.size)
    truth = None if seen.truth is None else _of_size(seen.truth.class_map, seen.picture.size)
    canvas = seen.enlarged()
    shares = np.bincount(class_map.ravel(), minlength=IGNORE + 1) / class_map.size
    ids: list[int] = np.flatnonzero(shares).tolist()
    largest = sorted(ids, key=lambda i: -shares[i])
    return Drawing(
        canvas=_overlaid(canvas, _of_size(class_map, canvas.size)),
        caption=_caption(class_map, truth, len({*ids} - {IGNORE})),
        words=", ".join(f"{_name(seen, i)} {_percent(shares[i])}" for i in largest),
        legend=tuple(Swatch(i, _name(seen, i), _colour(i)) for i in ids),
    )


def _of_size(class_map: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Fit a map to a picture, by nearest pixel; a map that is not known has no class anywhere."""
    if not class_map.size:
        return np.full(size_wh[::-1], IGNORE, np.uint8)
    if class_map.shape == size_wh[::-1]:
        return class_map
    return np.array(Image.fromarray(class_map).resize(size_wh, Image.Resampling.NEAREST))


def _overlaid(canvas: Image.Image, class_map: np.ndarray) -> Image.Image:
    pixels = np.asarray(canvas).astype(np.float32)
    labelled = class_map != IGNORE
    colours = class_colours()[class_map[labelled]]
    pixels[labelled] = (1 - STRENGTH) * pixels[labelled] + STRENGTH * colours
    diagonal = np.indices(class_map.shape).sum(axis=0) % _HATCH_PX
    for place, light in ((0, 235), (1, 25)):  # side by side: one of them shows on any ground
        pixels[~labelled & (diagonal == place)] = light
    pixels[_edges(class_map)] *= _EDGE
    return Image.fromarray(pixels.round().astype(np.uint8))


def _edges(class_map: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour has another class."""
    edges = np.zeros(class_map.shape, bool)
    edges[:, :-1] |= class_map[:, :-1] != class_map[:, 1:]
    edges[:-1] |= class_map[:-1] != class_map[1:]
    return edges


def _caption(class_map: np.ndarray, truth: np.ndarray | None, num_classes: int) -> str:
    if not num_classes:
        return _NO_CLASS
    said = f"{num_classes} {'class' if num_classes == 1 else 'classes'}"
    if truth is not None and (truth != IGNORE).any():
        right = np.equal(class_map, truth)[truth != IGNORE]
        return f"{said}, {_percent(right.mean())} right"
    labelled = class_map != IGNORE
    return said if labelled.all() else f"{said}, {_percent(labelled.mean())} labelled"


def _percent(share: float) -> str:
    """Whole percent, but never 0% of something or 100% of less than all."""
    return "<1%" if 0 < share < 0.01 else ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def _name(seen: Seen, class_id: int) -> str:
    return _NO_CLASS if class_id == IGNORE else seen.class_name(class_id)


def _colour(class_id: int) -> str:
    return "" if class_id == IGNORE else f"#{bytes(class_colours()[class_id]).hex()}"
