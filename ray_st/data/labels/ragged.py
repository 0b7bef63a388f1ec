"""Arrays of any lengths as one Arrow list column, without a Python object an element.

In: arrays. Out: a column, and back. Next: `detections.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def ragged(values: Sequence[np.ndarray], item: pa.DataType) -> pa.ListArray:
    """Pack; each array becomes one entry, flattened."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([value.size for value in values], out=offsets[1:])
    flat = np.concatenate([v.ravel() for v in values]) if len(values) else np.empty(0)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, type=item))


def ragged_columns(values: Sequence[object], fields: pa.Schema) -> list[pa.Array]:
    """One column a field: the attributes of that name, an entry a value."""
    return [
        ragged([getattr(one, field.name) for one in values], field.type.value_type)
        for field in fields
    ]


def split(column: pa.ChunkedArray) -> list[np.ndarray]:
    """Unpack; entries are views of one array."""
    array = column.combine_chunks()
    flat = array.flatten().to_numpy(zero_copy_only=False)
    starts = np.cumsum(array.value_lengths().to_numpy(zero_copy_only=False))[:-1]
    return np.split(flat, starts) if len(array) else []


def together(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Unpack into one array, and how many elements each entry has."""
    array = column.combine_chunks()
    counts = array.value_lengths().to_numpy(zero_copy_only=False)
    return array.flatten().to_numpy(zero_copy_only=False), counts


def apart(
    values: np.ndarray, entries: np.ndarray, num_entries: int, item: pa.DataType
) -> pa.ListArray:
    """Pack values (n, ...), each with the number of its entry, which must not fall."""
    ends = np.zeros(num_entries + 1, np.int32)
    np.cumsum(np.bincount(entries, minlength=num_entries), out=ends[1:])
    width = values.size // max(1, len(values))
    flat = pa.array(values.ravel(), type=item)
    return pa.ListArray.from_arrays(pa.array(ends * np.int32(width)), flat)
