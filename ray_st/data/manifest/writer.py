"""New images as further shards of a manifest.

In: a manifest as it stands, and FOUND of any number. Out: shards on disk or in a bucket, and what
manifest.json is to say of them; files are written by a few threads while the listing goes on. Next:
`indexing.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_st.data import storage
from ray_st.data.manifest.ahead import ahead
from ray_st.data.manifest.manifest import Manifest, Shard, image_id
from ray_st.data.rows import MANIFEST_ROW

_WRITERS = 4  # a bucket answers a file after some tenths of a second


def write_shards(manifest: Manifest, tables: Iterable[pa.Table]) -> Manifest:
    """Write rows as shards behind those that stand; give the manifest that is to be written."""
    first = len(manifest.shards)
    shards: list[Shard] = []

    def write(file: tuple[int, int, pa.Table]) -> tuple[int, int]:
        shard, offset, rows = file
        start = image_id(first + shard, offset)
        ids = pa.array(np.arange(start, start + rows.num_rows))
        table = rows.add_column(0, "image_id", ids).cast(MANIFEST_ROW)
        _write(table, manifest.file(first + shard, offset // manifest.file_rows))
        return shard, rows.num_rows

    files = _cut(tables, manifest.shard_rows, manifest.file_rows)
    for shard, rows in ahead(write, files, _WRITERS):
        if shard == len(shards):
            shards.append(Shard(shard=first + shard, rows=0, files=0))
        last = shards[-1]
        shards[-1] = replace(last, rows=last.rows + rows, files=last.files + 1)
    return replace(manifest, shards=(*manifest.shards, *shards))


def _cut(
    tables: Iterable[pa.Table], shard_rows: int, file_rows: int
) -> Iterator[tuple[int, int, pa.Table]]:
    """Give shard, offset in it and rows of one file after the other, all full but the last ones."""
    held: list[pa.Table] = []
    shard = offset = rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        while rows >= (size := min(file_rows, shard_rows - offset)):
            joined = pa.concat_tables(held)
            yield shard, offset, joined.slice(0, size)
            held, rows, offset = [joined.slice(size)], rows - size, offset + size
            if offset == shard_rows:
                shard, offset = shard + 1, 0
    if rows:
        yield shard, offset, pa.concat_tables(held)


def _write(table: pa.Table, file: str) -> None:
    filesystem, path = storage.locate(file)
    filesystem.create_dir(path.rpartition("/")[0])
    pq.write_table(table.combine_chunks(), path, filesystem=filesystem, compression="zstd")
