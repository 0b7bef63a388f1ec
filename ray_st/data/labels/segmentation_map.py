"""The class of every pixel of one image.

In: an array, or a PNG. Out: `SegmentationMap`. Next: `class_label.py`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8
from PIL import Image

from ray_st.data.affine import Affine
from ray_st.data.labels.labels import Labels
from ray_st.data.placed import Placed

IGNORE = 255
"""Class id of a pixel that counts for nothing, in the loss and in the metric."""

_PNG_LEVEL = 1  # a map shrinks to a hundredth at any level, and this is the fastest


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationMap(Labels):
    """One class id a pixel; 0 x 0 for an image of which nothing is known.

    Confidences are those of raw predictions, and of soft targets.
    """

    class_map: UInt8[np.ndarray, "h w"]  # index into the data set's class list, or IGNORE
    confidence: UInt8[np.ndarray, "h w"] | None = None  # probability * 255, rounded down; None: 1

    AMOUNT: ClassVar[str] = "labelled_share"
    # "large": the maps of one set may pass the 2 GiB at which plain binary columns end.
    FIELDS: ClassVar[pa.Schema] = pa.schema(
        [("class_map_png", pa.large_binary()), ("confidence_png", pa.large_binary())]
    )

    @classmethod
    def unknown(cls) -> SegmentationMap:
        """A map without pixels."""
        return cls(class_map=np.zeros((0, 0), np.uint8))

    @classmethod
    def to_columns(cls, labels: Sequence[SegmentationMap]) -> list[pa.Array]:
        """Two PNGs an image; null for what is not known."""
        maps = [_to_png(one.class_map) for one in labels]
        confidences = [
            None if one.confidence is None else _to_png(one.confidence) for one in labels
        ]
        return [pa.array(pngs, pa.large_binary()) for pngs in (maps, confidences)]

    @classmethod
    def from_columns(cls, table: pa.Table) -> list[SegmentationMap]:
        """Decode every map of a table."""
        maps, confidences = (table.column(name).to_pylist() for name in cls.FIELDS.names)
        return [
            cls.unknown()
            if png is None
            else cls(
                class_map=_from_png(png),
                confidence=None if confidence is None else _from_png(confidence),
            )
            for png, confidence in zip(maps, confidences, strict=True)
        ]

    @classmethod
    def any_in(cls, table: pa.Table) -> bool:
        """Say whether a map has a pixel that is not IGNORE; decodes them until one has."""
        pngs = (png.as_py() for png in table["class_map_png"] if png.is_valid)
        return any(bool((_from_png(png) != IGNORE).any()) for png in pngs)

    @property
    def is_soft(self) -> bool:
        """Whether pixels have probabilities."""
        return self.confidence is not None

    def amount(self) -> float:
        """Share 0..1 of the pixels that have a class."""
        return float((self.class_map != IGNORE).mean()) if self.class_map.size else 0.0

    def above(self, threshold: float) -> SegmentationMap:
        """Set pixels of less confidence to IGNORE; the confidences themselves are dropped.

        A pixel is never kept below the threshold; within 1/255 above it, it may be lost.
        """
        if self.confidence is None:
            return self
        kept = self.confidence >= np.ceil(threshold * 255)
        return SegmentationMap(class_map=np.where(kept, self.class_map, np.uint8(IGNORE)))

    def mirrored(self, width_px: int) -> SegmentationMap:
        """Mirror the map."""
        del width_px
        return self._changed(lambda plane: np.ascontiguousarray(plane[:, ::-1]))

    def warped(self, warp: Affine, size_hw: tuple[int, int]) -> SegmentationMap:
        """Warp by nearest pixel; what comes in from outside is IGNORE."""
        if not self.class_map.size:
            return self
        return self._changed(lambda plane: _warped(_resized(plane, size_hw), warp))

    def in_view(self, placed: Placed, shown_hw: tuple[int, int], size_px: int) -> SegmentationMap:
        """Resize by nearest pixel, crop; padding is IGNORE."""

        def shown(plane: np.ndarray) -> np.ndarray:
            view = np.full((size_px, size_px), IGNORE, np.uint8)
            if plane.size:
                left, top = (round(-offset) for offset in placed.offset_xy)
                resized = _resized(plane, placed.resized_hw)
                seen = resized[top : top + shown_hw[0], left : left + shown_hw[1]]
                view[: seen.shape[0], : seen.shape[1]] = seen
            return view

        return self._changed(shown)

    def in_source(self, placed: Placed) -> SegmentationMap:
        """Cut the padding off and resize to the source image, by nearest pixel."""
        assert not any(placed.offset_xy), "of a cropped image not every pixel is known"
        if not self.class_map.size:
            return self
        height, width = placed.resized_hw
        return self._changed(lambda plane: _resized(plane[:height, :width], placed.size_hw))

    def _changed(self, change: Callable[[np.ndarray], np.ndarray]) -> SegmentationMap:
        """Do the same to the map and to its confidences."""
        confidence = None if self.confidence is None else change(self.confidence)
        return SegmentationMap(class_map=change(self.class_map), confidence=confidence)


def _resized(values: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    if values.shape == size_hw:
        return values
    image = Image.fromarray(np.ascontiguousarray(values))
    return np.array(image.resize(size_hw[::-1], Image.Resampling.NEAREST))


def _warped(values: np.ndarray, warp: Affine) -> np.ndarray:
    image = Image.fromarray(values)
    return np.array(
        image.transform(
            image.size,
            Image.Transform.AFFINE,
            warp.coefficients,
            Image.Resampling.NEAREST,
            fillcolor=IGNORE,
        )
    )


def _to_png(values: np.ndarray) -> bytes | None:
    if not values.size:
        return None
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def _from_png(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.array(image)
