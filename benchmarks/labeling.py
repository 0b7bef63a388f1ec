"""Labelling through Ray Data against three other ways to label the same files with the same model.

(a) decode, forward and post-processing in one process, nothing written: no way can cost less CPU;
(b) the best plain loop for these cores: a process a core, each with its own share of the files,
    decoding, predicting and writing Parquet, with no queue between;
(c) Ray Data's own script for batch inference: read_images, an actor pool, write_parquet.

Each is run with few and with many images: the slope between the two is what an image costs once
all is up, and start-up stands apart. The teacher is light (ResNet-10-t at 128 px) or ResNet-50 with
FPN at 640 px; scenes of 320 px or 640 px. All use one torch thread a process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pairs import busy_s, machine
from world import MODEL, random_model, scenes

from ray_st.cluster.session import connected
from ray_st.data.labels import Origin
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.views import fitted_views
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.pool import label
from ray_st.labeling.store import Store
from ray_st.labeling.teacher import SavedTeacher
from ray_st.models import ModelConfig
from ray_st.tasks import make_task

CORES = os.cpu_count() or 1
HEAVY = ModelConfig(backbone="resnet50", image_size_px=640, levels=(3, 7), channels=256)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A teacher, and how much it labels."""

    model: ModelConfig
    scene_px: int
    few: int
    many: int
    batch: int


SETTINGS = {
    "light": Setting(model=MODEL, scene_px=320, few=512, many=4608, batch=32),
    "resnet50": Setting(model=HEAVY, scene_px=640, few=8, many=40, batch=4),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run took."""

    wall_s: float
    cpu_s: float
    first_s: float = 0.0  # until the first labels stand on disk


@dataclass(frozen=True, kw_only=True)
class Slope:
    """What an image costs once all is up, and the rest."""

    wall_ms: float
    cpu_ms: float
    start_s: float
    first_s: float


def repeated(images: pa.Table, count: int) -> pa.Table:
    """`count` rows that name the same files again and again, each with an id of its own."""
    rows = images.take(pa.array([i % images.num_rows for i in range(count)]))
    return rows.set_column(0, "image_id", pa.array(range(count), pa.int64())).cast(IMAGE_ROW)


def measured(work: Callable[[Path], None]) -> Cost:
    """Run it in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        first, ended = [0.0], threading.Event()
        wall, cpu = time.monotonic(), busy_s()

        def look() -> None:
            while not ended.wait(0.05):
                files = (file.relative_to(folder).parts for file in Path(folder).rglob("*.parquet"))
                if any(not part.startswith(".") for parts in files for part in parts[-2:-1]):
                    first[0] = time.monotonic() - wall
                    return

        watcher = threading.Thread(target=look)
        watcher.start()
        work(Path(folder))
        cost = Cost(wall_s=time.monotonic() - wall, cpu_s=busy_s() - cpu)
        ended.set()
        watcher.join()
        return replace(cost, first_s=first[0] or cost.wall_s)


def slope(work: Callable[[int, Path], None], setting: Setting) -> Slope:
    """Run few and many."""
    few, many = (measured(lambda out, n=n: work(n, out)) for n in (setting.few, setting.many))
    more = setting.many - setting.few
    wall = (many.wall_s - few.wall_s) / more
    return Slope(
        wall_ms=1000 * wall,
        cpu_ms=1000 * (many.cpu_s - few.cpu_s) / more,
        start_s=few.wall_s - wall * setting.few,
        first_s=min(few.first_s, many.first_s),
    )


@dataclass(frozen=True, kw_only=True)
class Ways:
    """The same files and model, labelled in four ways."""

    images: pa.Table
    source: SavedTeacher
    setting: Setting

    def ours(self, count: int, out: Path) -> None:
        """`ray-st label`, but for the command line."""
        config = LabelConfig(
            actors=(CORES, CORES),
            batch_size=self.setting.batch,
            block_images=max(self.setting.batch, 128 if self.setting.batch > 4 else 8),
            file_images=max(64, self.setting.few // 4),
            readers=CORES,
        )
        label(Images.of_rows(repeated(self.images, count)), self.source, out, config, None)
        assert Store(str(out / "raw")).read().num_rows == count

    def bare(self, count: int, out: Path) -> None:
        """(a)"""
        del out
        _in_processes([(self, range(0, count, self.setting.batch), None)])

    def processes(self, count: int, out: Path) -> None:
        """(b)"""
        (out / "all").mkdir()
        starts = list(range(0, count, self.setting.batch))
        files = [out / "all" / f"{core}.parquet" for core in range(CORES)]
        _in_processes([(self, starts[core::CORES], file) for core, file in enumerate(files)])

    def naive(self, count: int, out: Path) -> None:
        """(c)"""
        import ray.data

        side = self.setting.model.image_size_px
        rows = repeated(self.images, count)
        paths = rows["uri"].to_pylist()
        images = ray.data.read_images(paths, size=(side, side), mode="RGB", include_paths=True)
        images.map_batches(
            Naive,
            fn_constructor_args=(self.source,),
            batch_size=self.setting.batch,
            concurrency=CORES,
            num_cpus=1,
        ).write_parquet(str(out / "all"))
        assert sum(pq.read_metadata(file).num_rows for file in out.rglob("*.parquet")) == count


class Naive:
    """An actor as Ray's documentation shows one."""

    def __init__(self, source: SavedTeacher) -> None:
        torch.set_num_threads(1)
        self._teacher = source.load("cpu")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add boxes and scores to the paths."""
        pixels = np.asarray(batch["image"])
        found = self._teacher.predict(pixels, np.array([pixels.shape[1:3]] * len(pixels)))
        return {
            "path": batch["path"],
            "boxes": [one.boxes_xyxy.ravel().tolist() for one in found],
            "scores": [one.scores.tolist() for one in found],
            "class_ids": [one.class_ids.tolist() for one in found],
        }


def _in_processes(shares: list[tuple[Ways, Any, Path | None]]) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_share, args=share) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


def _share(ways: Ways, starts: Any, file: Path | None) -> None:
    """Label some batches of the files, one after another; write them where there is a file."""
    torch.set_num_threads(1)
    batch, side = ways.setting.batch, ways.source.image_size_px
    teacher, writer = ways.source.load("cpu"), None
    size = len(ways.images)
    for start in starts:
        rows = ways.images.take(pa.array([i % size for i in range(start, start + batch)]))
        views = fitted_views(rows, side)
        found = teacher.predict(views.pixels, views.sizes_hw)
        if file is not None:
            table = views.rows(found, origin=Origin.PSEUDO, kind=teacher.kind)
            writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table)
    if writer is not None:
        writer.close()


def report(name: str, slopes: dict[str, list[Slope]]) -> None:
    """Print medians, and the ratios of pairs."""
    print(f"\n{name}\n{machine()}")
    print("  way         ms of wall  ms of CPU (an image)   start-up s  first labels s")
    for way, found in slopes.items():
        fields = ("wall_ms", "cpu_ms", "start_s", "first_s")
        wall, cpu, start, first = (
            statistics.median(getattr(each, field) for each in found) for field in fields
        )
        print(f"  {way:10} {wall:11.2f} {cpu:10.2f} {start:22.1f} {first:15.1f}")
    ours = slopes["ours"]
    told = (
        ("CPU an image, ours / bare", "bare", lambda o, t: o.cpu_ms / t.cpu_ms),
        ("images a second, ours / processes", "processes", lambda o, t: t.wall_ms / o.wall_ms),
        ("images a second, ours / naive", "naive", lambda o, t: t.wall_ms / o.wall_ms),
    )
    for what, way, ratio in told:
        if way in slopes:
            found = [ratio(o, t) for o, t in zip(ours, slopes[way], strict=True)]
            low, high = min(found), max(found)
            print(f"  {what}: {statistics.median(found):.3f} ({low:.3f} to {high:.3f})")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="rounds of all ways (default 5)")
    parser.add_argument("--teacher", choices=[*SETTINGS], action="append")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.teacher or SETTINGS:
        setting = SETTINGS[name]
        with tempfile.TemporaryDirectory() as folder, connected("local"):
            labeled = scenes(Path(folder), min(256, setting.many), setting.scene_px)
            images = labeled.rows.select(IMAGE_ROW.names).cast(IMAGE_ROW)
            saved = random_model(labeled.classes, setting.model)
            task = make_task("detection", setting.model, len(labeled.classes))
            source = SavedTeacher(saved=saved, task=task)
            ways = Ways(images=images, source=source, setting=setting)
            measured(lambda out, ways=ways, least=setting.batch: ways.ours(least, out))  # warms up
            slopes: dict[str, list[Slope]] = {}
            for turn in range(given.pairs):
                order = [ways.ours, ways.bare, ways.processes, ways.naive]
                for way in order if turn % 2 == 0 else reversed(order):
                    found = slope(way, setting)
                    slopes.setdefault(way.__name__, []).append(found)
                    print(f"{name}, round {turn + 1}: {way.__name__} {found}", flush=True)
            report(name, slopes)


if __name__ == "__main__":
    main()
