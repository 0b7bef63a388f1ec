"""Lay a run out as one HTML page that needs no other file and no network.

In: a run folder. Out: `report.html` in it, replaced whole or not at all. Template: `page.html.j2`,
which escapes every value; only the SVG that our own plots drew is placed as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ray_st.report import figures, pseudo, tables, wording
from ray_st.report.canvas import Plot
from ray_st.report.gallery import pseudo_gallery, validation_gallery
from ray_st.report.histogram import score_plot
from ray_st.report.palette import DARK, LIGHT, MODELS, colour_name
from ray_st.report.plots import alpha_plot, reference_loss_plot, student_loss_plot
from ray_st.report.run_files import RunFiles, number, read_failures, read_run

NUM_FAILURES = 8  # named on the page
PHASES = {
    "train": "Train",
    "teacher": "Train the teacher",
    "label": "Label the pool",
    "student": "Train the student",
    "human_only": "Train on human labels only",
    "sweep": "Sweep over alpha",
    "eval": "Measure the model",
}


def write_report(out: Path) -> Path:
    """Write `out/report.html` from what the run left in `out`; a missing part is left out."""
    run = read_run(out)
    classes = [str(name) for name in run.summary.get("classes") or []]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files(__package__).joinpath("page.html.j2").read_text("utf-8")
    html = environment.from_string(template).render(
        light=LIGHT,
        dark=DARK,
        recipe_yaml=run.recipe_yaml,
        loss_plots=_drawn(*_loss_plots(run)),
        alpha_plots=_drawn(alpha_plot(run.summary)),
        score_plots=_drawn(score_plot(run.summary)),
        validation=validation_gallery(out, run.summary, classes),
        pool=pseudo_gallery(out, run.summary, classes),
        failures=read_failures(out, run.summary, NUM_FAILURES),
        **_values(run.summary),
    )
    path, part = out / "report.html", out / "report.html.part"
    part.write_text(html, "utf-8")
    return part.replace(path)


def _values(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of a summary, formatted."""
    found = summary.get("pseudo") or {}
    return {
        "verb": summary.get("verb") or "run",
        "headline": wording.headline(summary),
        "caution": wording.caution(summary) or wording.context(summary),
        "ranking": figures.ranking(summary),
        "bars": _bars(summary),
        "figure_table": tables.figure_table(summary),
        "class_tables": tables.class_tables(summary),
        "sweep_table": tables.sweep_table(summary),
        "facts": pseudo.facts(found),
        "chosen_by": pseudo.chosen_by(summary),
        "warnings": pseudo.warnings(summary),
        "class_bars": pseudo.class_bars(summary),
        "phases": _phases(summary.get("seconds") or {}),
        "findings": _pairs({k: v for k, v in (summary.get("findings") or {}).items() if v != {}}),
        "versions": _pairs(summary.get("versions") or {}),
    }


def _loss_plots(run: RunFiles) -> tuple[Plot | None, Plot | None]:
    student = student_loss_plot(run.curves["student"]) if "student" in run.curves else None
    return student, reference_loss_plot(run.curves)


def _drawn(*plots: Plot | None) -> list[tuple[Plot, Markup]]:
    return [(plot, Markup(plot.svg)) for plot in plots if plot is not None]  # our own drawing


def _bars(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One bar a model, on an axis that starts at 0, with the student's gain over it."""
    values = {model: figures.value(summary, model) for model in MODELS}
    measured = {model: value for model, value in values.items() if value is not None}
    if len(measured) < 2:
        return []  # nothing to compare
    longest = max(measured.values()) or 1.0
    by_rival, figure = wording.gains(summary), figures.ranking(summary)
    return [
        {
            "model": MODELS[model],
            "colour": colour_name(model),
            "value": figures.points(value),
            "percent": round(100 * value / longest, 2),
            "gain": figure.gained(by_rival[model]) if model in by_rival else "",
        }
        for model, value in measured.items()
    ]


def _phases(seconds: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Name, duration in words and percent of the longest, in the order of the run."""
    ordered = [name for name in PHASES if name in seconds]
    ordered += [name for name in seconds if name not in PHASES]
    timed = [(name, number(seconds[name])) for name in ordered]
    longest = max((s for _, s in timed if s is not None), default=0.0) or 1.0
    return [
        (PHASES.get(name, name), wording.duration(s), round(100 * s / longest, 2))
        for name, s in timed
        if s is not None
    ]


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _shown(value)) for name, value in values.items()]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)
