"""The paper's figure on loss normalisation in miniature: what if the pseudo loss weighs otherwise?

    python benchmarks/loss_scale.py [--rows FILE.jsonl] [--figure FILE.png] [--task detection]
        [--seed 0] [--alpha 0.5] [--factor 1000]

A tiny model learns by SGD from a few human-labelled digit scenes and from many pseudo-labelled
ones, of which a fifth have the labels of another scene. The pseudo loss is multiplied by 1e-3 to
1e3, at several alphas. The normalised loss must not care; the plain sum does. Once for boxes, once
for class maps. Prints the metric of every run and its spread over the factors. Each run is written
to `--rows` as it ends, and the same command goes on behind those that stand there.

All runs of a task go on from one model that learned a little from the human labels alone. From
random weights rounding, which a factor changes, soon leads runs to different models.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from loss_scale_figure import ALPHAS, FACTORS, LOSSES, Loss, Row, draw, of_each
from pairs import machine
from torch import nn

from ray_st.data.augment import AugmentConfig
from ray_st.data.batches import Batch, of_views, paired
from ray_st.data.labels import Detections, Labels, Origin, SegmentationMap
from ray_st.data.order import images_at, positions_of, stream_seed
from ray_st.data.rows import kind_of
from ray_st.data.sources import LabeledSet, open_labeled
from ray_st.data.sources.digits import DigitsConfig, world_data, write_world
from ray_st.data.views import augmented_views, fitted_views
from ray_st.labeling.teacher import Teacher
from ray_st.models import ModelConfig, build
from ray_st.tasks import make_task
from ray_st.tasks.task import LossSums, Task
from ray_st.training.evaluate import predict
from ray_st.training.loss_balance import PSEUDO
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import TrainState, train_step

Case = tuple[Loss, float, float]  # loss, alpha, factor
KINDS: dict[str, type[Labels]] = {"detection": Detections, "segmentation": SegmentationMap}
DIGITS = DigitsConfig(
    labeled_scenes=40,
    val_scenes=1600,
    pool_scenes=400,
    labeled_digits=80,
    scene_px=48,
    digits_per_scene=(1, 2),
    digit_px=(28, 34),
    noise=0.03,
    classes=(0, 1, 2),
)
MODEL = ModelConfig(
    backbone="test_resnet", image_size_px=48, levels=(3, 4), channels=32, head_convs=1
)
START = {  # on human labels alone
    "detection": TrainConfig(steps=300, batch_size=8, lr=0.02),
    "segmentation": TrainConfig(steps=500, batch_size=8, lr=1.0),
}
TRAIN = {  # each run, from there
    "detection": TrainConfig(steps=200, batch_size=8, lr=0.02),
    "segmentation": TrainConfig(steps=200, batch_size=8, lr=0.5),
}
WRONG = 0.2  # share of the pool's scenes whose labels are another scene's


def setting(seed: int) -> str:
    """A name for all that decides a run: rows of another setting are not gone on behind."""
    decisive = (DIGITS, MODEL, START, TRAIN, WRONG, seed)
    return hashlib.sha256(repr(decisive).encode()).hexdigest()[:12]


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
    """Scenes of one task; some labels of the pool are wrong."""

    seed: int
    task: Task
    human: LabeledSet
    pool: LabeledSet
    val: LabeledSet

    def metric(self, model: nn.Module) -> float:
        """The task's first figure on the validation scenes; 0 where there is none."""
        views = fitted_views(self.val.rows, MODEL.image_size_px)
        predictions = predict(Teacher(model.eval(), self.task), [views])
        found = self.task.metrics(self.val.rows, predictions, self.val.classes)
        figure = found[self.task.figures[0]]
        return 0.0 if np.isnan(figure) else float(figure)


def open_world(folder: Path, name: str, seed: int) -> World:
    """Write the scenes of a task and open them."""
    write_world(folder, replace(DIGITS, seed=seed), KINDS[name])
    data = world_data(folder, KINDS[name])
    assert data.unlabeled is not None
    human, val, pool = (open_labeled(uri) for uri in (data.train, data.val, data.unlabeled))
    task = make_task(name, MODEL, len(human.classes))
    pool = replace(pool, rows=mistaken(pool.rows))
    return World(seed=seed, task=task, human=human, pool=pool, val=val)


def mistaken(rows: pa.Table) -> pa.Table:
    """Rows of which a share have one another's labels."""
    wrong = np.random.default_rng(0).permutation(rows.num_rows)[: round(WRONG * rows.num_rows)]
    order = np.arange(rows.num_rows)
    order[wrong] = np.roll(wrong, 1)
    kind = kind_of(rows.schema)
    assert kind is not None
    for field in kind.FIELDS:
        column = rows[field.name].take(pa.array(order))
        rows = rows.set_column(rows.schema.get_field_index(field.name), field, column)
    return rows


def batch(world: World, origin: Origin, size: int, step: int) -> Batch:
    """One origin's images of a step: those that a training of ours takes."""
    seed = stream_seed(world.seed, origin)
    rows = (world.human if origin == Origin.HUMAN else world.pool).rows
    positions = positions_of(
        first_step=step, num_steps=1, batch_size=size, worker=0, num_workers=1
    ).ravel()
    indices, epochs = images_at(positions, num_images=rows.num_rows, seed=seed)
    views = augmented_views(
        rows.take(pa.array(indices)), epochs.tolist(), MODEL.image_size_px,
        AugmentConfig(flip_probability=0.0), seed,
    )  # fmt: skip
    return of_views(views, origin)


def started(world: World, config: TrainConfig) -> nn.Module:
    """The model that every run goes on from: it has seen human labels only."""
    torch.manual_seed(world.seed)
    model = build(MODEL, world.task.name, len(world.human.classes))
    steps = (batch(world, Origin.HUMAN, config.batch_size, step) for step in range(config.steps))
    return learned(model, world.task, steps, config, factor=1.0)


def learned(
    start: nn.Module, task: Task, steps: Iterable[Batch], config: TrainConfig, factor: float
) -> nn.Module:
    """Train a copy of a model."""
    model = copy.deepcopy(start).train()
    state = TrainState.fresh(model, config, "cpu")
    objective = Scaled(task, factor)
    for each in steps:
        objective.origins = each.origins
        train_step(state, each, objective, config)
    return model


def runs(name: str, seed: int, wanted: Iterable[Case], done: Sequence[Row]) -> Iterator[Row]:
    """The wanted runs of a task that are not done yet, one after the other."""
    keys = [(row["task"], row["loss"], row["alpha"], row["factor"]) for row in done]
    todo = [case for case in wanted if (name, *case) not in keys]
    if not todo:
        return
    with tempfile.TemporaryDirectory() as folder:
        world, train = open_world(Path(folder), name, seed), TRAIN[name]
        start = started(world, START[name])
        print(f"{name}: every run goes on from {world.metric(start):.1f}", flush=True)
        steps = [
            paired(
                batch(world, Origin.HUMAN, train.batch_size, step),
                batch(world, Origin.PSEUDO, train.num_pseudo, step),
            )
            for step in range(train.steps)
        ]
        for loss, alpha, factor in todo:
            config = replace(train, alpha=alpha, loss=loss)
            found = world.metric(learned(start, world.task, steps, config, factor))
            yield {
                "task": name, "loss": loss, "alpha": alpha, "factor": factor,
                "figure": world.task.figures[0], "found": found, "setting": setting(seed),
            }  # fmt: skip


def main() -> None:
    """Run what is not done, print a table a task and loss, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=[*KINDS], action="append")
    parser.add_argument("--alpha", type=float, action="append", help="instead of all five")
    parser.add_argument("--factor", type=float, action="append", help="instead of the decades")
    parser.add_argument("--seed", type=int, default=0, help="of scenes, weights and batches")
    parser.add_argument("--rows", type=Path, help="file of the rows, a line of JSON each")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(), flush=True)
    tasks, rows = given.task or [*KINDS], []
    wanted = [*itertools.product(LOSSES, given.alpha or ALPHAS, given.factor or FACTORS)]
    if given.rows is not None and given.rows.exists():
        standing = map(json.loads, given.rows.read_text().splitlines())
        rows = [row for row in standing if row["setting"] == setting(given.seed)]
    for task in tasks:
        for row in runs(task, given.seed, wanted, rows):
            rows.append(row)
            if given.rows is not None:
                with given.rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        show(rows, task)
    if given.figure is not None:
        draw(rows, tasks, given.figure)


def show(rows: Sequence[Row], task: str) -> None:
    """Print the metric at each factor, a line an alpha."""
    for loss, alpha in itertools.product(LOSSES, ALPHAS):
        found = of_each(rows, task, loss, alpha)
        if found:
            cells = "  ".join(f"x{factor:g}: {each:.2f}" for factor, each in found.items())
            spread = max(found.values()) - min(found.values())
            print(f"{task}, {LOSSES[loss]}, alpha {alpha:g}: {cells}   spread {spread:.2f}")


if __name__ == "__main__":
    main()
