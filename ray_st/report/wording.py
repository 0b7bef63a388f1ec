"""Say in plain words what the numbers of a summary mean.

In: `summary.json`. Out: sentences. Next: `tables.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_st.labeling.pace import speed_words
from ray_st.report.figures import Figure, keys, measured, ranking, value
from ray_st.report.palette import MODELS
from ray_st.report.run_files import number

RIVALS = {"teacher": "its teacher", "human_only": "human labels only"}
CHANCE_POINTS = 1.0  # below this, two single runs may differ by their seeds alone


def gains(summary: Mapping[str, Any]) -> dict[str, float]:
    """The student's figure less that of each model it is compared with, in points."""
    student = value(summary, "student")
    rivals = {model: value(summary, model) for model in RIVALS}
    if student is None:
        return {}
    return {m: round(student - rival, 1) for m, rival in rivals.items() if rival is not None}


def headline(summary: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    by_rival, figure = gains(summary), ranking(summary)
    if by_rival:
        return f"The student is {_verdict(by_rival, figure)}."
    models = {model: value(summary, model) for model in MODELS if model in summary}
    last = list(models)[-1] if models else ""
    if models and models[last] is None:
        said = f"The {MODELS[last].lower()} has no {figure.name}"
        return f"{said}: it diverged, or was not evaluated."
    if len(models) == 1:
        return f"The {MODELS[last].lower()} reaches {figure.reached(models[last])}."
    reached = [f"{MODELS[m]}: {figure.reached(v)}" for m, v in models.items() if v is not None]
    if reached:
        return f"{', '.join(reached)}."
    if summary.get("sweep"):
        return _best_alpha(summary["sweep"], keys(summary)[0], figure)
    if summary.get("simclr"):
        return _told_apart(summary["simclr"])
    images = number((summary.get("pseudo") or {}).get("images"))
    return "No result yet." if images is None else f"The teacher labelled {images:,.0f} images."


def _told_apart(learned: Mapping[str, Any]) -> str:
    accuracy, loss = number(learned.get("accuracy")), number(learned.get("loss"))
    if accuracy is None or loss is None:
        return "The training on pairs of views diverged."
    percent = f"{100 * accuracy:.0f}%"
    return f"Tells a picture's two views from all others in {percent} of cases (loss {loss:.2f})."


def _best_alpha(sweep: Sequence[Mapping[str, Any]], key: str, figure: Figure) -> str:
    found = [(v, trial) for trial in sweep if (v := measured(trial, key)) is not None]
    if not found:
        return f"No alpha reached any {figure.name}: every trial diverged."
    best, trial = max(found, key=lambda pair: pair[0])
    by = f"{trial['alpha']:g}, with the {loss_name(trial)}"
    return f"The best alpha is {by}: {figure.reached(best)}."


def loss_name(trial: Mapping[str, Any]) -> str:
    """How a trial of the sweep joined its two losses."""
    return "normalised loss" if trial["normalised"] else "plain sum"


def context(summary: Mapping[str, Any]) -> str:
    """What a stage that ran alone worked on, in one sentence; empty for a whole run."""
    numbers = {key: number(value) for key, value in summary.items()}
    steps, human, pseudo = (numbers.get(k) for k in ("steps", "human_images", "pseudo_images"))
    if steps is not None and human is not None:
        with_pseudo = f" and {pseudo:,.0f} with pseudo labels" if pseudo else ""
        return f"Trained for {steps:,.0f} steps on {human:,.0f} human-labelled images{with_pseudo}."
    images = numbers.get("images")
    if summary.get("simclr") and images is not None:
        lasted = f" in {steps:,.0f} steps" if steps is not None else ""
        return f"Learned from {images:,.0f} images{lasted}."
    if images is not None:
        return f"Measured on {images:,.0f} images."
    words = speed_words(summary.get("speed") or {})
    return f"{words}." if words and not any(model in summary for model in MODELS) else ""


def _verdict(by_rival: Mapping[str, float], figure: Figure) -> str:
    words = {m: "better than" if g > 0 else "worse than" if g < 0 else "level with"
             for m, g in by_rival.items()}  # fmt: skip
    gained = {m: figure.gained(g) for m, g in by_rival.items()}
    if figure.unit != figure.name:  # said in full once
        gained[next(iter(gained))] += f" of {figure.name}"
    parts = [f"{RIVALS[m]} ({gain})" for m, gain in gained.items()]
    first, *rest = words.values()
    if not rest:
        return f"{first} {parts[0]}"
    if rest[0] == first:
        return f"{first} {parts[0]} and {first.split()[-1]} {parts[1]}"
    return f"{first} {parts[0]} but {rest[0]} {parts[1]}"


def caution(summary: Mapping[str, Any]) -> str:
    """A word on chance where the closest comparison is closer than single runs can tell."""
    closest = min((abs(gain) for gain in gains(summary).values()), default=CHANCE_POINTS)
    if closest >= CHANCE_POINTS:
        return ""
    return (
        "One run each: a difference under 1 point can be chance. "
        "Repeat with other seeds to be sure."
    )


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
