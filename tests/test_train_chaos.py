"""Whatever is killed while a student trains, it has seen the same images, and learned the same.

Two seeds by default; `make chaos` runs ten (CHAOS_TRAININGS).
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
import torch
from chaos import Driver, Fault, Machines, kill, machines
from chaos_pool import CLASSES, write_pool, write_teacher

from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import open_pool
from ray_st.labeling.policy import PolicyConfig
from ray_st.labeling.teacher import SavedTeacher
from ray_st.models.saved import read_model
from ray_st.selftraining.stages import label_stage
from ray_st.tasks import make_task

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("nodes"), pytest.mark.timeout(600)]

SEEDS = int(os.environ.get("CHAOS_TRAININGS", "2"))
KINDS = ("worker", "driver", "node")  # three seeds in a row meet them all
STEPS, EVERY = 40, 4
# Views larger than their images, so that training takes long enough to be interrupted. One thread a
# worker: two of two threads each spin on two cores while they wait, and a step takes half a minute.
RECIPE = f"""
model: {{backbone: test_resnet, image_size_px: 192, levels: [3, 4], channels: 16, head_convs: 1}}
train:
  {{steps: {STEPS}, batch_size: 4, pseudo_batch_size: 6, optimizer: adamw, lr: 0.002,
   warmup_steps: 2, cpus_per_worker: 1, loaders: 0, num_workers: 2, log_every: 2,
   checkpoint_every: {EVERY}, max_failures: 8}}
policy: {{score_threshold: 0.05}}
"""


@dataclass(frozen=True, kw_only=True)
class World:
    """Labelled images, a labelled pool, a cluster, and an undisturbed run on it."""

    folder: Path
    cluster: Machines

    def driver(self, out: Path, log: Path, *flags: str) -> Driver:
        folder = self.folder
        return Driver(
            [
                "train", f"--config={folder}/recipe.yaml", f"--pseudo={folder}/pseudo",
                f"--data.train=coco:{folder}/instances_pool.json",
                f"--data.val=coco:{folder}/instances_val.json",
                f"--out={out}", f"--address={self.cluster.address}", *flags,
            ],
            log,
        )  # fmt: skip

    @property
    def undisturbed(self) -> Path:
        return self.folder / "undisturbed"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    write_pool(folder)
    (folder / "recipe.yaml").write_text(RECIPE)
    write_teacher(folder / "teacher")
    saved = read_model(folder / "teacher", "teacher")
    teacher = SavedTeacher(saved=saved, task=make_task("detection", saved.card.model, len(CLASSES)))
    images, here = open_pool(str(folder / "index")), LabelConfig(actors=(0, 0))
    label_stage(images, teacher, folder / "pseudo", here, PolicyConfig(), None)
    with machines() as cluster:
        world = World(folder=folder, cluster=cluster)
        whole = world.driver(world.undisturbed, folder / "log")
        assert whole.status() == 0, whole.said()
        assert _learned_labels(world.undisturbed)
        yield world


@pytest.mark.parametrize("seed", range(SEEDS))
def test_training_goes_on_as_if_nothing_had_happened(
    world: World, tmp_path: Path, seed: int
) -> None:
    kind, chance = KINDS[seed % len(KINDS)], random.Random(seed)
    checkpoints, delay_s = chance.randint(1, STEPS // EVERY - 3), chance.uniform(0, 1)
    out, log, begun = tmp_path / "out", tmp_path / "log", time.monotonic()
    flags = ("--train.min-workers=1",) if kind == "node" else ()
    driver = world.driver(out, log, *flags)
    try:
        seen = _Seen(out / "ray_train")
        driver.waits_for(lambda: seen.count() >= checkpoints)
        time.sleep(delay_s)
        _STRIKES[kind](world, Fault.of(seed), driver)
        if kind == "driver":
            driver = world.driver(out, log)
        assert driver.status() == 0, driver.said()
    finally:
        driver.kill()
        if kind == "node":
            world.cluster.add_node()
    assert _order(out) == _order(world.undisturbed)
    if kind != "node":  # as many workers, so the same sums
        _require_equal_weights(out, world.undisturbed)
    took = time.monotonic() - begun
    print(f"seed {seed}: {kind} behind checkpoint {checkpoints}; {took:.0f} s")


class _Seen:
    """Checkpoints that have stood in a folder so far; old ones are removed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()

    def count(self) -> int:
        self._names |= {str(each) for each in self._folder.glob("*/checkpoint_*")}
        return len(self._names)


def _kill_worker(world: World, fault: Fault, driver: Driver) -> None:
    def workers() -> list[tuple[int, str]]:
        return world.cluster.processes(lambda name: name.startswith("ray::RayTrainWorker"))

    while some := driver.waits_for(workers):
        if kill(fault.chosen(some)[0]):
            return


def _kill_driver(world: World, fault: Fault, driver: Driver) -> None:
    driver.kill()


def _kill_node(world: World, fault: Fault, driver: Driver) -> None:
    world.cluster.kill_node(fault)


_STRIKES: dict[str, Callable[[World, Fault, Driver], None]] = {
    "worker": _kill_worker, "driver": _kill_driver, "node": _kill_node,
}  # fmt: skip


def _order(out: Path) -> str:
    """The number that says which images were learned from in which step."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "order" in row]
    assert [row["step"] for row in rows] == list(range(2, STEPS + 1, 2))
    return str(rows[-1]["order"])


def _learned_labels(out: Path) -> bool:
    """Whether the pseudo halves had labels."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return all(row["pseudo_labels_per_image"] > 0 for row in rows if "order" in row)


def _require_equal_weights(one: Path, other: Path) -> None:
    left, right = (safetensors.torch.load_file(each / "model.safetensors") for each in (one, other))
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=1e-4, atol=1e-5, msg=name)
