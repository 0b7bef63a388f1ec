"""Boxes, classes and scores of the objects in one image.

In: plain lists or arrays. Out: `Detections`, plain numpy. Next: `segmentation_map.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int32

from ray_st.data import boxes
from ray_st.data.affine import Affine
from ray_st.data.labels import ragged
from ray_st.data.labels.labels import Labels
from ray_st.data.labels.ragged import ragged_columns, split
from ray_st.data.placed import Placed

_RIM = 0.05  # of the image's side: how wide a box is that a warp took wholly out of the image
_MIN_SIDE_PX = 1.0  # a box cut down to less than this shows nothing of its object


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections(Labels):
    """The boxes of one image; every field has one entry a box, none for an empty image."""

    boxes_xyxy: Float32[np.ndarray, "n 4"]  # left, top, right, bottom; right > left, bottom > top
    class_ids: Int32[np.ndarray, " n"]  # index into the data set's class list, from 0
    scores: Float32[np.ndarray, " n"]  # 0..1; 1 for a human label
    is_crowd: Bool[np.ndarray, " n"]  # a region that is neither a target nor background
    areas_px: Float32[np.ndarray, " n"]  # the source's own area, for AP by size

    AMOUNT: ClassVar[str] = "boxes_per_image"
    FIELDS: ClassVar[pa.Schema] = pa.schema(
        [
            ("boxes_xyxy", pa.list_(pa.float32())),  # four numbers a box, flat
            ("class_ids", pa.list_(pa.int32())),
            ("scores", pa.list_(pa.float32())),
            ("is_crowd", pa.list_(pa.bool_())),
            ("areas_px", pa.list_(pa.float32())),
        ]
    )

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def __getitem__(self, chosen: np.ndarray | slice) -> Detections:
        """Choose boxes by mask, indices or slice, in all fields at once."""
        return Detections(**{name: getattr(self, name)[chosen] for name in self.FIELDS.names})

    def with_boxes(self, boxes_xyxy: np.ndarray) -> Detections:
        """Give the same objects other coordinates; the source's areas stay."""
        return replace(self, boxes_xyxy=np.asarray(boxes_xyxy, np.float32).reshape(-1, 4))

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
        corners = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
        count = len(corners)
        own = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        return cls(
            boxes_xyxy=corners,
            class_ids=np.asarray(class_ids, np.int32).reshape(count),
            scores=np.ones(count, np.float32) if scores is None else np.asarray(scores, np.float32),
            is_crowd=np.zeros(count, bool) if is_crowd is None else np.asarray(is_crowd, bool),
            areas_px=own if areas_px is None else np.asarray(areas_px, np.float32),
        )

    @classmethod
    def unknown(cls) -> Detections:
        """No box."""
        return cls.of()

    @classmethod
    def to_columns(cls, labels: Sequence[Detections]) -> list[pa.Array]:
        """Ragged columns, without a Python object a box."""
        return ragged_columns(labels, cls.FIELDS)

    @classmethod
    def from_columns(cls, table: pa.Table) -> list[Detections]:
        """One `Detections` a row, in order."""
        columns = {name: split(table.column(name)) for name in cls.FIELDS.names}
        columns["boxes_xyxy"] = [flat.reshape(-1, 4) for flat in columns["boxes_xyxy"]]
        return [cls(**{name: column[i] for name, column in columns.items()})
                for i in range(table.num_rows)]  # fmt: skip

    @classmethod
    def together(cls, table: pa.Table) -> tuple[np.ndarray, Detections]:
        """All boxes of a table as one, and the row (n,) of each; no Python object an image."""
        flat = {name: ragged.together(table.column(name)) for name in cls.FIELDS.names}
        columns = {name: values for name, (values, _) in flat.items()}
        columns["boxes_xyxy"] = columns["boxes_xyxy"].reshape(-1, 4)
        return np.repeat(np.arange(table.num_rows), flat["class_ids"][1]), cls(**columns)

    def apart(self, rows: np.ndarray, num_rows: int) -> list[pa.Array]:
        """Undo `together`: columns of `FIELDS`, each box in its row; `rows` must not fall."""
        return [
            ragged.apart(getattr(self, field.name), rows, num_rows, field.type.value_type)
            for field in self.FIELDS
        ]

    @classmethod
    def any_in(cls, table: pa.Table) -> bool:
        """Say whether there is a box."""
        return len(table["class_ids"].combine_chunks().flatten()) > 0

    def amount(self) -> float:
        """Count the boxes, without those of crowds."""
        return float(len(self) - self.is_crowd.sum())

    def above(self, threshold: float) -> Detections:
        """Keep the boxes of at least this score."""
        return self[self.scores >= threshold]

    def within(self, size_hw: tuple[int, int]) -> Detections:
        """Leave out boxes that show nothing of the image, and those that are no numbers."""
        seen = boxes.clip(self.boxes_xyxy, size_hw)
        is_there: np.ndarray = np.all(seen[:, 2:] > seen[:, :2], axis=1)
        return self[is_there]

    def mirrored(self, width_px: int) -> Detections:
        """Mirror the boxes."""
        turned = self.boxes_xyxy.copy()
        turned[:, [0, 2]] = width_px - self.boxes_xyxy[:, [2, 0]]
        return self.with_boxes(turned)

    def warped(self, warp: Affine, size_hw: tuple[int, int]) -> Detections:
        """Put upright boxes around the warped ones, clipped to the image.

        A box that leaves the image stays as a rim of 5 % of it, as in the authors' code.
        """
        moved = boxes.clip(warp.hulls(self.boxes_xyxy), size_hw)
        low, high, sides = moved[:, :2], moved[:, 2:], np.asarray(size_hw[::-1], np.float64)
        is_gone = (low == high) & ~self.is_crowd[:, None]  # a crowd's rim would hide empty ground
        low[is_gone] = np.minimum(low, sides * (1 - _RIM))[is_gone]
        high[is_gone] = np.maximum(high, sides * _RIM)[is_gone]
        return self.with_boxes(moved)

    def objects_xyxy(self) -> np.ndarray:
        """The boxes, without those of crowds."""
        found: np.ndarray = self.boxes_xyxy[~self.is_crowd]
        return found

    def in_view(self, placed: Placed, shown_hw: tuple[int, int], size_px: int) -> Detections:
        """Move and clip; slivers are dropped."""
        del size_px  # clipped to what is shown of the image, not to the view: padding is empty
        moved = boxes.clip(placed.place(self.boxes_xyxy), shown_hw)
        sides_px = moved[:, 2:] - moved[:, :2]
        return self.with_boxes(moved)[(sides_px >= _MIN_SIDE_PX).all(axis=1)]

    def in_source(self, placed: Placed) -> Detections:
        """Move back, clipped to the source image."""
        return self.with_boxes(placed.unplace(self.boxes_xyxy))
