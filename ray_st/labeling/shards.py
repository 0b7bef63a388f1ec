"""One shard of a pool: labelled, searched for what got lost, compared with the manifest, published.

In: an `ImageShard` and a teacher. Out: a whole `Shard`. Next: `pool.py`.

An execution loses a row only with the process that held it. So what is missing afterwards is run
again one image at a time, and what is missing still becomes a failure.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_st.config import UserError
from ray_st.data import parquet, storage
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.views import fitted_views
from ray_st.labeling.actor import TeacherActor
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.execution import VIEWS_AT_ONCE, Execution, nodes_lost
from ray_st.labeling.identity import require_same_images
from ray_st.labeling.images import ImageShard
from ray_st.labeling.looks import Looks
from ray_st.labeling.meter import Meter, speed
from ray_st.labeling.recovery import recover
from ray_st.labeling.rows import FAILED, OK, failed_rows
from ray_st.labeling.store import Shard
from ray_st.labeling.teacher import TeacherSource
from ray_st.progress import Counter

logger = logging.getLogger(__name__)

_BLOCKS_A_READER = 4


@dataclass(frozen=True, kw_only=True)
class FailureLimit:
    """How many images of a shard may fail before it is given up."""

    where: str
    most: int | None  # None: all

    def require(self, failures: int, reasons: Sequence[str] = ()) -> None:
        """Raise `UserError` for more; `reasons` are named."""
        if self.most is not None and failures > self.most:
            often = f" ({'; '.join(reasons)})" if reasons else ""
            raise UserError(
                f"label.max_failure_rate: {self.where} has {failures} images that failed, and at "
                f"most {self.most} may{often}; mend the pool and pass --retry-failed, or raise "
                "label.max_failure_rate"
            )


@dataclass(frozen=True, kw_only=True)
class Labeler:
    """A teacher and how it is run."""

    teacher: TeacherSource
    looks: Looks
    schema: pa.Schema  # of the STORE_ROWs
    config: LabelConfig
    counter: Counter | None
    meter: Meter | None  # None: no pool, all in this process

    def label_shard(self, part: ImageShard, shard: Shard, *, retry_failed: bool) -> None:
        """Label what is not labelled yet, and publish; a shard that is whole is not read again."""
        if shard.facts is not None:
            require_same_images(part, shard)
            self._count(part.num_rows)
            shard.tidy()
        else:
            most = int(self.config.max_failure_rate * part.num_rows)
            self._fill(part, shard, None if retry_failed else most)
            shard.publish()
        if retry_failed:
            self._retry(part, shard)

    def speed(self, seconds: float) -> dict[str, Any]:
        """How fast it was, and what was the limit; nothing of a run without a pool."""
        if self.meter is None:
            return {}
        config = self.config
        sums = self.meter.sums()
        return speed(sums, seconds, readers=config.readers, gpus_per_actor=config.gpus_per_actor)

    def _count(self, done: int) -> None:
        """Say that so many images were labelled before."""
        if self.counter is not None and done:
            self.counter.add(done)

    def _fill(self, part: ImageShard, shard: Shard, most_failures: int | None) -> None:
        """Label each image that does not stand; in the end each stands once."""
        storage.make_folder(shard.work)
        storage.make_folder(shard.folder)
        recover(shard)
        require_same_images(part, shard)
        limit = FailureLimit(where=shard.folder, most=most_failures)
        standing = shard.outcomes()
        before = _failures(standing)
        limit.require(before)
        self._count(standing.num_rows)
        if self.meter is None:
            self._label_here(part, shard)
        else:
            self._label_with_pool(part, shard, self.meter, _looking(self.meter, limit, before))
        whole = shard.outcomes()
        _require_once(part, shard, np.asarray(whole["image_id"]))
        limit.require(_failures(whole))

    def _label_with_pool(
        self, part: ImageShard, shard: Shard, meter: Meter, look: Callable[[], None]
    ) -> None:
        files = part.files or (storage.join(shard.work, "images.parquet"),)
        if not part.files:
            parquet.write_parts(files[0], IMAGE_ROW, part.rows())
        execution = Execution(
            teacher=self.teacher,
            config=replace(self.config, block_images=self._block(part)),
            counter=self.counter,
            meter=meter,
            looks=self.looks,
            schema=self.schema,
        )
        execution.run(files, shard, look)
        if lost := _lost(part, shard):
            logger.warning("%d images died with their process; each is tried alone", lost)
            alone = replace(self.config, block_images=1, batch_size=1, file_images=1)
            search = replace(execution, config=alone, alone=True)
            dead = nodes_lost(notice_s=0)
            search.run(files, shard, look)
            # Who waited for a node that was taken away meanwhile is no killer.
            while _lost(part, shard) and (more := nodes_lost(dead)):
                dead |= more
                search.run(files, shard, look)
            self._record_killers(part, shard)
        meter.pool_ended()

    def _block(self, part: ImageShard) -> int:
        """Images a block: fewer than asked for where they would not keep all readers at work."""
        config = self.config
        shared = part.num_rows // (_BLOCKS_A_READER * config.readers)
        return min(config.block_images, max(VIEWS_AT_ONCE, shared))

    def _record_killers(self, part: ImageShard, shard: Shard) -> None:
        """Write a failure for each image that even alone did not come back."""
        killers = part.only(np.setdiff1d(part.ids(), shard.ids()))
        if killers.num_rows:
            rows = pa.concat_tables(killers.rows())
            reason = "the process that read or labelled it died"
            failed = failed_rows(rows, "process", reason, self.schema)
            parquet.write(shard.file("killers.parquet"), failed)

    def _label_here(self, part: ImageShard, shard: Shard) -> None:
        """The same without a pool: one process, one thread of control, for a debugger."""
        config, side = self.config, self.looks.largest_px
        cpus, gpus = config.cpus_per_actor, config.gpus_per_actor
        teacher = TeacherActor(
            self.teacher, self.looks, self.schema, cpus, gpus, self.counter, None
        )
        rows = pa.concat_tables(part.only(np.setdiff1d(part.ids(), shard.ids())).rows())
        starts = range(0, rows.num_rows, config.batch_size)
        some = (rows.slice(start, config.batch_size) for start in starts)
        tables = (teacher(fitted_views(each, side).to_table()) for each in some)
        file = shard.file(f"here-{uuid.uuid4().hex}.parquet")
        parquet.write_parts(file, self.schema, tables)

    def _retry(self, part: ImageShard, shard: Shard) -> None:
        """Try the failures of a whole shard again; until all is written, it stands as it was."""
        failures = part.only(shard.ids(FAILED))
        if failures.num_rows:
            retried = Shard(storage.join(shard.work, "shard-retry"))
            self._fill(failures, retried, None)
            shard.publish(_merged(shard, retried))


def _merged(shard: Shard, retried: Shard) -> list[str]:
    """Write what takes the place of a shard's failures; names of all files that then count."""
    turn = uuid.uuid4().hex[:8]
    names: list[str] = []

    def add(table: pa.Table) -> None:
        names.append(f"retry-{turn}-{len(names):06}.parquet")
        parquet.write(shard.file(names[-1]), table)

    for entry in (shard.facts or {})["files"]:
        if not entry["failed"]:
            names.append(entry["name"])
        elif entry["failed"] < entry["rows"]:
            table = parquet.read(shard.file(entry["name"]))
            add(table.filter(pc.equal(table["status"], OK)))
    for file in retried.files():
        add(parquet.read(file))
    return names


def _lost(part: ImageShard, shard: Shard) -> int:
    """How many images stand neither as labels nor as failures."""
    return len(np.setdiff1d(part.ids(), shard.ids()))


def _failures(outcomes: pa.Table) -> int:
    return int(pc.sum(pc.equal(outcomes["status"], FAILED)).as_py() or 0)


def _looking(meter: Meter, limit: FailureLimit, before: int) -> Callable[[], None]:
    """A look at what went wrong in this shard while it is labelled; `before`: of earlier runs."""
    counted = meter.sums().failures  # of other shards

    def look() -> None:
        sums = meter.sums()
        if sums.refusal is not None:
            raise UserError(sums.refusal)
        often = [reason for reason, _ in sums.reasons.most_common(2)]
        limit.require(before + sums.failures - counted, often)

    return look


def _require_once(part: ImageShard, shard: Shard, ids: np.ndarray) -> None:
    """Refuse to publish a shard in which an image stands twice, or not at all."""
    found, wanted = np.sort(ids), np.sort(part.ids())
    if not np.array_equal(found, wanted):
        raise UserError(
            f"{shard.folder}: holds {len(found)} rows for {len(wanted)} images; "
            "remove this folder and run the same command again"
        )
