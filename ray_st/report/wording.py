"""Say in plain words what the numbers of a summary mean.

In: parts of `summary.json`. Out: sentences and formatted numbers. Next: `canvas.py`.
AP is in points, 0..100, as papers print it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_st.report.palette import MODELS
from ray_st.report.run_files import number

RIVALS = {"teacher": "its teacher", "human_only": "human labels only"}
CHANCE_POINTS = 1.0  # below this, two single runs may differ by their seeds alone


def average_precision(summary: Mapping[str, Any], model: str, key: str = "AP") -> float | None:
    """A model's AP in points; None where it was not measured (COCO writes -1)."""
    return measured(summary.get(model) or {}, key)


def measured(metrics: Mapping[str, Any], key: str = "AP") -> float | None:
    """One figure in points; None where it was not measured (COCO writes -1)."""
    value = number(metrics.get(key))
    return None if value is None or value < 0 else value


def points(value: float | None) -> str:
    """One decimal, or a dash for what was not measured."""
    return "–" if value is None else f"{value:.1f}"


def signed(value: float) -> str:
    """A difference with its sign always written."""
    shown = round(value, 1)
    return f"{'+' if shown > 0 else '−' if shown < 0 else '±'}{abs(shown):.1f}"


def gains(summary: Mapping[str, Any]) -> dict[str, float]:
    """The student's AP less that of each model it is compared with, in points."""
    student = average_precision(summary, "student")
    rivals = {model: average_precision(summary, model) for model in RIVALS}
    if student is None:
        return {}
    return {model: round(student - ap, 1) for model, ap in rivals.items() if ap is not None}


def headline(summary: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    by_rival = gains(summary)
    if by_rival:
        return f"The student is {_verdict(by_rival)}."
    models = {model: average_precision(summary, model) for model in MODELS if model in summary}
    last = list(models)[-1] if models else ""
    if models and models[last] is None:
        return f"The {MODELS[last].lower()} has no AP: it diverged, or was not evaluated."
    if len(models) == 1:
        return f"The {MODELS[last].lower()} reaches {points(models[last])} AP."
    reached = [f"{MODELS[m]}: {points(ap)} AP" for m, ap in models.items() if ap is not None]
    if reached:
        return f"{', '.join(reached)}."
    if summary.get("sweep"):
        return _best_alpha(summary["sweep"])
    images = number((summary.get("pseudo") or {}).get("images"))
    return "No result yet." if images is None else f"The teacher labelled {images:,.0f} images."


def _best_alpha(sweep: Sequence[Mapping[str, Any]]) -> str:
    aps = [(ap, trial) for trial in sweep if (ap := measured(trial)) is not None]
    if not aps:
        return "No alpha has an AP: every trial diverged."
    ap, best = max(aps, key=lambda pair: pair[0])
    return f"The best alpha is {best['alpha']:g}, with the {loss_name(best)}: {points(ap)} AP."


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
    if (images := numbers.get("images")) is not None:
        return f"Measured on {images:,.0f} images."
    speed = numbers.get("images_per_s")
    return "" if speed is None else f"{speed:,.1f} images a second."


def _verdict(by_rival: Mapping[str, float]) -> str:
    words = {m: "better than" if g > 0 else "worse than" if g < 0 else "level with"
             for m, g in by_rival.items()}  # fmt: skip
    parts = [f"{RIVALS[m]} ({signed(g)} AP)" for m, g in by_rival.items()]
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
        "One run each: a difference under 1 AP can be chance. Repeat with other seeds to be sure."
    )


def pseudo_warnings(pseudo: Mapping[str, Any]) -> list[str]:
    """What in the pseudo labels would worry us, and the next move."""
    empty, failures = number(pseudo.get("empty_share")), number(pseudo.get("failures"))
    boxes, human = (
        number(pseudo.get("boxes_per_image")),
        number(pseudo.get("human_boxes_per_image")),
    )
    precision, images = number(pseudo.get("precision")), number(pseudo.get("images"))
    found = []
    if empty is not None and empty > 0.5:
        found.append(
            f"{empty:.0%} of the pool images have no pseudo label at all. The student is taught "
            "that they show nothing. Lower the score threshold, or check that the pool shows "
            "the same things."
        )
    if boxes is not None and human and boxes < human / 4:
        found.append(
            f"{boxes:.2g} boxes an image, where people drew {human:.2g}: less than a quarter. "
            "What the teacher missed counts as background. Lower the score threshold."
        )
    if precision is not None and precision < 0.5:
        found.append(
            f"Only {precision:.0%} of the pseudo boxes are right. "
            "Raise the score threshold, or train the teacher longer."
        )
    if failures and failures > 0.01 * (images or 0):
        found.append(
            f"{failures:,.0f} images could not be read or labelled: more than one in a hundred. "
            "failures.parquet names each one and the reason."
        )
    return found


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
