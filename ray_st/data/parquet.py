"""Parquet files, wherever they lie.

In: a path or URI. Out: tables. No name is parsed for partitions: `a=b` is a name like any other.
Next: `parts.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_st.data import storage

FORM: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
"""How our files are written: page checksums cost nothing and find a damaged disk."""


@contextmanager
def opened(uri: str, **options: Any) -> Iterator[pq.ParquetFile]:
    """Open a file; `options` are ParquetFile's. Raises OSError, or ValueError for no Parquet."""
    filesystem, path = storage.locate(uri)
    with pq.ParquetFile(path, filesystem=filesystem, **options) as parquet:
        yield parquet


def read(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a file whole, its checksums compared where it has some; raises as `opened` does."""
    with opened(uri, page_checksum_verification=True) as parquet:
        return parquet.read(columns=None if columns is None else list(columns))


def write(uri: str, table: pa.Table) -> None:
    """Write a file; the folder must stand. Raises OSError."""
    write_parts(uri, table.schema, [table])


def write_parts(uri: str, schema: pa.Schema, parts: Iterable[pa.Table]) -> None:
    """Write tables into one file as they come; raises as `write` does."""
    filesystem, path = storage.locate(uri)
    with pq.ParquetWriter(path, schema, filesystem=filesystem, **FORM) as writer:
        for part in parts:
            writer.write_table(part)
