"""Joint training under Ray Train, fed by Ray Data, against a plain PyTorch loop.

Same model, same views in the same order, same loss and optimiser, one worker with one thread, one
loading process a stream; the plain loop reads through `torch.utils.data.DataLoader`. The rate is
the steady one: the median over logged intervals, the first ones left out.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pairs import compare, parse_pairs
from torch.utils.data import DataLoader, Dataset
from world import MODEL, scenes

from ray_st.cluster.session import connected
from ray_st.data.augment import AugmentConfig
from ray_st.data.batches import Batch, collate, paired
from ray_st.data.labels import Origin
from ray_st.data.order import images_at, positions_of
from ray_st.data.sources import LabeledSet
from ray_st.data.views import augmented_views
from ray_st.models import build
from ray_st.selftraining.learning import Learning, training_job
from ray_st.tasks import make_task
from ray_st.training.loop import fit
from ray_st.training.loss_balance import LossBalance
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import TrainState, train_step
from ray_st.training.trainable import make_optimizer

SKIPPED_INTERVALS = 2
TRAIN = TrainConfig(
    steps=60,
    batch_size=8,
    optimizer="adamw",
    lr=0.0005,
    cpus_per_worker=1,
    log_every=5,
    checkpoint_every=1000,
)
AUGMENT = AugmentConfig()


class Batches(Dataset[Batch]):
    """One origin's batches, an item a step, in the order of our streams."""

    def __init__(self, labeled: LabeledSet, origin: Origin) -> None:
        """Serve every image of `labeled` again and again."""
        self.labeled, self.origin = labeled, origin

    def __len__(self) -> int:
        return TRAIN.steps

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""
        rows, seed = self.labeled.rows, int(self.origin)
        positions = positions_of(
            first_step=step, num_steps=1, batch_size=TRAIN.batch_size, worker=0, num_workers=1
        ).ravel()
        indices, epochs = images_at(positions, num_images=rows.num_rows, seed=seed)
        views = augmented_views(
            rows.take(indices), epochs.tolist(), MODEL.image_size_px, AUGMENT, seed
        )
        return collate(
            views.pixels,
            views.labels,
            origin=self.origin,
            is_valid=views.is_valid,
            image_ids=views.image_ids,
        )


def plain_batches(labeled: LabeledSet) -> Iterator[Batch]:
    """Pairs of a human and a pseudo batch, each from a loading process of its own."""
    loaders: list[Any] = [
        DataLoader(Batches(labeled, origin), batch_size=None, num_workers=1, prefetch_factor=4)
        for origin in Origin
    ]
    for human, pseudo in zip(*loaders, strict=True):
        yield paired(human, pseudo)


def plain_rate(labeled: LabeledSet) -> float:
    """Samples a second of the plain loop."""
    torch.set_num_threads(TRAIN.cpus_per_worker)
    torch.manual_seed(0)
    model = (
        build(MODEL, "detection", len(labeled.classes))
        .to(memory_format=torch.channels_last)
        .train()
    )  # type: ignore[call-overload]
    task = make_task("detection", MODEL, len(labeled.classes))
    balance = LossBalance.start(alpha=1.0, normalised=True, decay=0.99)
    optimizer = make_optimizer(model, TRAIN)
    state = TrainState(model=model, optimizer=optimizer, balance=balance, step=0)
    rates, begun = [], time.monotonic()
    for batch in plain_batches(labeled):
        report = train_step(state, batch, task, TRAIN)
        if state.step % TRAIN.log_every == 0:
            report.as_row()
            now = time.monotonic()
            rates.append(TRAIN.log_every * len(batch) / (now - begun))
            begun = now
    return statistics.median(rates[SKIPPED_INTERVALS:])


def ray_rate(labeled: LabeledSet) -> float:
    """Samples a second of our loop."""
    learning = Learning(task="detection", model=MODEL, augment=AUGMENT, train=TRAIN)
    with tempfile.TemporaryDirectory() as folder:
        job = training_job(
            learning,
            human=labeled,
            val=replace(labeled, rows=labeled.rows.slice(0, 8)),
            pseudo=labeled.rows,
            init=None,
            recipe={},
        )
        fit(job, Path(folder))
        lines = Path(folder, "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["images_per_s"] for line in lines]
    return statistics.median(rates[SKIPPED_INTERVALS:])


def main() -> None:
    """Print the ratio."""
    pairs = parse_pairs(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        labeled = scenes(Path(folder), 128)
        with connected("local"):
            compare(
                "joint training, samples a second",
                lambda: ray_rate(labeled),
                lambda: plain_rate(labeled),
                pairs,
            )


if __name__ == "__main__":
    main()
