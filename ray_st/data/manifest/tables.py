"""The images of Parquet files: bytes in a column, or URIs in a column.

In: a Parquet file, and which column. Out: FOUND: of bytes a `cell:` for every row, for which the
file's footer is enough; of URIs the column's values. Next: `pools.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.manifest.listing import found
from ray_st.data.manifest.lists import resolved
from ray_st.data.parts import cell_uri, column_at

_BYTES = ("bytes", "image", "image.bytes")
_URIS = ("uri", "url", "path")
_ROWS = 10_000  # at a time


@dataclass(frozen=True)
class Column:
    """A column by its dotted path, and which of the two it holds."""

    path: str
    holds_bytes: bool


@dataclass(frozen=True)
class Footer:
    """What a file says of itself."""

    uri: str
    schema: pa.Schema
    group_rows: tuple[int, ...]


def read_footer(uri: str) -> Footer:
    """Read a file's schema and the rows of its row groups. Raises UserError."""
    with _opened(uri) as parquet:
        metadata = parquet.metadata
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        return Footer(uri, parquet.schema_arrow, tuple(rows))


def find_column(footer: Footer, wanted: str | None) -> Column:
    """Find the images' column by name and type, or see what the one named holds."""
    names = (*_BYTES, *_URIS) if wanted is None else (wanted,)
    for name in names:
        kind = _type_at(footer.schema, name)
        if kind is not None and _is_bytes(kind) and (wanted or name in _BYTES):
            if ":" in name:  # it would part the `cell:` URI
                raise UserError(f"{footer.uri}: a column's name must have no colon, got {name!r}")
            return Column(name, holds_bytes=True)
        if kind is not None and _is_text(kind) and (wanted or name in _URIS):
            return Column(name, holds_bytes=False)
    columns = ", ".join(f"{each.name} ({each.type})" for each in footer.schema)
    rule = (
        f"bytes in a column {', '.join(_BYTES)} or text in {', '.join(_URIS)}"
        if wanted is None
        else f"bytes or text in the column {wanted!r}"
    )
    raise UserError(f"{footer.uri}: must have {rule}, got {columns:.300}; pass --column NAME")


def list_cells(footer: Footer, column: Column) -> Iterator[pa.Table]:
    """Name every cell of a column of bytes."""
    if find_column(footer, column.path) != column:
        raise UserError(f"{footer.uri}: {column.path!r} must hold bytes as in the files before it")
    for group, rows in enumerate(footer.group_rows):
        for first in range(0, rows, _ROWS):
            here = range(first, min(first + _ROWS, rows))
            yield found([cell_uri(group, row, column.path, footer.uri) for row in here])


def list_uris(footer: Footer, column: Column) -> Iterator[pa.Table]:
    """Read a column of URIs; a relative one is meant from the file's folder. Nulls are left out."""
    if find_column(footer, column.path) != column:
        raise UserError(f"{footer.uri}: {column.path!r} must hold text as in the files before it")
    folder = storage.folder_of(footer.uri)
    with _opened(footer.uri) as parquet:
        for batch in parquet.iter_batches(_ROWS, columns=[column.path]):
            name = batch.schema.names[0]
            values = column_at(pa.chunked_array([batch.column(0)]), name, column.path).to_pylist()
            yield found([resolved(folder, value) for value in values if value])


def _opened(uri: str) -> pq.ParquetFile:
    try:
        filesystem, path = storage.locate(uri)
        return pq.ParquetFile(path, filesystem=filesystem)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{uri}: must be a readable Parquet file, got: {reason}; correct it or move it away"
        ) from error


def _type_at(schema: pa.Schema, path: str) -> pa.DataType | None:
    """The type at a dotted path; a column whose own name has dots comes first."""
    if path in schema.names:
        return schema.field(path).type
    name, _, below = path.partition(".")
    kind = schema.field(name).type if name in schema.names else None
    for each in below.split("."):
        has_it = kind is not None and pa.types.is_struct(kind) and kind.get_field_index(each) >= 0
        kind = kind.field(each).type if kind is not None and has_it else None
    return kind


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
