"""One colour for one thing, on the page, in the plots and on the photographs.

In: nothing. Out: names to hex colours, for a light and a dark page. Next: `run_files.py`.
The four hues are those of Okabe and Ito's colour-blind safe set, shifted in lightness for contrast.
"""

from __future__ import annotations

from typing import Final

LIGHT: Final = {
    "paper": "#fcfcfa",
    "ink": "#1d2329",
    "muted": "#5c646d",
    "line": "#dcdfdb",
    "human": "#0072b2",
    "teacher": "#c97b00",
    "pseudo": "#cc79a7",
    "student": "#00875f",
    "model": "#00875f",
    "wrong": "#b93a10",
}

DARK: Final = {
    "paper": "#15191d",
    "ink": "#e7eaec",
    "muted": "#9aa4ad",
    "line": "#323a41",
    "human": "#56b4e9",
    "teacher": "#f0a830",
    "pseudo": "#e6a3c8",
    "student": "#2fc795",
    "model": "#2fc795",
    "wrong": "#ff9068",
}

MODELS: Final = {
    "human_only": "Human labels only",
    "teacher": "Teacher",
    "student": "Student",
    "model": "Model",
}
"""The models of a summary and their names on the page, in the order shown; `eval` has a `model`."""


def colour_name(model: str) -> str:
    """The palette's word for a model: one trained on human labels only is human."""
    return "human" if model == "human_only" else model
