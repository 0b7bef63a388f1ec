"""The figures by which models are compared: their keys in a summary, their names on the page.

In: `summary.json`, whose `figures` names the keys to look at; the first ranks models. Out: values,
0..100, and words for them. Next: `wording.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ray_st.report.palette import MODELS
from ray_st.report.run_files import number

DEFAULT: Final = ("AP", "AP50", "AP75")  # of a summary that names none


@dataclass(frozen=True)
class Figure:
    """How one figure is spoken of."""

    name: str  # inside a sentence
    meaning: str = ""
    is_share: bool = False  # of pixels or of images: in percent

    @property
    def title(self) -> str:
        """The name at the start of a line."""
        return self.name.capitalize() if self.name.islower() else self.name

    @property
    def unit(self) -> str:
        """What a difference is counted in."""
        return "points" if self.is_share else self.name

    def reached(self, value: float | None) -> str:
        """Say a value."""
        return f"{points(value)}{'%' if self.is_share else ''} {self.name}"

    def gained(self, gain: float) -> str:
        """Say a difference."""
        return f"{signed(gain)} {self.unit}"


_FIGURES: Final = {
    "AP": Figure("AP", "average precision, over overlaps from 0.5 to 0.95"),
    "AP50": Figure("AP50", "average precision at an overlap of 0.5"),
    "AP75": Figure("AP75", "average precision at an overlap of 0.75"),
    "IoU": Figure("IoU", "intersection over union"),
    "mIoU": Figure("mIoU", "intersection over union, mean of the classes"),
    "pixel_accuracy": Figure("pixel accuracy", "pixels with the right class", is_share=True),
    "top1": Figure("top-1 accuracy", "images whose likeliest class is right", is_share=True),
    "top5": Figure(
        "top-5 accuracy", "images with the right class among the likeliest five", is_share=True
    ),
}


def figure(key: str) -> Figure:
    """The words for a key; one that is not known is its own name."""
    return _FIGURES.get(key, Figure(key.replace("_", " ")))


def keys(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys to look at, the one that ranks models first."""
    return tuple(summary.get("figures") or DEFAULT)


def ranking(summary: Mapping[str, Any]) -> Figure:
    """The figure that ranks models."""
    return figure(keys(summary)[0])


def class_keys(summary: Mapping[str, Any]) -> dict[str, list[str]]:
    """Keys FIGURE/CLASS by their figure, in the order of the summary."""
    found = [key for model in MODELS for key in summary.get(model) or {}]
    by_figure: dict[str, list[str]] = {}
    for key in dict.fromkeys(found):
        name, slash, _ = key.partition("/")
        if slash:
            by_figure.setdefault(name, []).append(key)
    return by_figure


def value(summary: Mapping[str, Any], model: str, key: str | None = None) -> float | None:
    """A model's figure, by default the one that ranks; None where it was not measured."""
    return measured(summary.get(model) or {}, key or keys(summary)[0])


def measured(metrics: Mapping[str, Any], key: str) -> float | None:
    """One figure in points; None where it was not measured (COCO writes -1)."""
    found = number(metrics.get(key))
    return None if found is None or found < 0 else found


def points(value: float | None) -> str:
    """One decimal, or a dash for what was not measured."""
    return "–" if value is None else f"{value:.1f}"


def signed(value: float) -> str:
    """A difference with its sign always written."""
    shown = round(value, 1)
    return f"{'+' if shown > 0 else '−' if shown < 0 else '±'}{abs(shown):.1f}"
