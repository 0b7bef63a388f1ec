"""A sweep over alpha: Ray Tune runs the student's training once for each.

In: a `Job` and the alphas. Out: a row an alpha, each trial's folder, and the summary.json that the
verb `sweep` leaves. Next: `examination.py`.

A trial is a light driver that starts its own Train gang. Tune does not see the
gang, so the number of trials at once is computed from what the cluster holds: no trial can wait for
resources that another trial waits with.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import ray.tune
from ray.tune import RunConfig, TuneConfig
from rich.console import Console

from ray_st.cluster.placement import TRIAL_CPUS
from ray_st.config import require
from ray_st.models.saved import versions
from ray_st.selftraining.folder import finished, write_summary
from ray_st.selftraining.saying import say
from ray_st.selftraining.watching import watched
from ray_st.training.divergence import DivergedError
from ray_st.training.job import Job
from ray_st.training.loop import fit
from ray_st.training.schedule import TrainConfig


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Settings of the sweep over alpha."""

    alphas: tuple[float, ...] = (0.25, 1.0, 4.0)
    """Alphas to try with the normalised loss; --sweep.alphas=[] for no sweep."""
    plain_at_largest: bool = True
    """Try the plain sum L_h + alpha * L_p at the largest alpha too, for comparison."""
    steps: int = 200
    """Optimiser steps a trial."""

    def __post_init__(self) -> None:
        require(all(a >= 0 for a in self.alphas), "sweep.alphas", "0 or more each", self.alphas)
        require(len(set(self.alphas)) == len(self.alphas), "sweep.alphas", "distinct", self.alphas)
        require(self.steps >= 1, "sweep.steps", "at least 1", self.steps)


def require_workers(sweep: SweepConfig, train: TrainConfig) -> None:
    """Refuse a sweep inside the calling process: Ray Tune starts none there."""
    require(
        train.num_workers >= 1 or not sweep.alphas,
        "train.num_workers",
        "at least 1 for a sweep",
        train.num_workers,
        "raise it, or pass --sweep.alphas=[] for no sweep",
    )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One cell of the sweep."""

    alpha: float
    normalised: bool

    @property
    def name(self) -> str:
        """The folder's name, the same on every try, so that an interrupted trial goes on."""
        # All digits, so that alphas that are close have folders of their own.
        alpha = repr(float(self.alpha)).removesuffix(".0")
        return f"{'alpha' if self.normalised else 'plain'}_{alpha}"


def trials_of(config: SweepConfig) -> list[Trial]:
    """All cells of a sweep, in order."""
    trials = [Trial(alpha=alpha, normalised=True) for alpha in config.alphas]
    if config.plain_at_largest and config.alphas:
        trials.append(Trial(alpha=max(config.alphas), normalised=False))
    return trials


def job_of(job: Job, trial: Trial, config: SweepConfig) -> Job:
    """The student's job with the trial's loss and length."""
    loss: Literal["normalised", "plain"] = "normalised" if trial.normalised else "plain"
    train = replace(job.train.lasting(config.steps), alpha=trial.alpha, loss=loss)
    return replace(job, train=train)


def sweep_stage(
    job: Job,
    config: SweepConfig,
    out: Path,
    *,
    at_once: int,
    console: Console,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run a sweep into its folder, unless it stands there already; returns its summary."""
    if (summary := finished(out)) is not None:
        return summary
    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    totals = {trial.name: config.steps for trial in trials_of(config)}
    with watched(totals, console, out) as counters:
        rows = run_sweep(job, config, out, at_once=at_once, counters=counters)
    warnings = [row.pop("diverged") for row in rows if "diverged" in row]
    for warning in warnings:
        say("warning", warning, console)
    summary = {
        "verb": "sweep",
        "sweep": rows,
        "warnings": warnings,
        **(facts or {}),
        "classes": list(job.classes),
        "figures": list(job.figures),
        "seconds": {"sweep": time.monotonic() - begun},
        "versions": versions(),
    }
    write_summary(out, summary)
    return summary


def run_sweep(
    job: Job, config: SweepConfig, out: Path, *, at_once: int, counters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Train every trial; rows {alpha, normalised, metrics...} in the order of `trials_of`.

    One whose numbers went bad has no figures, and `diverged` says so in a line.
    """
    trials = {trial.name: trial for trial in trials_of(config)}
    out = out.resolve()  # a trial's process stands in another folder

    def run_trial(chosen: dict[str, str]) -> None:
        trial = trials[chosen["trial"]]
        mine = replace(job_of(job, trial, config), counter=counters[trial.name])
        folder = out / trial.name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            ray.tune.report(fit(mine, folder, name="train"))
        except DivergedError as error:  # a finding, as a low figure is: other alphas go on
            nothing = dict.fromkeys(job.figures)
            ray.tune.report({**nothing, "diverged": f"{trial.name}: {error}"})

    results = ray.tune.Tuner(
        ray.tune.with_resources(run_trial, {"CPU": TRIAL_CPUS}),
        param_space={"trial": ray.tune.grid_search(list(trials))},
        tune_config=TuneConfig(max_concurrent_trials=at_once),
        run_config=RunConfig(name="tune", storage_path=str(out), verbose=0),
    ).fit()
    by_name = {result.config["trial"]: result for result in results}
    rows = [_row(trial, by_name[name], job.figures[:2]) for name, trial in trials.items()]
    return [{**row, "steps": config.steps} for row in rows]


def _row(trial: Trial, result: Any, figures: Sequence[str]) -> dict[str, Any]:
    if result.error is not None:
        raise RuntimeError(f"sweep trial {trial.name} failed") from result.error
    known = [*figures, *({"diverged"} & result.metrics.keys())]
    measured = {name: result.metrics[name] for name in known}
    return {"alpha": trial.alpha, "normalised": trial.normalised, **measured}
