"""`ray-st plan`: how long labelling and training take, on what, and what it costs, before they run.

In: a recipe, how many images, perhaps a cluster's file and prices. Out: lines, and plan.json.
Starts no Ray and trains nothing. Next: `ray_st.cli`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console

from ray_st.config import UserError, require
from ray_st.data.sources import DataConfig
from ray_st.planning.assumptions import AssumeConfig
from ray_st.planning.calibration import calibrate
from ray_st.planning.earlier import rates_of_run
from ray_st.planning.fleet import Fleet, read_cluster, read_prices, this_machine
from ray_st.planning.plan import FOLDER, JSON, Basis, Plan
from ray_st.planning.practice import practise
from ray_st.planning.rates import LabelRates, TrainRates
from ray_st.planning.subjects import Subjects, subjects_of
from ray_st.planning.wording import plan_lines
from ray_st.recipe import dump
from ray_st.selftraining.learning import Learning
from ray_st.selftraining.saying import say
from ray_st.training.rehearsal import rehearse
from ray_st.verbs.verb import LoopSections, OwnFolder, recipe_of, require_own, say_plan

T = TypeVar("T")
_LEAST_SCENE_PX = 64


@dataclass(frozen=True, kw_only=True)
class PlanVerb(LoopSections, OwnFolder):
    """Foretell a labelling and a training."""

    images: int
    """How many images are to be labelled."""
    out: str = FOLDER
    """Folder of plan.json, written anew each time. Runs of `label` and `train` say how near they
    came to the plan in runs/plan, if it is of their model, or to that of --plan."""
    cluster: str | None = None
    """File of Ray's cluster launcher: the nodes to plan for. None: this machine."""
    prices: str | None = None
    """Dollars an hour by node type or instance type: YAML, or CSV of two columns. None: no cost is
    said."""
    from_runs: tuple[str, ...] = ()
    """Folders that `label` and `train` left: their speed is taken, and not measured here."""
    teacher: str | None = None
    """The teacher to measure, as `label` takes it. None: the recipe's model, of random weights."""
    teacher_images_per_s: float | None = None
    """Speed of one teacher where it is known, from another machine, say. None: measured."""
    scene_px: int = 640
    """Side of the scenes that stand in for images where the recipe names none."""
    stage_s: float = 5.0
    """How long each stage is measured, seconds."""
    pseudo: bool = True
    """Whether training is that of a student, on human and pseudo labels."""
    data: DataConfig = field(default_factory=DataConfig)
    assume: AssumeConfig = field(default_factory=AssumeConfig)

    def __post_init__(self) -> None:
        require(self.images >= 1, "images", "at least 1", self.images)
        speed = self.teacher_images_per_s
        require(speed is None or speed > 0, "teacher_images_per_s", "null or above 0", speed)
        least = _LEAST_SCENE_PX
        require(self.scene_px >= least, "scene_px", f"at least {least}", self.scene_px)
        require(self.stage_s > 0, "stage_s", "above 0", self.stage_s)
        actors, move = self.label.actors, "0 0 is for a debugger; pass --label.actors 1 1, say"
        require(actors[1] >= 1, "label.actors", "1 teacher or more for a plan", actors, move)


CONFIG = PlanVerb


def run(config: PlanVerb, console: Console) -> None:
    """Measure, foretell, say it, and leave it in `config.out`."""
    require_own(Path(config.out), {JSON})
    learning = Learning.of(config)
    if not config.pseudo:  # fewer images for a BatchNorm to see
        rehearse(config.model, config.task, 1, config.train, has_pseudo=False)
    fleet = _fleet(config)
    earlier = [rates_of_run(uri) for uri in config.from_runs]
    if config.dry_run:
        say_plan(dump(recipe_of(config)), console, f"a plan for {config.images:,} images")
        return
    labelled = next((each for each in earlier if isinstance(each, LabelRates)), None)
    trained = next((each for each in earlier if isinstance(each, TrainRates)), None)
    if labelled is None or trained is None:
        with tempfile.TemporaryDirectory() as scratch:
            subjects = subjects_of(config, learning, Path(scratch))
            if labelled is None:
                labelled = _label_rates(config, subjects)
            if trained is None:
                trained = _perhaps(lambda: _train_rates(config, learning, subjects), console)
    basis = Basis(
        images=config.images,
        task=config.task,
        model=config.model,
        fleet=fleet,
        assume=config.assume,
        label=config.label,
        train=config.train,
        has_pseudo=config.pseudo,
        label_rates=labelled,
        train_rates=trained,
    )
    plan = Plan.of(basis)
    for name, line in plan_lines(plan):
        say(name, line, console)
    plan.write(config.out)
    console.out(str(Path(config.out, JSON)), highlight=False)


def _fleet(config: PlanVerb) -> Fleet:
    if config.cluster is None:
        fleet = this_machine(torch.cuda.device_count())
    else:
        fleet = read_cluster(config.cluster)
    return fleet if config.prices is None else fleet.priced(read_prices(config.prices))


def _label_rates(config: PlanVerb, subjects: Subjects) -> LabelRates:
    return calibrate(
        subjects.teacher,
        subjects.pool,
        config.label,
        subjects.pool_words,
        stage_s=config.stage_s,
        teacher_images_per_s=config.teacher_images_per_s,
    )


def _train_rates(config: PlanVerb, learning: Learning, subjects: Subjects) -> TrainRates:
    return practise(
        learning,
        subjects.human,
        subjects.human_words,
        has_pseudo=config.pseudo,
        joint=subjects.joint,
    )


def _perhaps(work: Callable[[], T], console: Console) -> T | None:
    """Do it; what cannot be measured here is said, and left out of the plan."""
    try:
        return work()
    except UserError as error:
        say("train", f"not foretold: {error}", console)
        return None
