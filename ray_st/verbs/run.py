"""`ray-st run`: the whole loop from one recipe.

In: labelled images and a pool. Out: a run folder with a stage a sub-folder, summary.json and
report.html. Next: `demo.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ray_st.cluster.session import require_nodes, resources
from ray_st.config import require
from ray_st.data.sources import DataConfig
from ray_st.labeling.looks import looks_of
from ray_st.report import write_report
from ray_st.selftraining.learning import Learning, read_init
from ray_st.selftraining.live import require_possible
from ray_st.selftraining.loop import Loop
from ray_st.selftraining.materials import Materials, open_materials, require_pool
from ray_st.selftraining.sweep import require_workers
from ray_st.verbs.verb import LoopSections, Verb, complete, recipe_of


@dataclass(frozen=True, kw_only=True)
class LoopVerb(LoopSections, Verb):
    """A verb that runs the whole loop, wherever its data come from."""


@dataclass(frozen=True, kw_only=True)
class RunVerb(LoopVerb):
    """Run the whole loop."""

    out: str = "runs/run"
    """Folder of the results; running the same again goes on with it."""
    data: DataConfig = field(default_factory=DataConfig)


CONFIG = RunVerb


def run(config: RunVerb, console: Console) -> None:
    """Run all stages on the user's own images, then write the report."""
    run_loop(config, config.data, console)


def check_stages(config: LoopVerb, learning: Learning, classes: Sequence[str]) -> None:
    """Refuse what the teacher will not take, and a policy that is not for these labels, that brings
    a hold-out of its own, or that cannot be live; and a sweep without workers.
    """
    require_workers(config.sweep, config.train)
    looks_of(config.label, config.model, config.task)
    policy = config.policy
    policy.require_known(learning.kind, classes)
    rule = "left out: the teacher of a run is measured on data.val"
    require(policy.holdout is None, "policy.holdout", rule, policy.holdout)
    if config.loop.live:
        require_possible(config.label, policy)


def run_loop(config: LoopVerb, data: DataConfig, console: Console) -> None:
    """Run all stages on these data, then write the report."""
    learning = Learning.of(config)
    materials = open_materials(data, learning.kind, config.train.joint.images)
    check_stages(config, learning, materials.human.classes)
    pool = require_pool(materials)
    init = read_init(config.init, learning, materials.human.classes, data.train)
    plan = (
        f"{materials.human.rows.num_rows} labelled images, {pool.num_rows} to label, "
        f"{materials.val.rows.num_rows} to measure on{materials.joint_words}"
    )

    def work(where: str) -> dict[str, Any]:
        out = Path(where)
        console.print(f"{'data':<11}{plan}", highlight=False)
        _report_findings(materials, console)
        loop = Loop(
            learning=learning,
            label=config.label,
            policy=config.policy,
            sweep=config.sweep,
            loop=config.loop,
            materials=materials,
            init=init,
            recipe=recipe_of(config),
            out=out,
            console=console,
        )
        require_nodes(train=config.train.nodes, label=config.label.nodes)
        return loop.run(**resources())

    summary = complete(config, console, plan, work, materials.warnings, init)
    if summary is not None:
        print_models(summary, console)
        page = write_report(Path(config.out))
        console.print(f"report     {page}", highlight=False, soft_wrap=True)


def _report_findings(materials: Materials, console: Console) -> None:
    for name, findings in materials.findings.items():
        for what, count in findings.items():
            console.print(f"{'data':<11}{name}: {what}: {count}", highlight=False)


def print_models(summary: dict[str, Any], console: Console) -> None:
    """Print the models side by side."""
    table = Table("model", *(columns := summary["figures"]))
    names = [name for name in ("teacher", "human_only", "student") if name in summary]
    for name in names:
        figures = [summary[name].get(column) for column in columns]
        cells = ["-" if figure is None else f"{figure:.1f}" for figure in figures]
        table.add_row(name, *cells, style="bold" if name == "student" else "")
    console.print(table)
