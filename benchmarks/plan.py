"""A plan against what then happens, on this machine: labelling and training as they are run.

Calibrated once, with a light teacher (ResNet-10-t at 128 px, JPEGs of 320 px). Then three settings
that were not used to calibrate are foretold from those rates alone, and run: other numbers of
teachers and readers, of images, other blocks. Beside each stands what the simulator foretells from
the rates of one real run. Last: training, foretold from a few steps. The aim is 20 %.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pairs import machine
from world import MODEL, random_model, scenes

from ray_st.cluster.session import connected
from ray_st.data.augment import AugmentConfig
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.sources import LabeledSet
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.pool import label
from ray_st.labeling.teacher import SavedTeacher
from ray_st.planning.assumptions import AssumeConfig
from ray_st.planning.calibration import calibrate
from ray_st.planning.earlier import steady_images_per_s
from ray_st.planning.fleet import this_machine
from ray_st.planning.labelling import Labelling, foretold
from ray_st.planning.practice import practise
from ray_st.planning.rates import LabelRates
from ray_st.planning.shapes import recipe_shape
from ray_st.planning.training import foretold_training
from ray_st.selftraining.learning import Learning, training_job
from ray_st.tasks import make_task
from ray_st.training.checkpoints import load_log
from ray_st.training.loop import fit
from ray_st.training.schedule import TrainConfig

BASE = LabelConfig(batch_size=32, block_images=128, file_images=512)
TRAIN = TrainConfig(
    steps=50, batch_size=8, optimizer="adamw", lr=0.0005, cpus_per_worker=1, log_every=5,
    checkpoint_every=1000,
)  # fmt: skip
ASSUME = AssumeConfig()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A labelling that nothing was calibrated by."""

    name: str
    images: int
    label: LabelConfig


SETTINGS = (
    Setting(
        name="1 teacher, 2 readers, blocks of 64, batches of 16",
        images=2048,
        label=replace(BASE, actors=(1, 1), readers=2, block_images=64, batch_size=16),
    ),
    Setting(
        name="2 teachers, 1 reader, files of 256",
        images=3072,
        label=replace(BASE, actors=(2, 2), readers=1, file_images=256),
    ),
    Setting(
        name="2 teachers, 2 readers, blocks of 256, batches of 8",
        images=4096,
        label=replace(BASE, actors=(2, 2), readers=2, block_images=256, batch_size=8),
    ),
)


def repeated(images: pa.Table, count: int) -> pa.Table:
    """`count` rows that name the same files again and again, each with an id of its own."""
    rows = images.take(pa.array([i % images.num_rows for i in range(count)]))
    return rows.set_column(0, "image_id", pa.array(range(count), pa.int64())).cast(IMAGE_ROW)


def expected(rates: LabelRates, setting: Setting) -> Labelling:
    """What the simulator foretells on this machine."""
    fleet = this_machine(0)
    shape = recipe_shape(rates, fleet, setting.label)
    return foretold(rates, fleet, setting.label, shape, setting.images, ASSUME)


def measured(
    images: pa.Table, source: SavedTeacher, setting: Setting
) -> tuple[dict[str, Any], float]:
    """The speed that a real run says, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        pool = Images.of_rows(repeated(images, setting.images))
        speed = label(pool, source, folder, setting.label, None)
        return speed, time.monotonic() - begun


def of_run(speed: dict[str, Any], seconds: float, setting: Setting, like: LabelRates) -> LabelRates:
    """Rates of one real run, as `--from-runs` takes them."""
    steady = seconds - speed["first_label_s"]
    teachers = speed["images_per_s"] / speed["images_per_s_per_teacher"]
    return replace(
        like,
        read_s=speed["busy"]["read"] * steady * setting.label.readers / setting.images,
        predict_s=speed["busy"]["predict"] * steady * teachers / setting.images,
        write_s=0.0,
        start_s=speed["first_label_s"],
        shares_cores=False,
        source="a run",
    )


@dataclass(frozen=True, kw_only=True)
class Told:
    """One prediction beside what was found, images a second."""

    name: str
    predicted: float
    found: float

    @property
    def off(self) -> float:
        """How far the prediction lies above what was found, as a share of it."""
        return self.predicted / self.found - 1


def headed(title: str) -> None:
    """Print the head of a table."""
    print(f"\n{title:54} {'foretold':>10} {'measured':>10} {'off':>8}", flush=True)


def told(name: str, predicted: float, found: float) -> Told:
    """Print one line, and keep it."""
    one = Told(name=name, predicted=predicted, found=found)
    print(f"  {name:52} {predicted:10.1f} {found:10.1f} {one.off:+8.1%}", flush=True)
    return one


def labelling(images: pa.Table, source: SavedTeacher) -> list[Told]:
    """Three settings, each foretold before it is run."""
    rates = calibrate(source, images, BASE, "scenes of 320 px", stage_s=5.0)
    print(f"\ncalibrated: {rates}", flush=True)
    offs = []
    with connected("local"):
        warm = replace(SETTINGS[0], images=64)
        measured(images, source, warm)
        headed("labelling, images a second, start included")
        runs = []
        for setting in SETTINGS:
            speed, seconds = measured(images, source, setting)
            runs.append((setting, speed, seconds))
            rate = setting.images / seconds
            offs.append(told(setting.name, expected(rates, setting).images_per_s, rate))
        headed("the simulator, from the run's own stage times")
        for setting, speed, seconds in runs:
            own = of_run(speed, seconds, setting, rates)
            rate = setting.images / seconds
            offs.append(told(f"its own: {setting.name}", expected(own, setting).images_per_s, rate))
    return offs


def training(labeled: LabeledSet) -> list[Told]:
    """A student, foretold from a few steps, then trained for `TRAIN.steps`."""
    learning = Learning(task="detection", model=MODEL, augment=AugmentConfig(), train=TRAIN)
    rates = practise(learning, labeled, "scenes of 320 px", has_pseudo=True)
    print(f"\ncalibrated: {rates}", flush=True)
    headed("training, images a second")
    offs = []
    for change in ({"batch_size": 10}, {"batch_size": 16}):
        train = replace(TRAIN, **change)
        job_of = replace(learning, train=train)
        plan = foretold_training(rates, this_machine(0), train, ASSUME, has_pseudo=True)
        with connected("local"), tempfile.TemporaryDirectory() as folder:
            job = training_job(
                job_of,
                human=labeled,
                val=replace(labeled, rows=labeled.rows.slice(0, 8)),
                pseudo=labeled.rows,
                init=None,
                recipe={},
            )
            fit(job, Path(folder))
            found = steady_images_per_s(load_log(folder))
        assert found is not None
        mine = next(each for each in plan if each.workers == 1)
        size = train.batch_size
        offs.append(told(f"1 worker, {size} + {size} images a step", mine.images_per_s, found))
    return offs


def medians(rounds: list[Told]) -> None:
    """Every prediction's median over the rounds, and all that it was off by."""
    headed("medians of all rounds")
    for name in dict.fromkeys(one.name for one in rounds):
        mine = [one for one in rounds if one.name == name]
        predicted = statistics.median(one.predicted for one in mine)
        found = statistics.median(one.found for one in mine)
        off = statistics.median(one.off for one in mine)
        each = ", ".join(f"{one.off:+.0%}" for one in mine)
        print(f"  {name:52} {predicted:10.1f} {found:10.1f} {off:+8.1%}  {each}")
    sizes = [abs(one.off) for one in rounds]
    print(f"\noff by {statistics.median(sizes):.1%} in the median, {max(sizes):.1%} at most")


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1, help="rounds (default 1)")
    rounds = parser.parse_args().pairs
    torch.set_num_threads(1)
    print(machine())
    offs: list[Told] = []
    with tempfile.TemporaryDirectory() as folder:
        labeled = scenes(Path(folder), 256)
        images = labeled.rows.select(IMAGE_ROW.names).cast(IMAGE_ROW)
        saved = random_model(labeled.classes)
        task = make_task("detection", MODEL, len(labeled.classes))
        source = SavedTeacher(saved=saved, task=task)
        for _ in range(rounds):
            offs += labelling(images, source)
            offs += training(labeled)
    medians(offs)


if __name__ == "__main__":
    main()
