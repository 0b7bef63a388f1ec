"""The left wing's edge: an actor pool with the teacher, mapped over the images by Ray Data.

In: IMAGE_ROWs and a saved model. Out: a folder of Parquet: `raw/status=ok` (LABEL_ROWs with every
prediction above the floor), `raw/status=failed`, and `failures.parquet`. Next: `policy.py`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import ray
import ray.data
import torch

from ray_st.config import require
from ray_st.data.labels import Labels, Origin
from ray_st.data.rows import FAILURE_ROW, kind_of, label_row
from ray_st.data.views import Views, fitted_views
from ray_st.labeling.teacher import Teacher
from ray_st.models.saved import SavedModel
from ray_st.progress import Counter
from ray_st.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Settings of labelling."""

    actors: tuple[int, int] = (1, 2)
    """Least and most teacher actors; 0 0 labels inside the calling process, for a debugger."""
    cpus_per_actor: float = 1.0
    """Cores that a teacher actor reserves and computes with."""
    gpus_per_actor: float = 0.0
    """Accelerators a teacher actor; a fraction packs several on one."""
    batch_size: int = 32
    """Images a forward pass."""
    block_images: int = 64
    """Images a block: what one decoding task reads, and what is lost and redone when one dies."""
    readers: int = 2
    """Most tasks at once that fetch and decode images."""

    def __post_init__(self) -> None:
        least, most = self.actors
        require(0 <= least <= most, "label.actors", "two numbers, least <= most", self.actors)
        require(most == 0 or least >= 1, "label.actors", "0 0, or at least 1 actor", self.actors)
        require(self.cpus_per_actor > 0, "label.cpus_per_actor", "above 0", self.cpus_per_actor)
        require(self.gpus_per_actor >= 0, "label.gpus_per_actor", "0 or more", self.gpus_per_actor)
        for name in ("batch_size", "block_images", "readers"):
            require(getattr(self, name) >= 1, f"label.{name}", "at least 1", getattr(self, name))


class TeacherActor:
    """A teacher in a process of its own: loaded once, then views in, labels out."""

    def __init__(
        self, saved: Any, task: Task, cpus: float, gpus: float, counter: Counter | None
    ) -> None:
        """`saved` is a `SavedModel`, or a reference to one in the object store."""
        saved = ray.get(saved) if isinstance(saved, ray.ObjectRef) else saved
        torch.set_num_threads(max(1, int(cpus)))
        device = "cuda" if gpus > 0 else "cpu"
        self._teacher = Teacher(saved.load(device), task, device)
        self._counter = counter

    def __call__(self, table: pa.Table) -> pa.Table:
        """Label a table of views; a view that is none becomes a failed row."""
        views = Views.from_table(table)
        valid = np.flatnonzero(views.is_valid)
        labels: list[Labels] = [self._teacher.kind.unknown()] * len(views.uris)
        if len(valid):
            found = self._teacher.predict(views.pixels[valid], views.sizes_hw[valid])
            for i, one in zip(valid, found, strict=True):
                labels[i] = one
        if self._counter is not None:
            self._counter.add(len(labels))
        rows = views.rows(labels, origin=Origin.PSEUDO, kind=self._teacher.kind)
        return _with_status(rows, views)


def _with_status(rows: pa.Table, views: Views) -> pa.Table:
    status = ["ok" if ok else "failed" for ok in views.is_valid]
    rows = rows.append_column("status", pa.array(status, pa.string()))
    rows = rows.append_column("stage", pa.array(views.stages, pa.string()))
    return rows.append_column("reason", pa.array(views.reasons, pa.string()))


def label(
    images: pa.Table,
    saved: SavedModel,
    task: Task,
    out: Path,
    config: LabelConfig,
    counter: Counter | None,
) -> None:
    """Label every image once: `out/raw` and `out/failures.parquet`. `task` is the model's own.

    An image that cannot be read is a row of failures.parquet; the run goes on. What an interrupted
    call left is begun anew.
    """
    shutil.rmtree(out / "raw", ignore_errors=True)
    if config.actors[1] == 0:
        _label_here(images, saved, task, out / "raw", config, counter)
    else:
        dataset = labeled(images, saved, task, config, counter)
        dataset.write_parquet(str(out / "raw"), partition_cols=["status"], compression="zstd")
    failed = _read_raw(out, "failed")
    pq.write_table(failed.select(FAILURE_ROW.names).cast(FAILURE_ROW), out / "failures.parquet")


def labeled(
    images: pa.Table, saved: SavedModel, task: Task, config: LabelConfig, counter: Counter | None
) -> ray.data.Dataset:
    """The labelling pipeline as a lazy dataset: nothing runs before it is consumed."""
    side = saved.card.model.image_size_px
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    with ray.data.DataContext.current(context):
        return (
            ray.data.from_arrow(images)
            .repartition(target_num_rows_per_block=config.block_images)
            .map_batches(
                lambda table: fitted_views(table, side).to_table(),
                batch_format="pyarrow",
                batch_size=None,
                compute=ray.data.TaskPoolStrategy(size=config.readers),
            )
            .map_batches(
                TeacherActor,
                fn_constructor_args=(
                    ray.put(saved),
                    task,
                    config.cpus_per_actor,
                    config.gpus_per_actor,
                    counter,
                ),
                batch_format="pyarrow",
                batch_size=config.batch_size,
                compute=ray.data.ActorPoolStrategy(
                    min_size=config.actors[0], max_size=config.actors[1]
                ),
                num_cpus=config.cpus_per_actor,
                num_gpus=config.gpus_per_actor,
            )
        )


def _label_here(
    images: pa.Table,
    saved: SavedModel,
    task: Task,
    raw: Path,
    config: LabelConfig,
    counter: Counter | None,
) -> None:
    """The same without a pool: one process, one thread of control, for a debugger."""
    teacher = TeacherActor(saved, task, config.cpus_per_actor, config.gpus_per_actor, counter)
    side = saved.card.model.image_size_px
    starts = range(0, images.num_rows, config.batch_size)
    parts = [images.slice(start, config.batch_size) for start in starts]
    tables = (teacher(fitted_views(part, side).to_table()) for part in parts)
    pads.write_dataset(
        pa.concat_tables(tables),
        raw,
        format="parquet",
        partitioning=pads.partitioning(pa.schema([("status", pa.string())]), flavor="hive"),
        existing_data_behavior="error",
    )


def read_raw(out: Path) -> pa.Table:
    """The raw predictions of a labelled folder, in the order of image ids."""
    found = _read_raw(out, "ok")
    schema = label_row(kind_of(found.schema))
    return found.select(schema.names).cast(schema).sort_by("image_id")


def _read_raw(out: Path, status: str) -> pa.Table:
    partitioning = pads.partitioning(pa.schema([("status", pa.string())]), flavor="hive")
    # The partition column apart, all files have one schema; a folder without files has none.
    files = sorted((out / "raw").rglob("*.parquet"))
    kind = kind_of(pq.read_schema(files[0])) if files else None
    text = [(name, pa.string()) for name in ("stage", "reason", "status")]
    schema = pa.schema([*label_row(kind), *pa.schema(text)])
    raw = pads.dataset(out / "raw", format="parquet", schema=schema, partitioning=partitioning)
    return raw.to_table(filter=pads.field("status") == status)
