"""Where raw predictions rest: shards of Parquet, each published whole, all of one teacher.

In: a folder or bucket, and the name of what its labels are made by. Out: `Store`, `Shard`: what
stands there, and what is missing. Next: `recovery.py`.

Layout: `store.json`, from the start; `shard-00000/*.parquet`, STORE_ROWs of labelled images and of
failures; `shard-00000/shard.json`, from its end, names its files. What it does not name does not
count, so that a reader never meets a half-written file.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from ray_st.config import UserError
from ray_st.data import parquet, storage
from ray_st.data.labels import Labels
from ray_st.data.rows import FAILURE_ROW, kind_of, label_row
from ray_st.labeling.rows import FAILED, OK, store_row

FORMAT = 2  # 1 held scores as float32
_ROWS_AT_ONCE = 65536
_CARD, SHARD = "store.json", "shard.json"


@dataclass(frozen=True)
class Shard:
    """One part of a store, labelled in one execution."""

    folder: str  # path or URI

    @property
    def facts(self) -> dict[str, Any] | None:
        """What `publish` wrote; None for a shard that is not whole."""
        return _read(storage.join(self.folder, SHARD))

    @property
    def name(self) -> str:
        """`shard-00000`."""
        return posixpath.basename(storage.split_options(self.folder)[0])

    @property
    def number(self) -> int:
        """Its place among the shards of the pool."""
        return int(self.name.partition("-")[2])

    @property
    def work(self) -> str:
        """Where what is needed until the shard is whole lies: beside it, hidden."""
        return storage.join(storage.folder_of(self.folder), f".{self.name}")

    def standing(self) -> list[str]:
        """Names of all data files that lie in its folder."""
        names = (str(info.base_name) for info in storage.listed(self.folder))
        return [name for name in names if name.endswith(".parquet")]

    def files(self) -> list[str]:
        """Data files: those that are published, or all that stand there."""
        facts = self.facts
        names = self.standing() if facts is None else [each["name"] for each in facts["files"]]
        return [self.file(name) for name in names]

    def file(self, name: str) -> str:
        """Path or URI of a data file."""
        return storage.join(self.folder, name)

    def ids(self, status: str | None = None) -> np.ndarray:
        """Image ids of all rows that stand, or of those of a status, in no order, repeats too."""
        rows = self.outcomes() if status is not None else self._columns("image_id")
        if status is not None:
            rows = rows.filter(pc.equal(rows["status"], status))
        return np.asarray(rows["image_id"])

    def outcomes(self) -> pa.Table:
        """Image id and status of all rows that stand: one pass over the files for both."""
        return self._columns("image_id", "status")

    def named(self) -> pa.Table:
        """Image id and URI of all rows that stand."""
        return self._columns("image_id", "uri")

    def _columns(self, *names: str) -> pa.Table:
        empty = store_row(None).empty_table().select(names)
        return pa.concat_tables([empty, *(parquet.read(file, names) for file in self.files())])

    def publish(self, names: Sequence[str] | None = None) -> None:
        """Declare that the shard is whole: the files named, or all that stand there.

        What else lies in its folder, and what was needed for it, is removed.
        """
        standing = self.standing()
        entries = [self._entry(name) for name in (standing if names is None else names)]
        totals = {name: sum(entry[name] for entry in entries) for name in ("rows", "failed")}
        storage.make_folder(self.folder)
        _write(storage.join(self.folder, SHARD), {**totals, "files": entries})
        self._sweep(set(standing) - {entry["name"] for entry in entries})

    def tidy(self) -> None:
        """Remove what a retry that broke off has left beside a shard that is whole."""
        if storage.is_folder(self.work):
            names = {entry["name"] for entry in (self.facts or {})["files"]}
            self._sweep(set(self.standing()) - names)

    def _sweep(self, strays: set[str]) -> None:
        for name in strays:
            storage.remove(self.file(name))
        storage.remove(self.work)

    def _entry(self, name: str) -> dict[str, Any]:
        file = self.file(name)
        filesystem, path = storage.locate(file)
        status = parquet.read(file, ["status"])["status"]
        failed = int(pc.sum(pc.equal(status, FAILED)).as_py() or 0)
        size = filesystem.get_file_info(path).size
        return {"name": name, "rows": len(status), "failed": failed, "bytes": size}


@dataclass(frozen=True)
class Store:
    """A folder of shards."""

    folder: str  # path or URI

    def claim(self, card: Mapping[str, Any]) -> None:
        """Begin, or go on with, a store of what `card` names; refuses a store of anything else."""
        card = {"format": FORMAT, **card}
        path = storage.join(self.folder, _CARD)
        standing = _read(path)
        if standing is None:
            storage.make_folder(self.folder)
            _write(path, card)
        elif differing := [k for k in {**standing, **card} if card.get(k) != standing.get(k)]:
            raise UserError(
                f"{self.folder}: holds labels of another kind ({', '.join(differing)} differ); "
                "pass another --out, or what these were made by"
            )

    @property
    def card(self) -> dict[str, Any]:
        """What its labels are made by. Raises `UserError` where there is none."""
        found = _read(storage.join(self.folder, _CARD))
        if found is None:
            raise UserError(f"{self.folder}: holds no labels; pass a folder that `label` left")
        return found

    def shard(self, number: int) -> Shard:
        """One shard, whether it stands or not."""
        return Shard(storage.join(self.folder, f"shard-{number:05}"))

    def begun(self) -> list[Shard]:
        """All shards, begun or whole, in order."""
        infos = storage.listed(self.folder)
        names = [str(info.base_name) for info in infos if info.type == fs.FileType.Directory]
        found = [name for name in names if name.startswith("shard-")]
        return [Shard(storage.join(self.folder, name)) for name in found]

    def shards(self) -> list[Shard]:
        """All that are published, in order."""
        return [shard for shard in self.begun() if shard.facts is not None]

    @property
    def kind(self) -> type[Labels] | None:
        """Which kind of labels it holds; None if it holds no row."""
        whole = (shard for shard in self.begun() if shard.facts is not None)
        file = next((file for shard in whole for file in shard.files()), None)
        if file is None:
            return None
        with parquet.opened(file) as opened:
            return kind_of(opened.schema_arrow)

    def read(self) -> pa.Table:
        """LABEL_ROWs of all labelled images, in the order of image ids."""
        parts = [label_row(self.kind).empty_table(), *self.parts(OK, _ROWS_AT_ONCE)]
        return pa.concat_tables(parts).combine_chunks().sort_by("image_id")

    def failures(self) -> Iterator[pa.Table]:
        """FAILURE_ROWs of all images that could not be labelled, some at a time."""
        return self.parts(FAILED, _ROWS_AT_ONCE)

    def parts(
        self, status: str, rows_at_once: int, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """Rows of one status, some at a time, in the order of the files; all columns, or some."""
        schema = label_row(self.kind) if status == OK else FAILURE_ROW
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        for file in self._files_with(status):
            with parquet.opened(file) as opened:
                batches = opened.iter_batches(rows_at_once, columns=[*schema.names, "status"])
                for table in map(pa.Table.from_batches, ([batch] for batch in batches)):
                    chosen = table.filter(pc.equal(table["status"], status))
                    yield chosen.select(schema.names).cast(schema)

    def _files_with(self, status: str) -> Iterator[str]:
        """Files that hold a row of this status: of most, failures need not be looked for."""
        for shard in self.begun():
            for entry in (shard.facts or {"files": ()})["files"]:
                if entry["failed"] if status == FAILED else entry["rows"] > entry["failed"]:
                    yield shard.file(entry["name"])


def _read(path: str) -> dict[str, Any] | None:
    if not storage.exists(path):
        return None
    found: dict[str, Any] = json.loads(storage.read(path))
    return found


def _write(path: str, content: Mapping[str, Any]) -> None:
    storage.put(path, (json.dumps(content, indent=2) + "\n").encode())
