"""`ray-st sweep`: the student for several alphas, by Ray Tune.

In: what `train --pseudo` takes. Out: a folder a trial, and a table of alphas. Next: `run.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ray_st.cluster.placement import most_at_once, require_fits, trial_needs
from ray_st.cluster.session import require_nodes, resources
from ray_st.config import UserError
from ray_st.selftraining.learning import Learning, read_init, training_job
from ray_st.selftraining.materials import open_materials
from ray_st.selftraining.saying import headline
from ray_st.selftraining.stages import read_pseudo
from ray_st.selftraining.sweep import SweepConfig, require_workers, sweep_stage, trials_of
from ray_st.verbs.train import TrainVerb
from ray_st.verbs.verb import complete, recipe_of


@dataclass(frozen=True, kw_only=True)
class SweepVerb(TrainVerb):
    """Sweep alpha."""

    out: str = "runs/sweep"
    """Folder of the results; running the same again goes on with it."""
    sweep: SweepConfig = field(default_factory=SweepConfig)


CONFIG = SweepVerb


def run(config: SweepVerb, console: Console) -> None:
    """Train every trial, and say which alpha is best."""
    if config.pseudo is None:
        raise UserError("pseudo: is missing; pass --pseudo with the --out folder of `ray-st label`")
    if not config.sweep.alphas:
        raise UserError(
            "sweep.alphas: must name at least one alpha, got none; pass --sweep.alphas 1"
        )
    require_workers(config.sweep, config.train)
    learning = Learning.of(config)
    materials = open_materials(config.data, learning.kind, config.train.joint.images)
    human = materials.human
    init = read_init(config.init, learning, human.classes, config.data.train)
    config.policy.require_known(learning.kind, human.classes)
    pseudo, found = read_pseudo(config.pseudo, config.policy, human, config.train.held_images)
    plan = f"{len(trials_of(config.sweep))} trials of {config.sweep.steps} steps"

    def work(where: str) -> dict[str, Any]:
        out = Path(where)
        needs = trial_needs(config.train)
        require_nodes(train=config.train.nodes)
        require_fits(needs, **resources())
        job = training_job(
            learning,
            human=human,
            val=materials.val,
            pseudo=pseudo,
            joint=materials.joint,
            init=init,
            recipe=recipe_of(config),
        )
        return sweep_stage(
            job,
            config.sweep,
            out,
            at_once=most_at_once(needs, **resources()),
            console=console,
            facts={"findings": materials.findings},
        )

    summary = complete(config, console, plan, work, [*materials.warnings, *found], init)
    if summary is not None:
        for row in summary["sweep"]:
            loss = "normalised" if row["normalised"] else "plain"
            console.print(
                f"alpha {row['alpha']:<8g}{loss:<12}{headline(row, summary['figures'])}",
                highlight=False,
            )
