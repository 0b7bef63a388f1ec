"""Lay a run out as one HTML page that needs no other file and no network.

In: a run folder. Out: `report.html` in it, replaced whole or not at all. Template: `page.html.j2`,
which escapes every value; only the SVG that our own plots drew is placed as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ray_st.report import wording
from ray_st.report.canvas import Plot
from ray_st.report.gallery import MIN_SCORE, pseudo_strips, validation_strips
from ray_st.report.palette import DARK, LIGHT, MODELS, colour_name
from ray_st.report.plots import alpha_plot, reference_loss_plot, student_loss_plot
from ray_st.report.run_files import RunFiles, number, read_failures, read_run

AP_KEYS = ("AP", "AP50", "AP75")
CLASS_PREFIX = "AP/"
SWEEP_KEYS = ("AP", "AP50")
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
        validation=validation_strips(out, run.summary, classes),
        pseudo_images=pseudo_strips(out, run.summary, classes),
        failures=read_failures(out, run.summary, NUM_FAILURES),
        min_score=MIN_SCORE,
        **_values(run.summary),
    )
    path, part = out / "report.html", out / "report.html.part"
    part.write_text(html, "utf-8")
    return part.replace(path)


def _values(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of a summary, formatted."""
    pseudo = summary.get("pseudo") or {}
    return {
        "verb": summary.get("verb") or "run",
        "headline": wording.headline(summary),
        "caution": wording.caution(summary) or wording.context(summary),
        "bars": _bars(summary),
        "ap_table": _ap_table(summary, [key for key in AP_KEYS if _measured(summary, key)]),
        "class_table": _ap_table(summary, _class_keys(summary)),
        "sweep_table": _sweep_table(summary.get("sweep") or []),
        "facts": _pseudo_facts(pseudo),
        "warnings": wording.pseudo_warnings(pseudo),
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
    measured = {model: wording.average_precision(summary, model) for model in MODELS}
    aps = [ap for ap in measured.values() if ap is not None]
    if len(aps) < 2:
        return []  # nothing to compare
    longest = max(aps) or 1.0
    by_rival = wording.gains(summary)
    return [
        {
            "model": MODELS[model],
            "colour": colour_name(model),
            "ap": wording.points(ap),
            "percent": round(100 * ap / longest, 2),
            "gain": wording.signed(by_rival[model]) if model in by_rival else "",
        }
        for model, ap in measured.items()
        if ap is not None
    ]


def _measured(summary: Mapping[str, Any], key: str) -> bool:
    return any(wording.average_precision(summary, model, key) is not None for model in MODELS)


def _class_keys(summary: Mapping[str, Any]) -> list[str]:
    keys = [key for model in MODELS for key in summary.get(model) or {}]
    return [key for key in dict.fromkeys(keys) if key.startswith(CLASS_PREFIX)]


def _ap_table(summary: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """Model names, and a row a metric: its name, and text and is-best for each model."""
    models = [model for model in MODELS if summary.get(model)]
    rows = []
    for key in keys:
        cells = _best_marked([wording.average_precision(summary, model, key) for model in models])
        rows.append((key.removeprefix(CLASS_PREFIX), cells))
    heads = [(MODELS[model], colour_name(model)) for model in models]
    return {"heads": heads, "rows": rows if heads else []}


def _sweep_table(sweep: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row a trial, in the shape of `_ap_table`: alpha, how the losses were joined, figures."""
    keys = [key for key in SWEEP_KEYS if any(key in trial for trial in sweep)]
    columns = [[(wording.loss_name(trial), False) for trial in sweep]]
    columns += [_best_marked([wording.measured(trial, key) for trial in sweep]) for key in keys]
    names = [f"{trial['alpha']:g}" for trial in sweep]
    heads = [("Loss", ""), *((key, "") for key in keys)]
    return {"heads": heads, "rows": list(zip(names, zip(*columns, strict=True), strict=True))}


def _best_marked(values: Sequence[float | None]) -> list[tuple[str, bool]]:
    """Text and is-best of each; one alone is not the best of anything."""
    shown = [wording.points(value) for value in values]
    best = max((float(text) for text in shown if text != "–"), default=None)
    return [(text, len(shown) > 1 and text != "–" and float(text) == best) for text in shown]


def _pseudo_facts(pseudo: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Value, name and a word of context for each figure that is there."""
    human = number(pseudo.get("human_boxes_per_image"))
    beside = f"people drew {human:.2f}" if human else ""  # `label` knows none
    kinds = (
        ("images", "pool images labelled", "", "{:,.0f}"),
        ("boxes_per_image", "boxes an image", beside, "{:.2f}"),
        ("empty_share", "images with no box", "", "{:.0%}"),
        ("precision", "of the pseudo boxes are right", "precision", "{:.0%}"),
        ("recall", "of the true objects were found", "recall", "{:.0%}"),
        ("failures", "images failed", "", "{:,.0f}"),
    )
    read = [(number(pseudo.get(key)), name, note, form) for key, name, note, form in kinds]
    return [(form.format(v), name, note) for v, name, note, form in read if v is not None]


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
