"""The kinds of row that travel and rest, as versioned Arrow schemas.

In: `Labels` of any kind. Out: Arrow tables that any Parquet reader understands: ragged data is
native lists, class maps are PNGs, labels at rest are in source-image pixels. Next: `storage.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ray_st.data.labels import KINDS, Labels, Origin

SCHEMA_VERSION = 2
_METADATA = {b"ray_st.schema_version": str(SCHEMA_VERSION).encode()}

IMAGE_ROW = pa.schema([("image_id", pa.int64()), ("uri", pa.string())], metadata=_METADATA)

MANIFEST_ROW = pa.schema(
    [
        *IMAGE_ROW,
        ("size_bytes", pa.int64()),  # null where the source does not tell it without being read
        ("etag", pa.string()),  # null where listing does not give one
    ],
    metadata=_METADATA,
)

_FRAME = [("height_px", pa.int32()), ("width_px", pa.int32()), ("origin", pa.int8())]

FAILURE_ROW = pa.schema(
    [
        ("image_id", pa.int64()),
        ("uri", pa.string()),
        ("stage", pa.string()),  # fetch, decode, predict
        ("reason", pa.string()),
    ],
    metadata=_METADATA,
)


def label_row(kind: type[Labels] | None) -> pa.Schema:
    """LABEL_ROW of one kind of labels; of an image without any, for None."""
    fields = [*IMAGE_ROW, *pa.schema(_FRAME), *(() if kind is None else kind.FIELDS)]
    return pa.schema(fields, metadata=_METADATA)


def kind_of(schema: pa.Schema) -> type[Labels] | None:
    """Which kind of labels rests in rows of this schema; None for none."""
    names = set(schema.names)
    return next((kind for kind in KINDS if names.issuperset(kind.FIELDS.names)), None)


def pack(
    *,
    image_ids: Sequence[int],
    uris: Sequence[str],
    sizes_hw: Sequence[tuple[int, int]],
    labels: Sequence[Labels],
    origin: Origin,
    kind: type[Labels] | None = None,
) -> pa.Table:
    """Make LABEL_ROWs, one an image, in the order given.

    `kind` must be given where `labels` may be empty; without both, the rows have no labels.
    """
    kind = kind if kind is not None or not len(labels) else type(labels[0])
    columns: list[Any] = [
        pa.array(image_ids, pa.int64()),
        pa.array(uris, pa.string()),
        pa.array([h for h, _ in sizes_hw], pa.int32()),
        pa.array([w for _, w in sizes_hw], pa.int32()),
        pa.array([int(origin)] * len(image_ids), pa.int8()),
        *(() if kind is None else kind.to_columns(labels)),
    ]
    return pa.table(columns, schema=label_row(kind))


def unpack(table: pa.Table) -> list[Any]:
    """Read the labels of LABEL_ROWs back, one `Labels` of their kind a row, in order."""
    kind = kind_of(table.schema)
    assert kind is not None, f"rows without labels: {table.schema.names}"
    return kind.from_columns(table)
