"""The three kinds of row that travel and rest, as versioned Arrow schemas.

In: `Detections`. Out: Arrow tables that any Parquet reader understands: ragged data is native
lists, labels at rest are in source-image pixels. Next: `boxes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ray_st.data.labels import Detections, Origin

SCHEMA_VERSION = 1
_METADATA = {b"ray_st.schema_version": str(SCHEMA_VERSION).encode()}

IMAGE_ROW = pa.schema([("image_id", pa.int64()), ("uri", pa.string())], metadata=_METADATA)

LABEL_ROW = pa.schema(
    [
        ("image_id", pa.int64()),
        ("uri", pa.string()),
        ("height_px", pa.int32()),
        ("width_px", pa.int32()),
        ("origin", pa.int8()),
        ("boxes_xyxy", pa.list_(pa.float32())),  # four numbers a box, flat
        ("class_ids", pa.list_(pa.int32())),
        ("scores", pa.list_(pa.float32())),
        ("is_crowd", pa.list_(pa.bool_())),
        ("areas_px", pa.list_(pa.float32())),
    ],
    metadata=_METADATA,
)

FAILURE_ROW = pa.schema(
    [
        ("image_id", pa.int64()),
        ("uri", pa.string()),
        ("stage", pa.string()),  # fetch, decode, predict
        ("reason", pa.string()),
    ],
    metadata=_METADATA,
)

_DETECTION_FIELDS = ("boxes_xyxy", "class_ids", "scores", "is_crowd", "areas_px")


def ragged(values: Sequence[np.ndarray], item: pa.DataType) -> pa.ListArray:
    """Pack arrays of any lengths as one Arrow list column, without a Python object an element."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([value.size for value in values], out=offsets[1:])
    flat = np.concatenate([v.ravel() for v in values]) if len(values) else np.empty(0)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, type=item))


def pack(
    *,
    image_ids: Sequence[int],
    uris: Sequence[str],
    sizes_hw: Sequence[tuple[int, int]],
    labels: Sequence[Detections],
    origin: Origin,
) -> pa.Table:
    """Make LABEL_ROWs, one an image, in the order given."""
    columns: dict[str, Any] = {
        "image_id": pa.array(image_ids, pa.int64()),
        "uri": pa.array(uris, pa.string()),
        "height_px": pa.array([h for h, _ in sizes_hw], pa.int32()),
        "width_px": pa.array([w for _, w in sizes_hw], pa.int32()),
        "origin": pa.array([int(origin)] * len(labels), pa.int8()),
    }
    for name in _DETECTION_FIELDS:
        item = LABEL_ROW.field(name).type.value_type
        columns[name] = ragged([getattr(one, name) for one in labels], item)
    return pa.table(columns, schema=LABEL_ROW)


def unpack(table: pa.Table) -> list[Detections]:
    """Read the labels of LABEL_ROWs back, one `Detections` a row, in order."""
    columns = {name: _split(table.column(name)) for name in _DETECTION_FIELDS}
    return [
        Detections(
            boxes_xyxy=columns["boxes_xyxy"][i].reshape(-1, 4),
            class_ids=columns["class_ids"][i],
            scores=columns["scores"][i],
            is_crowd=columns["is_crowd"][i],
            areas_px=columns["areas_px"][i],
        )
        for i in range(table.num_rows)
    ]


def _split(column: pa.ChunkedArray) -> list[np.ndarray]:
    array = column.combine_chunks()
    flat = array.flatten().to_numpy(zero_copy_only=False)
    starts = np.cumsum(array.value_lengths().to_numpy(zero_copy_only=False))[:-1]
    return np.split(flat, starts) if len(array) else []
