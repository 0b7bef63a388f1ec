"""Images that are parts of a file: members of a tar, cells of a Parquet file.

In: a URI such as slice:OFFSET:SIZE:FILE or cell:ROW_GROUP:ROW:COLUMN:FILE, where FILE is a path or
URI as ever. Out: the bytes of that part. Rows hold absolute paths, so no path begins as these do.
Next: `images.py`.
"""

from __future__ import annotations

import re
import threading
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_st.data import storage

MAX_BYTES = 1 << 30  # of an image, compressed: more is a mistake, or meant to do harm
_MOST_SWELLING = 16  # of larger row groups, by their compression

_SLICE = re.compile(r"slice:(\d+):(\d+):(.+)", re.DOTALL)
_CELL = re.compile(r"cell:(\d+):(\d+):([^:]+):(.+)", re.DOTALL)
_OPEN_FILES = 16  # an open file saves a bucket's request for its size, once an image
# Two, not one: threads cross the border between groups at different times.
_OPEN_GROUPS = 2
_opening = threading.Lock()  # else every thread would read the same group


def slice_uri(offset: int, size: int, file: str) -> str:
    """Name `size` bytes of a file, from byte `offset` on."""
    return f"slice:{offset}:{size}:{file}"


def cell_uri(row_group: int, row: int, column: str, file: str) -> str:
    """Name a binary cell of a Parquet file; `row` counts inside its row group."""
    return f"cell:{row_group}:{row}:{column}:{file}"


def is_part(uri: str) -> bool:
    """Say whether this names a part of a file."""
    return (_SLICE.fullmatch(uri) or _CELL.fullmatch(uri)) is not None


def read_part(uri: str) -> bytes:
    """Read the part that `is_part` has seen. Raises OSError or ValueError (pyarrow's are these)."""
    if found := _SLICE.fullmatch(uri):
        return _read_slice(int(found[1]), int(found[2]), found[3])
    found = _CELL.fullmatch(uri)
    assert found is not None, f"no part: {uri}"
    with _opening:
        cells = _cells(found[4], int(found[1]), found[3])
    row = int(found[2])
    if row >= len(cells):
        raise ValueError(f"its row group has {len(cells)} rows")
    value = cells[row].as_py()
    if not isinstance(value, bytes):
        raise ValueError(f"the cell must hold bytes, got {type(value).__name__}")
    _require_size(len(value))
    return value


def column_at(column: pa.ChunkedArray, name: str, path: str) -> pa.ChunkedArray:
    """Go down from the column `name` to the field that a dotted `path` names in its structs."""
    below = path[len(name) :].lstrip(".")
    return pc.struct_field(column, below.split(".")) if below else column


def _read_slice(offset: int, size: int, file: str) -> bytes:
    _require_size(size)
    content = bytes(_open(file).read_at(size, offset))
    if len(content) < size:
        raise ValueError(f"the file ends {size - len(content)} bytes before the slice does")
    return content


def _require_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"it has {size} bytes, and an image may have {MAX_BYTES}")


@lru_cache(maxsize=_OPEN_FILES)
def _open(file: str) -> pa.NativeFile:
    filesystem, path = storage.locate(file)
    return filesystem.open_input_file(path)


def _require_no_bomb(group: pq.RowGroupMetaData, column: str) -> None:
    """Refuse cells that swell; images are compressed already, and a row group of them cannot."""
    chunks = [group.column(i) for i in range(group.num_columns)]
    mine = [each for each in chunks if f"{each.path_in_schema}.".startswith(f"{column}.")]
    whole = sum(each.total_uncompressed_size for each in mine)
    if whole > max(MAX_BYTES, _MOST_SWELLING * sum(each.total_compressed_size for each in mine)):
        raise ValueError(f"its row group swells to {whole} bytes")


@lru_cache(maxsize=_OPEN_GROUPS)
def _cells(file: str, row_group: int, column: str) -> pa.ChunkedArray:
    filesystem, path = storage.locate(file)
    with pq.ParquetFile(path, filesystem=filesystem) as parquet:
        if row_group >= parquet.num_row_groups:
            raise ValueError(f"the file has {parquet.num_row_groups} row groups")
        _require_no_bomb(parquet.metadata.row_group(row_group), column)
        table = parquet.read_row_group(row_group, columns=[column])
    if table.num_columns != 1:
        raise ValueError(f"the file has no column {column!r}")
    return column_at(table.column(0), table.column_names[0], column)
