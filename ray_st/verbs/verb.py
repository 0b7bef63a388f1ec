"""What all verbs share: where results go, which cluster, and the recipe with every section.

In: nothing. Out: `Verb`, the fields of every verb; `Recipe`, what a recipe file may hold;
`complete`, which does a verb's work once; `require_own`, for a verb that does it anew each time;
`say_plan`, a dry run. Next: `words.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ray_st.cluster.session import connected
from ray_st.config import UserError, as_dict
from ray_st.data.augment import AugmentConfig
from ray_st.data.sources import DataConfig
from ray_st.data.sources.digits import DigitsConfig
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.policy import PolicyConfig
from ray_st.models import ModelConfig
from ray_st.models.initialise import InitConfig, Start
from ray_st.planning.wording import outcome_words
from ray_st.recipe import dump
from ray_st.selftraining import folder
from ray_st.selftraining.lease import held
from ray_st.selftraining.loop import LoopConfig
from ray_st.selftraining.saying import say
from ray_st.selftraining.sweep import SweepConfig
from ray_st.tasks import TaskName
from ray_st.tasks.detection import DetectConfig
from ray_st.tasks.simclr import SimCLRConfig
from ray_st.training.schedule import TrainConfig


@dataclass(frozen=True, kw_only=True)
class OwnFolder:
    """What every verb takes that leaves a folder."""

    out: str
    """Folder of the results; running the same again goes on with it."""
    dry_run: bool = False
    """Resolve and check everything, print it, and stop."""


@dataclass(frozen=True, kw_only=True)
class Verb(OwnFolder):
    """What every verb takes that works on a cluster."""

    address: str | None = None
    """Ray cluster: local, auto, or ray://HOST:PORT. By default auto in a job, else local."""


@dataclass(frozen=True, kw_only=True)
class LoopSections:
    """The sections of a recipe that say how the whole loop is run, whatever its data."""

    task: TaskName = "detection"
    """What is learned."""
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    label: LabelConfig = field(default_factory=LabelConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True, kw_only=True)
class Recipe(LoopSections):
    """All sections that a recipe may hold; a verb uses some of them."""

    data: DataConfig = field(default_factory=DataConfig)
    simclr: SimCLRConfig = field(default_factory=SimCLRConfig)
    digits: DigitsConfig = field(default_factory=DigitsConfig)


def recipe_of(config: OwnFolder) -> dict[str, Any]:
    """A resolved config without what is of one call only: it can be passed as --config again."""
    return {
        name: value
        for name, value in as_dict(config).items()
        if name not in ("out", "address", "dry_run", "retry_failed", "plan")
    }


def require_own(out: Path, left: Collection[str]) -> None:
    """Refuse a folder that holds anything but what a verb has `left`, which it writes anew."""
    standing = next(path for path in (out, *out.parents) if path.exists())
    if not standing.is_dir():
        raise UserError(f"out: {standing} is a file; pass --out with the name of a new folder")
    if standing == out and {each.name for each in out.iterdir()} - {*left}:
        raise UserError(f"out: {out} holds other files; pass --out with the name of a new folder")


def say_warnings(summary: Mapping[str, Any], console: Console) -> None:
    """Print what could not be done as asked."""
    for warning in summary.get("warnings", ()):
        say("warning", warning, console)


def say_near(summary: Mapping[str, Any], console: Console) -> None:
    """Print how near a run came to its plan, where there was one."""
    if words := outcome_words(summary):
        say("plan", words, console)


def say_plan(
    recipe: str,
    console: Console,
    plan: str,
    warnings: Sequence[str] = (),
    start: Start | None = None,
) -> None:
    """Print what a dry run found: the recipe, and in comments what else a run would say."""
    console.out(recipe, highlight=False, end="")  # `out` breaks no long line
    for warning in warnings:
        console.out(f"# warning: {warning}", highlight=False)
    if start is not None:
        console.out(f"# start: {start.loaded}", highlight=False)
    console.out(f"# dry run: {plan}; nothing was started", highlight=False)


def complete(
    config: Verb,
    console: Console,
    plan: str,
    work: Callable[[str], dict[str, Any]],
    warnings: Sequence[str] = (),
    start: Start | None = None,
    *,
    anywhere: bool = False,
    again: bool = False,
) -> dict[str, Any] | None:
    """Do a verb's work in its folder, on a cluster; the rest is as `complete_here` does it."""

    def on_cluster(out: str) -> dict[str, Any]:
        with connected(config.address) as dashboard:
            if dashboard is not None:
                say("dashboard", dashboard, console)
            return work(out)

    return complete_here(
        config, console, plan, on_cluster, warnings, start, anywhere=anywhere, again=again
    )


def complete_here(
    config: OwnFolder,
    console: Console,
    plan: str,
    work: Callable[[str], dict[str, Any]],
    warnings: Sequence[str] = (),
    start: Start | None = None,
    *,
    anywhere: bool = False,
    again: bool = False,
) -> dict[str, Any] | None:
    """Do a verb's work in its folder; returns the summary.

    A folder that is finished gives the summary that stands there, and no work is done. A
    dry run says the plan, and gives None. Both say what weights start from, unless it is random,
    and what of it did not fit. Everything that a user can have written wrong is checked before this
    is called. `anywhere`: the folder may be a bucket's; `again`: a finished one is worked on too.
    """
    out, recipe = config.out, dump(recipe_of(config))
    folder.check(out, recipe, anywhere=anywhere)
    if config.dry_run:
        say_plan(recipe, console, plan, warnings, start)
        return None
    if (summary := folder.finished(out)) is not None and not again:
        return summary
    folder.claim(out, recipe, anywhere=anywhere)
    say_warnings({"warnings": warnings}, console)
    if start is not None:
        say("start", str(start.loaded), console)
    with held(out):
        folder.reopen(out)
        return work(out)
