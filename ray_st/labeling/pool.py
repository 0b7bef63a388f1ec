"""The left wing's edge: a pool of images, labelled shard by shard, each published whole.

In: IMAGE_ROWs and a teacher. Out: a `Store` of every prediction above the floor, in `raw/`, and
`failures.parquet`. Next: `training`.

No step holds the whole pool: shards are labelled one after the other, and one that is whole costs a
look at a small file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_st import logs
from ray_st.data import parquet, storage
from ray_st.data.labels import Labels
from ray_st.data.rows import FAILURE_ROW
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.looks import Looks
from ray_st.labeling.meter import metered
from ray_st.labeling.policy import Choice
from ray_st.labeling.policy.kinds import ROWS_AT_ONCE
from ray_st.labeling.rows import OK, store_row
from ray_st.labeling.shards import Labeler
from ray_st.labeling.store import Shard, Store
from ray_st.labeling.stored import StoredRows
from ray_st.labeling.teacher import TeacherSource
from ray_st.metrics import run_of
from ray_st.progress import Counter

FAILURES = "failures.parquet"


def label(
    images: Images,
    teacher: TeacherSource,
    out: str | Path,
    config: LabelConfig,
    counter: Counter | None,
    *,
    retry_failed: bool = False,
    exact: bool = False,
) -> dict[str, Any]:
    """Label every image once: the store `out/raw`, and `out/failures.parquet`.

    An image that cannot be read, or that kills whoever reads it, is a row of failures.parquet; the
    run goes on, unless more fail than `config.max_failure_rate`. An interrupted call goes on where
    it was.

    Args:
        images: the pool.
        teacher: loaded by every actor.
        out: folder or bucket that every node sees.
        config: how it is run.
        counter: told of images that are done.
        retry_failed: whether images that failed before are tried again.
        exact: whether scores keep all their digits.

    Returns:
        How fast it was, and what was the limit.
    """
    store, looks = _store(out), teacher.looks(config)
    store.claim(_card(teacher, looks, exact=exact))
    begun = time.monotonic()
    schema = store_row(teacher.task.kind, teacher.digest, looks.card, exact=exact)
    with metered(config, images.num_rows, run_of(str(out))) as meter:
        labeler = Labeler(
            teacher=teacher, looks=looks, schema=schema, config=config, counter=counter, meter=meter
        )
        for part in images.shards:
            shard = store.shard(part.number)
            labeler.label_shard(part, shard, retry_failed=retry_failed)
            logs.event("shard", f"{shard.name} is whole", stage="label", **_account(shard))
        found = labeler.speed(time.monotonic() - begun)
    parquet.write_parts(storage.join(str(out), FAILURES), FAILURE_ROW, store.failures())
    return found


def _card(teacher: TeacherSource, looks: Looks, *, exact: bool) -> dict[str, Any]:
    """What all labels of a store have in common."""
    return {
        "teacher_sha256": teacher.digest,
        "task": teacher.task.name,
        "classes": list(teacher.classes),
        "image_size_px": teacher.image_size_px,
        "views": looks.card,
        "scores": "float32" if exact else "float16",
    }


def _account(shard: Shard) -> dict[str, Any]:
    """What a log says of a shard that is whole."""
    facts = (shard.facts or {}) if logs.is_json() else {}
    return {"shard": shard.name, "images": facts.get("rows"), "failed": facts.get("failed")}


def read_raw(out: str | Path) -> pa.Table:
    """The raw predictions of a folder that `label` left, in the order of image ids."""
    return _store(out).read()


def raw_parts(out: str | Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The same, some thousand rows at a time, in the order of the files; all columns, or some."""
    return _store(out).parts(OK, ROWS_AT_ONCE, columns)


def raw_rows(out: str | Path, choice: Choice) -> StoredRows:
    """What `choice` makes of them, left where it is and read in windows."""
    return StoredRows.of(_store(out), choice)


def raw_kind(out: str | Path) -> type[Labels] | None:
    """Which kind of labels such a folder holds; None if it holds none."""
    return _store(out).kind


def _store(out: str | Path) -> Store:
    return Store(storage.join(storage.absolute(str(out)), "raw"))
