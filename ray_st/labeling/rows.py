"""The rows of a store: labels, or why there are none.

In: a kind of labels. Out: STORE_ROW, a versioned Arrow schema, and rows of failures. Next:
`store.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ray_st.data.labels import Labels
from ray_st.data.rows import kind_of, label_row

OK, FAILED = "ok", "failed"
_SCORES = ("scores", "top_scores")  # columns


def store_row(
    kind: type[Labels] | None,
    teacher_sha256: str | None = None,
    views: Mapping[str, Any] | None = None,
    *,
    exact: bool = False,
) -> pa.Schema:
    """STORE_ROW: a LABEL_ROW, whether the image could be labelled, and why not.

    The teacher's hash, and which views it took (JSON), stand in the metadata of every file. Scores
    are float16, unless `exact`: three digits are enough to choose by.
    """
    row = label_row(kind)
    for name in _SCORES if not exact else ():
        if name in row.names:
            half = pa.field(name, pa.list_(pa.float16()))
            row = row.set(row.get_field_index(name), half)
    text = [(name, pa.string()) for name in ("status", "stage", "reason")]
    metadata = dict(row.metadata or {})
    if teacher_sha256 is not None:
        metadata[b"ray_st.teacher_sha256"] = teacher_sha256.encode()
    if views is not None:
        metadata[b"ray_st.views"] = json.dumps(views).encode()
    return pa.schema([*row, *pa.schema(text)], metadata=metadata)


def failed_rows(rows: pa.Table, stage: str, reason: str, schema: pa.Schema) -> pa.Table:
    """STORE_ROWs (`schema`) of images that could not be labelled, all for one reason."""
    count = rows.num_rows
    blank = pa.table(
        {
            "image_id": rows["image_id"],
            "uri": rows["uri"],
            "height_px": pa.array([0] * count, pa.int32()),
            "width_px": pa.array([0] * count, pa.int32()),
            "origin": pa.array([1] * count, pa.int8()),
        }
    )
    kind = kind_of(schema)
    assert kind is not None, f"rows without labels: {schema.names}"
    labels: Sequence[Labels] = [kind.unknown()] * count
    for name, column in zip(kind.FIELDS.names, kind.to_columns(labels), strict=True):
        blank = blank.append_column(name, column)
    for name, text in (("status", FAILED), ("stage", stage), ("reason", reason)):
        blank = blank.append_column(name, pa.array([text] * count, pa.string()))
    return blank.cast(schema)
