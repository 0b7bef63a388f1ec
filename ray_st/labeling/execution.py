"""One run of Ray Data: manifest files to STORE_ROWs, under Ray's own checkpoints.

In: Parquet files of IMAGE_ROWs. Out: Parquet files beside those that stand already; which ids are
written is recorded in two phases, and an interrupted run goes on behind them. Next: `shards.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass

import pyarrow as pa
import ray
import ray.data

from ray_st import ray_checkpoints, ray_compat
from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.parquet import FORM
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.views import fitted_views
from ray_st.labeling.actor import TeacherActor
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.looks import Looks
from ray_st.labeling.meter import Meter
from ray_st.labeling.recovery import notes, recover
from ray_st.labeling.store import Shard
from ray_st.labeling.teacher import TeacherSource
from ray_st.progress import Counter

VIEWS_AT_ONCE = 64  # decoded in one piece
_MOST_LOST_BLOCKS = 100  # of one shard, to dying processes, before it is given up
_RETRIES = 2  # of a task whose process died, before its block is left for the search
_RETRIES_ALONE = 1  # of an image that is searched: it dies of nobody else
_LOOK_S = 1.0  # between two looks
_NOTICE_S = 20.0  # Ray asks a node every 3 s, and holds it for dead after five times


@dataclass(frozen=True, kw_only=True)
class Execution:
    """A teacher, and what runs it."""

    teacher: TeacherSource
    config: LabelConfig
    counter: Counter | None
    meter: Meter
    looks: Looks
    schema: pa.Schema  # of the STORE_ROWs
    alone: bool = False  # whether no image may wait behind another, and die with it

    def run(self, files: Sequence[str], shard: Shard, look: Callable[[], None]) -> None:
        """Label the images of some files that stand in none of the shard's.

        `look` is called now and then; what it raises ends the run, and is raised here. Raises
        `UserError` where files could not be written.
        """
        filesystem, checkpoint = storage.locate(notes(shard))
        with ray_checkpoints.checkpointed(
            "image_id",
            filesystem,
            checkpoint,
            lost_blocks=_MOST_LOST_BLOCKS,
            each_step=_seldom(look),
        ) as unwritten:
            filesystem, folder = storage.locate(shard.folder)
            try:
                self._labeled(_images(files)).write_parquet(
                    folder,
                    filesystem=filesystem,
                    # A bucket has no folders to make.
                    try_create_dir=not storage.is_remote(shard.folder),
                    min_rows_per_file=self.config.file_images,
                    **FORM,
                )
            except Exception:
                look()  # the line of the user's, whatever Ray made of it
                raise
        recover(shard)
        # Nobody's process died: images that were labelled must not end as failures.
        if count := unwritten():
            raise UserError(
                f"{shard.folder}: {count} files could not be written; the rest stands, and the "
                "same command goes on from here"
            )

    def _labeled(self, images: ray.data.Dataset) -> ray.data.Dataset:
        """Images to STORE_ROWs, lazily."""
        config, meter, side = self.config, self.meter, self.looks.largest_px
        least, most = config.actors
        retries = _RETRIES_ALONE if self.alone else _RETRIES

        def views(table: pa.Table) -> Iterator[pa.Table]:
            for first in range(0, table.num_rows, VIEWS_AT_ONCE):
                begun = time.monotonic()
                found = fitted_views(table.slice(first, VIEWS_AT_ONCE), side).to_table()
                meter.read(time.monotonic() - begun)
                yield found

        return (
            images.repartition(target_num_rows_per_block=config.block_images)
            .map_batches(
                views,
                batch_format="pyarrow",
                batch_size=None,
                compute=ray.data.TaskPoolStrategy(size=config.readers),
                **ray_compat.task_retries(retries),
            )
            .map_batches(
                TeacherActor,
                fn_constructor_args=(
                    ray.put(self.teacher),
                    self.looks,
                    self.schema,
                    config.cpus_per_actor,
                    config.gpus_per_actor,
                    self.counter,
                    meter,
                ),
                batch_format="pyarrow",
                batch_size=config.batch_size,
                compute=ray.data.ActorPoolStrategy(
                    min_size=least,
                    max_size=most,
                    initial_size=config.first_actors,
                    max_tasks_in_flight_per_actor=1 if self.alone else None,
                ),
                num_cpus=config.cpus_per_actor,
                num_gpus=config.gpus_per_actor,
                **ray_compat.on_nodes(config.nodes),
                **ray_compat.actor_retries(retries),
            )
        )


def nodes_lost(before: Set[str] = frozenset(), *, notice_s: float = _NOTICE_S) -> set[str]:
    """Ids of the nodes that are dead, `before` left out; waits until Ray must have noticed."""
    time.sleep(notice_s)
    return {str(node["NodeID"]) for node in ray.nodes() if not node["Alive"]} - before


def _seldom(act: Callable[[], None]) -> Callable[[], None]:
    last = [time.monotonic()]

    def perhaps() -> None:
        if time.monotonic() - last[0] >= _LOOK_S:
            last[0] = time.monotonic()
            act()

    return perhaps


def _images(files: Sequence[str]) -> ray.data.Dataset:
    filesystem, _ = storage.locate(files[0])
    paths = [storage.locate(file)[1] for file in files]
    # No path is parsed for partitions: `a=b` is a name like any other.
    images = ray.data.read_parquet(paths, filesystem=filesystem, partitioning=None)
    return images.select_columns(IMAGE_ROW.names)
