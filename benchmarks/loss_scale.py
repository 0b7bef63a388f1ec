"""The paper's figure on loss normalisation in miniature: what if the pseudo loss weighs otherwise?

A tiny detector and a tiny segmenter learn from a few human and many pseudo-labelled digit scenes;
the pseudo loss is multiplied by 1e-3 to 1e3, at several alphas, by SGD. The normalised loss must
not care; the plain sum does. Prints the metric of every run and its spread over the factors.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pairs import machine

from ray_st.data.augment import AugmentConfig
from ray_st.data.batches import Batch, collate, paired
from ray_st.data.labels import Detections, Labels, Origin, SegmentationMap
from ray_st.data.order import images_at, positions_of, stream_seed
from ray_st.data.sources import LabeledSet, open_labeled
from ray_st.data.sources.digits import DigitsConfig, world_data, write_world
from ray_st.data.views import augmented_views, fitted_views
from ray_st.labeling.teacher import Teacher
from ray_st.models import ModelConfig, build
from ray_st.tasks import make_task
from ray_st.tasks.task import LossSums, Task
from ray_st.training.evaluate import predict
from ray_st.training.loss_balance import PSEUDO, LossBalance
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import TrainState, train_step
from ray_st.training.trainable import make_optimizer

FACTORS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
ALPHAS = (0.25, 0.5, 1.0, 2.0, 4.0)
KINDS: dict[str, type[Labels]] = {"detection": Detections, "segmentation": SegmentationMap}
DIGITS = DigitsConfig(
    labeled_scenes=40,
    val_scenes=200,
    pool_scenes=400,
    labeled_digits=80,
    scene_px=48,
    digits_per_scene=(1, 2),
    digit_px=(20, 28),
    classes=(0, 1, 2),
)
MODEL = ModelConfig(
    backbone="test_resnet", image_size_px=64, levels=(3, 4), channels=32, head_convs=1
)
TRAIN = TrainConfig(steps=300, batch_size=8, pseudo_batch_size=16, lr=0.05, clip_norm=10.0)


class Scaled:
    """An objective whose pseudo loss weighs `factor` times as much."""

    def __init__(self, task: Task, factor: float) -> None:
        self._task, self._factor, self.origins = task, factor, torch.empty(0)

    def targets(self, labels: Sequence[Any], size_hw: tuple[int, int], device: Any) -> Any:
        """Those of the task."""
        return self._task.targets(labels, size_hw, device)

    def loss_sums(self, outputs: Any, targets: Any) -> LossSums:
        """Those of the task, times the factor for pseudo images."""
        found = self._task.loss_sums(outputs, targets)
        scale = torch.where(self.origins == PSEUDO, self._factor, 1.0)
        return replace(found, sums=found.sums * scale)


@dataclass(frozen=True, kw_only=True)
class World:
    """Scenes of one task; the truth of the pool stands for pseudo labels, some of them wrong."""

    task: Task
    name: str
    human: LabeledSet
    pool: LabeledSet
    val: LabeledSet


def open_world(folder: Path, name: str) -> World:
    """Write the scenes of a task and open them."""
    write_world(folder, DIGITS, KINDS[name])
    data = world_data(folder, KINDS[name])
    assert data.unlabeled is not None
    human, val, pool = (open_labeled(uri) for uri in (data.train, data.val, data.unlabeled))
    task = make_task(name, MODEL, len(human.classes))
    return World(task=task, name=name, human=human, pool=pool, val=val)


def batches(world: World) -> Iterator[Batch]:
    """The steps of every run: the same images, the same views."""
    for step in range(TRAIN.steps):
        halves = []
        for labeled, origin, size in (
            (world.human, Origin.HUMAN, TRAIN.batch_size),
            (world.pool, Origin.PSEUDO, TRAIN.num_pseudo),
        ):
            seed, rows = stream_seed(0, origin), labeled.rows
            positions = positions_of(
                first_step=step, num_steps=1, batch_size=size, worker=0, num_workers=1
            ).ravel()
            indices, epochs = images_at(positions, num_images=rows.num_rows, seed=seed)
            views = augmented_views(
                rows.take(pa.array(indices)), epochs.tolist(), MODEL.image_size_px,
                AugmentConfig(flip_probability=0.0), seed,
            )  # fmt: skip
            halves.append(
                collate(
                    views.pixels, views.labels, origin=origin,
                    is_valid=views.is_valid, image_ids=views.image_ids,
                )
            )  # fmt: skip
        yield paired(*halves)


def metric(
    world: World,
    steps: Sequence[Batch],
    alpha: float,
    factor: float,
    loss: Literal["normalised", "plain"],
) -> float:
    """Train, and measure on the validation scenes; 0 for a run whose numbers went bad."""
    torch.manual_seed(0)
    config = replace(TRAIN, alpha=alpha, loss=loss)
    model = build(MODEL, world.name, len(world.human.classes)).train()
    balance = LossBalance.start(alpha=alpha, normalised=loss == "normalised", decay=0.99)
    state = TrainState(
        model=model, optimizer=make_optimizer(model, config), balance=balance, step=0
    )
    objective = Scaled(world.task, factor)
    for batch in steps:
        objective.origins = batch.origins
        train_step(state, batch, objective, config)
    model.eval()
    views = fitted_views(world.val.rows, MODEL.image_size_px)
    teacher = Teacher(model, world.task, torch.device("cpu"))
    predictions = predict(teacher, [views])
    figures = world.task.metrics(world.val.rows, predictions, world.val.classes)
    found = figures[world.task.figures[0]]
    return 0.0 if np.isnan(found) else float(found)


def main() -> None:
    """Print a table a task and loss, and the rows as JSON for a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=[*KINDS], action="append")
    parser.add_argument("--rows", type=Path, help="write the rows here too, as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    rows = []
    for name in given.task or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            world = open_world(Path(folder), name)
            steps = list(batches(world))
            for loss in ("normalised", "plain"):
                print(f"\n{name}, {loss}: {world.task.figures[0]} (factors {FACTORS})")
                for alpha in ALPHAS:
                    found = [metric(world, steps, alpha, factor, loss) for factor in FACTORS]
                    rows.append({"task": name, "loss": loss, "alpha": alpha, "found": found})
                    cells = "  ".join(f"{each:5.1f}" for each in found)
                    spread = max(found) - min(found)
                    print(f"  alpha {alpha:4g}: {cells}   spread {spread:.2f}", flush=True)
    if given.rows is not None:
        given.rows.write_text(json.dumps({"factors": FACTORS, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
