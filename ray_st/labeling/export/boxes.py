"""The boxes of a few hundred images, ready to be printed.

In: LABEL_ROWs of detections. Out: `BoxPart`. Next: `tree.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from ray_st.data.boxes import clip
from ray_st.data.labels import Detections

_IMAGES = 256  # a Python object a box and more: a hundred boxes an image are then some 10 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """An image without its labels."""

    image_id: int
    uri: str
    height_px: int
    width_px: int


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxPart:
    """Boxes as one flat array, inside their images, and whose they are."""

    frames: list[Frame]
    row: np.ndarray  # (n,) of each box; never falls
    found: Detections  # all boxes as one
    boxes_xyxy: np.ndarray  # (n, 4) float64

    @classmethod
    def of(cls, rows: pa.Table) -> BoxPart:
        """Read LABEL_ROWs."""
        row, found = Detections.together(rows)
        sizes_hw = np.stack([np.asarray(rows[name]) for name in ("height_px", "width_px")], axis=1)
        return cls(
            frames=frames_of(rows),
            row=row,
            found=found,
            boxes_xyxy=clip(found.boxes_xyxy.astype(np.float64), sizes_hw[row]),
        )

    def apart(self, texts: Sequence[str]) -> Iterator[tuple[Frame, list[str]]]:
        """Each image with the texts of its boxes, of which there is one a box."""
        starts = np.searchsorted(self.row, np.arange(len(self.frames) + 1)).tolist()
        for frame, (start, end) in zip(self.frames, pairwise(starts), strict=True):
            yield frame, list(texts[start:end])

    def counts(self) -> Counter[str]:
        """What a summary says; an image whose boxes are all crowd regions is empty."""
        is_box = ~self.found.is_crowd
        return Counter(
            images=len(self.frames),
            boxes=int(is_box.sum()),
            crowd_regions=int(self.found.is_crowd.sum()),
            empty=len(self.frames) - len(np.unique(self.row[is_box])),
        )


def box_parts(parts: Iterable[pa.Table]) -> Iterator[BoxPart]:
    """The same LABEL_ROWs in smaller parts."""
    for rows in parts:
        for start in range(0, rows.num_rows, _IMAGES):
            yield BoxPart.of(rows.slice(start, _IMAGES))


def frames_of(rows: pa.Table) -> list[Frame]:
    """The images of LABEL_ROWs of any kind."""
    names = ("image_id", "uri", "height_px", "width_px")
    plain: list[dict[str, Any]] = rows.select(names).to_pylist()
    return [Frame(**each) for each in plain]
