"""Joint training under Ray Train, fed by Ray Data, against a plain PyTorch loop.

    python benchmarks/training.py [--workers 2] [--pairs N]

Same model, same views in the same order, same loss over the global batch, same optimiser. Each
way has the same processes, with one thread each: a worker or two that train, and for each of them a
loading process a stream. Two workers share every global batch and add up their gradients by gloo:
ours as Ray Train sets them up, the plain ones as two processes under `DistributedDataParallel`,
each with two `torch.utils.data.DataLoader`s. What Ray runs besides is on top, on our side alone.

Samples a second are those of the global batch: the median over logged intervals, the first ones
left out. CPU seconds are all that the machine worked in those intervals, start-up left out, so a
quiet machine is wanted for them too.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pairs import busy_s, in_turn, machine, middle, pairs_parser
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from world import AUGMENT, MODEL, TRAIN, joint_job, scenes

from ray_st.cluster.session import connected
from ray_st.data.batches import Batch, of_views, paired
from ray_st.data.feed import Share
from ray_st.data.labels import Origin
from ray_st.data.order import images_at, positions_of, stream_seed
from ray_st.data.sources import LabeledSet
from ray_st.data.views import augmented_views
from ray_st.models import build
from ray_st.tasks import make_task
from ray_st.training.loop import fit
from ray_st.training.step import TrainState, train_step

SKIPPED_INTERVALS = 2


@dataclass(frozen=True)
class Clock:
    """What the first worker of either way is handed: a line of a file for each logged step."""

    file: Path

    def put(self, step: int, _note: str = "") -> None:
        """Note the time, and what the machine has worked, after so many steps."""
        with self.file.open("a") as lines:
            lines.write(json.dumps([step, time.monotonic(), busy_s()]) + "\n")

    def warn(self, lines: Mapping[str, str]) -> None:
        """What worries a training is nothing to a clock."""

    def read(self) -> Pace:
        """How fast it was, the first intervals left out."""
        noted = [json.loads(line) for line in self.file.read_text().splitlines()]
        intervals = [
            [after - before for before, after in zip(*pair, strict=True)]
            for pair in itertools.pairwise(noted)
        ][SKIPPED_INTERVALS - 1 :]
        samples = TRAIN.batch_size + TRAIN.num_pseudo
        steps, _, cpu_s = (sum(each) for each in zip(*intervals, strict=True))
        return Pace(
            samples_a_s=statistics.median(n * samples / took for n, took, _ in intervals),
            cpu_ms=1000 * cpu_s / (steps * samples),
        )


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a steady step costs."""

    samples_a_s: float  # of the global batch
    cpu_ms: float  # of the whole machine, a sample


class Batches(Dataset[Batch]):
    """One worker's part of one origin's batches, an item a step, in the order of our streams."""

    def __init__(self, labeled: LabeledSet, origin: Origin, share: Share) -> None:
        """Serve every image of `labeled` again and again."""
        self.labeled, self.origin, self.share = labeled, origin, share

    def __len__(self) -> int:
        return TRAIN.steps

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""
        rows, seed = self.labeled.rows, stream_seed(TRAIN.seed, self.origin)
        positions = positions_of(
            first_step=step,
            num_steps=1,
            batch_size=TRAIN.batch_size,
            worker=self.share.worker,
            num_workers=self.share.num_workers,
        ).ravel()
        indices, epochs = images_at(positions, num_images=rows.num_rows, seed=seed)
        views = augmented_views(
            rows.take(pa.array(indices)), epochs.tolist(), MODEL.image_size_px, AUGMENT, seed
        )
        return of_views(views, self.origin)


def plain_batches(labeled: LabeledSet, share: Share) -> Iterator[Batch]:
    """Pairs of a human and a pseudo batch, each from a loading process of its own."""
    loaders: list[Any] = [
        DataLoader(
            Batches(labeled, origin, share), batch_size=None, num_workers=1, prefetch_factor=4
        )
        for origin in (Origin.HUMAN, Origin.PSEUDO)
    ]
    for human, pseudo in zip(*loaders, strict=True):
        yield paired(human, pseudo)


def plain_worker(worker: int, num_workers: int, labeled: LabeledSet, folder: str) -> None:
    """Train as one of some processes; the first one keeps the time."""
    torch.set_num_threads(TRAIN.cpus_per_worker)
    torch.manual_seed(TRAIN.seed)
    model: Any = build(MODEL, "detection", len(labeled.classes))
    model = model.to(memory_format=torch.channels_last).train()
    if num_workers > 1:
        store = dist.FileStore(f"{folder}/store", num_workers)
        dist.init_process_group("gloo", store=store, rank=worker, world_size=num_workers)
        model = DistributedDataParallel(model)
    task = make_task("detection", MODEL, len(labeled.classes))
    state = TrainState.fresh(model, TRAIN, "cpu")
    clock = Clock(Path(folder, "clock"))
    for batch in plain_batches(labeled, Share(worker=worker, num_workers=num_workers)):
        report = train_step(state, batch, task, TRAIN)
        if state.step % TRAIN.log_every == 0:
            report.as_row()
            if worker == 0:
                clock.put(state.step)
    if num_workers > 1:
        dist.destroy_process_group()


def plain_pace(labeled: LabeledSet, num_workers: int) -> Pace:
    """Measure the plain loop."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(plain_worker, args=(num_workers, labeled, folder), nprocs=num_workers)
        return Clock(Path(folder, "clock")).read()


def ray_pace(labeled: LabeledSet, num_workers: int) -> Pace:
    """Measure our loop."""
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(Path(folder, "clock"))
        job = joint_job(labeled, labeled.rows, replace(TRAIN, num_workers=num_workers))
        fit(replace(job, counter=clock), Path(folder, "out"))
        return clock.read()


def main() -> None:
    """Print every pair, and both ratios."""
    parser = pairs_parser(__doc__ or "")
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1)
    given = parser.parse_args()
    print(f"joint training, {given.workers} worker(s)\n{machine()}", flush=True)
    with tempfile.TemporaryDirectory() as folder, connected("local"):
        labeled = scenes(Path(folder), 128)
        rates, costs = [], []
        for own, other in in_turn(
            lambda: ray_pace(labeled, given.workers),
            lambda: plain_pace(labeled, given.workers),
            given.pairs,
        ):
            rates.append(own.samples_a_s / other.samples_a_s)
            costs.append(own.cpu_ms / other.cpu_ms)
            print(
                f"  pair {len(rates)}: samples a second: ours {own.samples_a_s:.1f}, "
                f"plain {other.samples_a_s:.1f}, ratio {rates[-1]:.3f};  "
                f"CPU ms a sample: ours {own.cpu_ms:.1f}, plain {other.cpu_ms:.1f}, "
                f"ratio {costs[-1]:.3f}",
                flush=True,
            )
    print(f"  samples a second, ours / plain: median {middle(rates)} (aim: at least 0.95)")
    print(f"  CPU a sample, ours / plain: median {middle(costs)}")


if __name__ == "__main__":
    main()
