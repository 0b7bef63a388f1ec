"""Where raw predictions rest: shards of Parquet, each published whole, all of one teacher.

In: a folder, and the name of what its labels are made by. Out: `Store`, `Shard`: what stands there,
and what is missing. Next: `teacher.py`.

Layout: `store.json`, from the start; `shard-00000/*.parquet`, STORE_ROWs of labelled images and of
failures; `shard-00000/shard.json`, from its end, names its files. What it does not name does not
count, so that a reader never meets a half-written file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.labels import Labels
from ray_st.data.rows import FAILURE_ROW, kind_of, label_row

FORMAT = 1
OK, FAILED = "ok", "failed"
_ROWS_AT_ONCE = 65536
_CARD, _SHARD = "store.json", "shard.json"


def store_row(kind: type[Labels] | None, teacher_sha256: str | None = None) -> pa.Schema:
    """STORE_ROW: a LABEL_ROW, whether the image could be labelled, and why not.

    The teacher's hash stands in the metadata of every file.
    """
    text = [(name, pa.string()) for name in ("status", "stage", "reason")]
    schema = label_row(kind)
    metadata = dict(schema.metadata or {})
    if teacher_sha256 is not None:
        metadata[b"ray_st.teacher_sha256"] = teacher_sha256.encode()
    return pa.schema([*schema, *pa.schema(text)], metadata=metadata)


@dataclass(frozen=True)
class Shard:
    """One part of a store, labelled in one execution."""

    folder: Path

    @property
    def facts(self) -> dict[str, Any] | None:
        """What `publish` wrote; None for a shard that is not whole."""
        path = self.folder / _SHARD
        return json.loads(path.read_text()) if path.is_file() else None

    @property
    def work(self) -> Path:
        """Where what is needed until the shard is whole lies: beside it, hidden."""
        return self.folder.with_name(f".{self.folder.name}")

    def files(self) -> list[Path]:
        """Data files: those that are published, or all that stand there."""
        facts = self.facts
        if facts is None:
            return sorted(self.folder.glob("*.parquet"))
        return [self.folder / entry["name"] for entry in facts["files"]]

    def ids(self) -> np.ndarray:
        """Image ids of all rows that stand, in no order, repeats included."""
        columns = [pq.read_table(file, columns=["image_id"])["image_id"] for file in self.files()]
        found: np.ndarray = np.concatenate([np.empty(0, np.int64), *map(np.asarray, columns)])
        return found

    def publish(self, facts: Mapping[str, Any] | None = None) -> None:
        """Declare that the shard is whole; what was needed for it is removed."""
        entries = [_entry(file) for file in self.files()]
        totals = {name: sum(entry[name] for entry in entries) for name in ("rows", "failed")}
        whole = {**totals, **(facts or {}), "files": entries}
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.folder / _SHARD, whole)
        shutil.rmtree(self.work, ignore_errors=True)


@dataclass(frozen=True)
class Store:
    """A folder of shards."""

    folder: Path

    def claim(self, card: Mapping[str, Any]) -> None:
        """Begin, or go on with, a store of what `card` names; refuses a store of anything else."""
        card = {"format": FORMAT, **card}
        path = self.folder / _CARD
        if path.is_file():
            differing = [k for k, v in json.loads(path.read_text()).items() if card.get(k) != v]
            if differing:
                raise UserError(
                    f"{self.folder}: holds labels of another kind ({', '.join(differing)} differ); "
                    "pass another --out, or what these were made by"
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(path, card)

    @property
    def card(self) -> dict[str, Any]:
        """What its labels are made by. Raises `UserError` where there is none."""
        path = self.folder / _CARD
        if not path.is_file():
            raise UserError(f"{self.folder}: holds no labels; pass a folder that `label` left")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def shard(self, number: int) -> Shard:
        """One shard, whether it stands or not."""
        return Shard(self.folder / f"shard-{number:05}")

    def folders(self) -> list[Path]:
        """Folders of all shards, begun or whole, in order."""
        return sorted(self.folder.glob("shard-*"))

    def shards(self) -> list[Shard]:
        """All that are published, in order."""
        return [shard for shard in map(Shard, self.folders()) if shard.facts is not None]

    @property
    def kind(self) -> type[Labels] | None:
        """Which kind of labels it holds; None if it holds no row."""
        file = next((file for shard in self.shards() for file in shard.files()), None)
        return None if file is None else kind_of(pq.read_schema(file))

    def read(self) -> pa.Table:
        """LABEL_ROWs of all labelled images, in the order of image ids."""
        return self._whole(OK)

    def failures(self) -> pa.Table:
        """FAILURE_ROWs of all images that could not be labelled, in the order of image ids."""
        return self._whole(FAILED)

    def _whole(self, status: str) -> pa.Table:
        parts = [self._schema(status).empty_table(), *self.parts(status, _ROWS_AT_ONCE)]
        return pa.concat_tables(parts).combine_chunks().sort_by("image_id")

    def parts(self, status: str, rows_at_once: int) -> Iterator[pa.Table]:
        """Rows of one status, some at a time, in the order of the files."""
        schema = self._schema(status)
        for file in self._files_with(status):
            with pq.ParquetFile(file) as parquet:
                batches = parquet.iter_batches(rows_at_once, columns=[*schema.names, "status"])
                for table in map(pa.Table.from_batches, ([batch] for batch in batches)):
                    chosen = table.filter(pc.equal(table["status"], status))
                    yield chosen.select(schema.names).cast(schema)

    def _schema(self, status: str) -> pa.Schema:
        return label_row(self.kind) if status == OK else FAILURE_ROW

    def _files_with(self, status: str) -> Iterator[Path]:
        """Files that hold a row of this status: of most, failures need not be looked for."""
        for shard in self.shards():
            for entry in (shard.facts or {})["files"]:
                if entry["failed"] if status == FAILED else entry["rows"] > entry["failed"]:
                    yield shard.folder / entry["name"]


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


def _entry(file: Path) -> dict[str, Any]:
    status = pq.read_table(file, columns=["status"])["status"]
    failed = int(pc.sum(pc.equal(status, FAILED)).as_py() or 0)
    return {
        "name": file.name, "rows": len(status), "failed": failed, "bytes": file.stat().st_size
    }  # fmt: skip


def _write(path: Path, content: Mapping[str, Any]) -> None:
    storage.put(str(path), (json.dumps(content, indent=2) + "\n").encode())
