"""The left wing's edge: an actor pool with the teacher, mapped over the images by Ray Data.

In: IMAGE_ROWs and a teacher. Out: a `Store` of every prediction above the floor, in `raw/`, and
`failures.parquet`. Next: `training`.

Each shard is a checkpointed execution of its own: Ray records which image ids are written, in two
phases, and an interrupted shard goes on behind them. Rows that die with their process are found by
running what is missing one image at a time.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data
from ray.data.checkpoint import CheckpointConfig
from ray.util.annotations import RayDeprecationWarning

from ray_st.config import UserError
from ray_st.data.labels import Labels
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.views import fitted_views
from ray_st.labeling.actor import TeacherActor
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images, ImageShard
from ray_st.labeling.policy.kinds import ROWS_AT_ONCE
from ray_st.labeling.store import OK, Shard, Store, failed_rows, store_row
from ray_st.labeling.teacher import TeacherSource
from ray_st.progress import Counter

logger = logging.getLogger(__name__)

_VIEWS_AT_ONCE = 64  # decoded in one piece
_BLOCKS_A_READER = 4
_MOST_LOST_BLOCKS = 100  # of one shard, to dying processes, before it is given up
_FORM: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
_RETRIES = 2  # of a task whose process died, before its block is left for the search


def label(
    images: Images,
    teacher: TeacherSource,
    out: Path,
    config: LabelConfig,
    counter: Counter | None,
) -> None:
    """Label every image once: the store `out/raw`, and `out/failures.parquet`.

    An image that cannot be read, or that kills whoever reads it, is a
    row of failures.parquet; the run goes on. An interrupted call goes on where it was.
    """
    store = _store(out)
    store.claim(
        {
            "teacher_sha256": teacher.digest,
            "task": teacher.task.name,
            "classes": list(teacher.classes),
            "image_size_px": teacher.image_size_px,
        }
    )
    labeler = Labeler(teacher=teacher, config=config, counter=counter)
    for part in images.shards:
        shard = store.shard(part.number)
        if shard.facts is not None:
            labeler.count(part.num_rows)
        elif config.actors[1] == 0:
            labeler.label_here(part, shard)
        else:
            labeler.label_shard(part, shard)
    pq.write_table(store.failures(), out / "failures.parquet")


def read_raw(out: Path) -> pa.Table:
    """The raw predictions of a folder that `label` left, in the order of image ids."""
    return _store(out).read()


def raw_parts(out: Path) -> Iterator[pa.Table]:
    """The same, some thousand rows at a time, in the order of the files."""
    return _store(out).parts(OK, ROWS_AT_ONCE)


def raw_kind(out: Path) -> type[Labels] | None:
    """Which kind of labels such a folder holds; None if it holds none."""
    return _store(out).kind


def _store(out: Path) -> Store:
    return Store(out / "raw")


@dataclass(frozen=True, kw_only=True)
class Labeler:
    """A teacher and how it is run."""

    teacher: TeacherSource
    config: LabelConfig
    counter: Counter | None

    @property
    def _schema(self) -> pa.Schema:
        return store_row(self.teacher.task.kind, self.teacher.digest)

    def count(self, done: int) -> None:
        """Say that so many images were labelled before."""
        if self.counter is not None:
            self.counter.add(done)

    def label_shard(self, part: ImageShard, shard: Shard) -> None:
        """Label what is not labelled yet, look for what got lost, and publish."""
        shard.work.mkdir(parents=True, exist_ok=True)
        files = part.files or (str((shard.work / "images.parquet").absolute()),)
        if not part.files:
            pq.write_table(pa.concat_tables(part.rows()), files[0])
        self.count(len(shard.ids()))
        self._execute(files, shard, replace(self.config, block_images=self._block(part)))
        lost = np.setdiff1d(part.ids(), shard.ids())
        if len(lost):
            logger.warning("%d images died with their process; each is tried alone", len(lost))
            alone = replace(self.config, block_images=1, batch_size=1, file_images=1)
            self._execute(files, shard, alone)
            self._record_killers(part, shard)
        _require_once(part, shard)
        shard.publish()

    def _block(self, part: ImageShard) -> int:
        """Images a block: fewer than asked for where they would not keep all readers at work."""
        config = self.config
        shared = part.num_rows // (_BLOCKS_A_READER * config.readers)
        return min(config.block_images, max(_VIEWS_AT_ONCE, shared))

    def _execute(self, files: Sequence[str], shard: Shard, config: LabelConfig) -> None:
        """Run Ray Data over the images of some files that stand in none of the shard's."""
        context = ray.data.DataContext.get_current().copy()
        context.enable_progress_bars = False
        context.max_errored_blocks = _MOST_LOST_BLOCKS
        context.checkpoint_config = CheckpointConfig(
            id_column="image_id",
            checkpoint_path=str((shard.work / "checkpoint").absolute()),
            delete_checkpoint_on_success=False,
        )
        with ray.data.DataContext.current(context), warnings.catch_warnings():
            # Ray knows no other way to bound retries; it goes in 2.64, which is not allowed yet.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            # No path is parsed for partitions: `a=b` is a name like any other.
            images = ray.data.read_parquet(list(files), partitioning=None)
            images = images.select_columns(IMAGE_ROW.names)
            self._labeled(images, config).write_parquet(
                str(shard.folder.absolute()),
                min_rows_per_file=config.file_images,
                **_FORM,
            )

    def _labeled(self, images: ray.data.Dataset, config: LabelConfig) -> ray.data.Dataset:
        """Images to STORE_ROWs, lazily."""
        side = self.teacher.image_size_px
        least, most = config.actors

        def views(table: pa.Table) -> Iterator[pa.Table]:
            for first in range(0, table.num_rows, _VIEWS_AT_ONCE):
                yield fitted_views(table.slice(first, _VIEWS_AT_ONCE), side).to_table()

        return (
            images.repartition(target_num_rows_per_block=config.block_images)
            .map_batches(
                views,
                batch_format="pyarrow",
                batch_size=None,
                compute=ray.data.TaskPoolStrategy(size=config.readers),
                max_retries=_RETRIES,
            )
            .map_batches(
                TeacherActor,
                fn_constructor_args=(
                    ray.put(self.teacher),
                    config.cpus_per_actor,
                    config.gpus_per_actor,
                    self.counter,
                ),
                batch_format="pyarrow",
                batch_size=config.batch_size,
                compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
                num_cpus=config.cpus_per_actor,
                num_gpus=config.gpus_per_actor,
                max_task_retries=_RETRIES,
            )
        )

    def _record_killers(self, part: ImageShard, shard: Shard) -> None:
        """Write a failure for each image that even alone did not come back."""
        lost = np.setdiff1d(part.ids(), shard.ids())
        if len(lost):
            wanted = pa.array(lost, pa.int64())
            killers = pa.concat_tables(
                rows.filter(pc.is_in(rows["image_id"], wanted)) for rows in part.rows()
            )
            reason = "the process that read or labelled it died"
            failed = failed_rows(killers, "process", reason, self._schema)
            pq.write_table(failed, shard.folder / "killers.parquet", **_FORM)

    def label_here(self, part: ImageShard, shard: Shard) -> None:
        """The same without a pool: one process, one thread of control, for a debugger."""
        config = self.config
        teacher = TeacherActor(
            self.teacher, config.cpus_per_actor, config.gpus_per_actor, self.counter
        )
        side = self.teacher.image_size_px
        rows = pa.concat_tables(part.rows())
        starts = range(0, rows.num_rows, config.batch_size)
        some = (rows.slice(start, config.batch_size) for start in starts)
        tables = [teacher(fitted_views(each, side).to_table()) for each in some]
        shard.folder.mkdir(parents=True, exist_ok=True)
        whole = pa.concat_tables([self._schema.empty_table(), *tables])
        pq.write_table(whole, shard.folder / "here.parquet", **_FORM)
        shard.publish()


def _require_once(part: ImageShard, shard: Shard) -> None:
    """Refuse to publish a shard in which an image stands twice, or not at all."""
    found, wanted = np.sort(shard.ids()), np.sort(part.ids())
    if not np.array_equal(found, wanted):
        raise UserError(
            f"{shard.folder}: holds {len(found)} rows for {len(wanted)} images; "
            "remove this folder and run the same command again"
        )
