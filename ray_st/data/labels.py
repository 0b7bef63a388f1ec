"""What is known of one image: boxes, classes, scores, and who said so.

In: nothing. Out: `Origin` and `Detections`, plain numpy, no torch, no Ray. Next: `rows.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32


class Origin(IntEnum):
    """Who labelled an image."""

    HUMAN = 0
    PSEUDO = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """The boxes of one image; every field has one entry a box, none for an empty image.

    Coordinates are pixels, of the source image at rest and of the view in a batch.
    """

    boxes_xyxy: Float32[np.ndarray, "n 4"]  # left, top, right, bottom; right > left, bottom > top
    class_ids: Int32[np.ndarray, " n"]  # index into the data set's class list, from 0
    scores: Float32[np.ndarray, " n"]  # 0..1; 1 for a human label
    is_crowd: Bool[np.ndarray, " n"]  # a region of many objects: never a target, never an error
    areas_px: Float32[np.ndarray, " n"]  # the source's own area, for AP by size

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def __getitem__(self, chosen: np.ndarray | slice) -> Detections:
        """Choose boxes by mask, indices or slice, in all fields at once."""
        return Detections(
            boxes_xyxy=self.boxes_xyxy[chosen],
            class_ids=self.class_ids[chosen],
            scores=self.scores[chosen],
            is_crowd=self.is_crowd[chosen],
            areas_px=self.areas_px[chosen],
        )

    def with_boxes(self, boxes_xyxy: np.ndarray) -> Detections:
        """Give the same objects other coordinates; the source's areas stay."""
        return Detections(
            boxes_xyxy=np.asarray(boxes_xyxy, np.float32).reshape(-1, 4),
            class_ids=self.class_ids,
            scores=self.scores,
            is_crowd=self.is_crowd,
            areas_px=self.areas_px,
        )

    @classmethod
    def of(
        cls,
        boxes_xyxy: Sequence[Any] | np.ndarray = (),
        class_ids: Sequence[int] | np.ndarray = (),
        *,
        scores: Sequence[Any] | np.ndarray | None = None,
        is_crowd: Sequence[bool] | np.ndarray | None = None,
        areas_px: Sequence[Any] | np.ndarray | None = None,
    ) -> Detections:
        """Build from plain lists. Scores default to 1, areas to those of the boxes."""
        boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
        count = len(boxes)
        box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return cls(
            boxes_xyxy=boxes,
            class_ids=np.asarray(class_ids, np.int32).reshape(count),
            scores=np.ones(count, np.float32) if scores is None else np.asarray(scores, np.float32),
            is_crowd=np.zeros(count, bool) if is_crowd is None else np.asarray(is_crowd, bool),
            areas_px=box_areas if areas_px is None else np.asarray(areas_px, np.float32),
        )
