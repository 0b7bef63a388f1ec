"""`ray-st plan`: how long labelling and training take, on what, and what it costs, before they run.

In: a recipe, how many images, perhaps a cluster's file and prices. Out: lines, and plan.json.
Starts no Ray and trains nothing. Next: `ray_st.cli`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from ray_st.config import UserError, require, some_of
from ray_st.data import storage
from ray_st.data.sources import DataConfig
from ray_st.planning.assumptions import AssumeConfig
from ray_st.planning.calibration import calibrate
from ray_st.planning.earlier import rates_of_run
from ray_st.planning.fleet import Fleet, read_cluster, read_prices, this_machine
from ray_st.planning.plan import FOLDER, JSON, Basis, Plan, require_writable
from ray_st.planning.practice import practise
from ray_st.planning.rates import LabelRates, TrainRates
from ray_st.planning.subjects import Subjects, subjects_of
from ray_st.planning.wording import plan_lines
from ray_st.recipe import dump
from ray_st.selftraining.learning import Learning
from ray_st.selftraining.saying import say
from ray_st.training.rehearsal import rehearse
from ray_st.verbs.verb import (
    LoopSections,
    OwnFolder,
    recipe_of,
    require_own,
    say_plan,
    say_warnings,
)

_LEAST_SCENE_PX = 64
_NAMED = 5  # odd names in one line


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
    fleet, warnings = _fleet(config)
    earlier = [rates_of_run(uri) for uri in config.from_runs]
    if config.dry_run:
        say_plan(dump(recipe_of(config)), console, f"a plan for {config.images:,} images", warnings)
        return
    require_writable(config.out)
    labelled, trained, unfit = _rates(config, learning, earlier)
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
    plan.write(config.out)  # before the first line: who listens may leave after some
    say_warnings({"warnings": warnings}, console)
    if unfit is not None:
        say("train", f"not foretold: {unfit}", console)
    for name, line in plan_lines(plan):
        say(name, line, console)
    console.out(storage.join(config.out, JSON), highlight=False)


def _fleet(config: PlanVerb) -> tuple[Fleet, list[str]]:
    """The nodes, and what is odd of their prices."""
    if config.cluster is None:
        fleet = this_machine(torch.cuda.device_count())
    else:
        fleet = read_cluster(config.cluster)
    if config.prices is None:
        return fleet, []
    prices = read_prices(config.prices)
    fleet = fleet.priced(prices)
    return fleet, price_warnings(config.prices, prices, fleet)


def price_warnings(path: str, prices: Mapping[str, float], fleet: Fleet) -> list[str]:
    """Prices of nothing, as a misspelt name has, and nodes without one."""
    known = {name for kind in fleet.types for name in (kind.name, kind.instance)}
    odd = [name for name in prices if name not in known]
    free = [kind.name for kind in fleet.types if kind.most and kind.price_per_hour is None]
    found = []
    if odd:
        names = some_of(odd, _NAMED)
        found.append(f"{path}: no node type or instance type of {fleet.name}: {names}")
    if free:
        names = ", ".join(free)
        found.append(f"{path}: no price of {names}: no cost is said where such nodes are used")
    return found


def _rates(
    config: PlanVerb, learning: Learning, earlier: Sequence[LabelRates | TrainRates]
) -> tuple[LabelRates, TrainRates | None, UserError | None]:
    """What earlier runs tell, and for the rest what is measured; the last one says why not."""
    labelled = next((each for each in earlier if isinstance(each, LabelRates)), None)
    trained = next((each for each in earlier if isinstance(each, TrainRates)), None)
    if labelled is not None and trained is not None:
        return labelled, trained, None
    unfit = None
    with tempfile.TemporaryDirectory() as scratch:
        subjects = subjects_of(config, learning, Path(scratch))
        if labelled is None:
            labelled = _label_rates(config, subjects)
        if trained is None:
            try:
                trained = _train_rates(config, learning, subjects)
            except UserError as error:
                unfit = error
    return labelled, trained, unfit


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
