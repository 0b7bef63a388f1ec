"""A manifest as it stands: shards of MANIFEST_ROWs, and the file that says which of them count.

    MANIFEST/manifest.json                     written last, whole or not at all
    MANIFEST/shard-00000/part-00000.parquet    at most file_rows rows a file, shard_rows a shard

In: a folder or URI. Out: `Manifest`, whose shards are read file by file. An image's id is made of
its shard and its place there, so it holds for ever: a shard that stands is never changed.
Next: `ahead.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from ray_st.config import UserError, as_dict, from_dict, require
from ray_st.data import storage
from ray_st.data.rows import MANIFEST_ROW

MANIFEST = "manifest.json"
FORMAT = 1
_OFFSET_BITS = 32


def image_id(shard: int, offset: int) -> int:
    """Give the id of the image at `offset` (from 0) of a shard."""
    return shard << _OFFSET_BITS | offset


def place_of(image_id: int) -> tuple[int, int]:
    """Give the shard and the offset there of an image."""
    return image_id >> _OFFSET_BITS, image_id & ((1 << _OFFSET_BITS) - 1)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard; its rows lie in `files` files, all but the last of file_rows rows."""

    shard: int
    rows: int
    files: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What manifest.json holds, and `uri`, where it stands."""

    source: str
    """The pool as `ray-st index --images` took it, with its full path."""
    column: str | None = None
    """The column that was named, if any."""
    shard_rows: int
    file_rows: int
    shards: tuple[Shard, ...] = ()
    format: int = FORMAT
    uri: str = ""

    def __post_init__(self) -> None:
        require(self.format == FORMAT, "format", f"{FORMAT}", self.format, "index the images again")
        require(
            1 <= self.shard_rows <= 1 << _OFFSET_BITS, "shard_rows", "1 to 2**32", self.shard_rows
        )
        require(self.file_rows >= 1, "file_rows", "1 or more", self.file_rows)
        numbers = [each.shard for each in self.shards]
        require(numbers == [*range(len(numbers))], "shards", "numbered 0, 1, 2, ...", numbers)

    @classmethod
    def read(cls, uri: str) -> Manifest:
        """Open a manifest; refuses one whose images are not all there yet."""
        manifest = cls.standing(uri)
        if not manifest.shards:
            raise UserError(
                f"{uri}: must be a finished manifest, got one without shards; "
                "run its `ray-st index` again"
            )
        return manifest

    @classmethod
    def standing(cls, uri: str) -> Manifest:
        """Open a manifest, even one of a first run that never ended."""
        uri = storage.absolute(uri)
        file = storage.join(uri, MANIFEST)
        try:
            filesystem, path = storage.locate(file)
            with filesystem.open_input_stream(path, compression=None) as stream:
                document = json.loads(stream.read())
        except (OSError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{file}: must be readable JSON, got: {reason}; `ray-st index` makes one"
            ) from error
        if not isinstance(document, dict):
            raise UserError(f"{file}: must be a JSON object, got {document!r:.80}; make it again")
        return replace(from_dict(cls, {**document, "uri": uri}, where=file), uri=uri)

    def write(self) -> None:
        """Put manifest.json in its place, at once."""
        document = {name: value for name, value in as_dict(self).items() if name != "uri"}
        text = json.dumps({"format": document.pop("format"), **document}, indent=1)
        storage.put(storage.join(self.uri, MANIFEST), text.encode() + b"\n")

    @property
    def num_rows(self) -> int:
        """How many images there are."""
        return sum(each.rows for each in self.shards)

    def folder(self, shard: int) -> str:
        """Where the files of a shard lie."""
        return storage.join(self.uri, f"shard-{shard:05d}")

    def file(self, shard: int, part: int) -> str:
        """One file of a shard: it begins at offset part * file_rows."""
        return storage.join(self.folder(shard), f"part-{part:05d}.parquet")

    def read_shard(self, shard: int, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Give a shard's MANIFEST_ROWs in order, one table a file; all columns unless named."""
        rows = 0
        for part in range(self.shards[shard].files):
            table = _read(self.file(shard, part), columns)
            rows += table.num_rows
            yield table
        if rows != self.shards[shard].rows:
            raise UserError(
                f"{self.folder(shard)}: must hold {self.shards[shard].rows} rows, got {rows}; "
                "its files were changed: index the images again into another folder"
            )


def _read(file: str, columns: list[str] | None) -> pa.Table:
    try:
        filesystem, path = storage.locate(file)
        # Not pq.read_table, which takes a=b in a path for a column.
        with pq.ParquetFile(path, filesystem=filesystem) as parquet:
            table = parquet.read(columns=columns)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{file}: must be a readable file of the manifest, got: {reason}; "
            "index the images again into another folder"
        ) from error
    names = MANIFEST_ROW.names if columns is None else columns
    if table.column_names != names:
        raise UserError(f"{file}: must have the columns {names}, got {table.column_names}")
    fields = [MANIFEST_ROW.field(name) for name in names]
    return table.cast(pa.schema(fields, metadata=MANIFEST_ROW.metadata))
