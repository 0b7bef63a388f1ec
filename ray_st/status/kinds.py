"""Which verb a folder is of, and which stages that verb has.

In: a resolved recipe, and the names of a folder's files. Out: a verb's name; `Plan`s of stages.
Next: `reading.py`.

A recipe does not name its verb, for one recipe serves many. Which fields a resolved one has does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

DOCTOR = "doctor.json"
# The first whose fields are all there, those of a verb's own before those that verbs share.
_FIELDS = {
    "export-model": ("format", "model", "outputs"),
    "export": ("format", "images_root"),
    "demo": ("loop", "digits"),
    "run": ("loop", "data"),
    "sweep": ("sweep", "pseudo"),
    "label": ("teacher", "images"),
    "pretrain": ("method", "images"),
    "train": ("train", "data"),
    "eval": ("model", "data"),
    "policy": ("policy", "pseudo"),
}
_FILES = {
    "manifest.json": "index",
    DOCTOR: "doctor",
    "raw": "label",
    "ray_train": "train",
    "model.json": "train",
}
_PARTS = {"teacher": "teacher", "pseudo": "label", "student": "student", "human_only": "human_only"}
"""Folders of a run's stages, and what the stages are called."""

Kind = Literal["training", "labelling", "sweep", "other"]
_KINDS: dict[str, Kind] = {
    "train": "training",
    "pretrain": "training",
    "label": "labelling",
    "eval": "labelling",
    "sweep": "sweep",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A stage as a recipe asks for it."""

    name: str
    folder: str  # in the run's; "" for the run's own
    kind: Kind
    total: int | None = None


def verb_of(recipe: Mapping[str, Any], names: Collection[str]) -> str | None:
    """The verb that left a folder with this recipe, or without one these files; None for nobody."""
    for verb, fields in _FIELDS.items():
        if recipe.keys() >= {*fields}:
            return verb
    return next((verb for name, verb in _FILES.items() if name in names), None)


def plans(verb: str, recipe: Mapping[str, Any]) -> list[Plan]:
    """The stages of a verb, in order."""
    if verb in ("run", "demo"):
        return _of_run(recipe)
    kind = _KINDS.get(verb, "other")
    total = None
    if kind == "training":
        total = _number(recipe, "train", "steps")
    elif kind == "sweep":
        total = _sweep_steps(recipe)
    return [Plan(name=verb, folder="", kind=kind, total=total)]


def _of_run(recipe: Mapping[str, Any]) -> list[Plan]:
    loop, steps = recipe.get("loop") or {}, _number(recipe, "train", "steps")
    found = [
        Plan(
            name=name,
            folder=folder,
            kind="labelling" if folder == "pseudo" else "training",
            total=None if folder == "pseudo" else steps,
        )
        for folder, name in _PARTS.items()
        if folder != "human_only" or loop.get("human_only", True)
    ]
    own = loop.get("teacher_steps")
    found[0] = Plan(name="teacher", folder="teacher", kind="training", total=own or steps)
    if total := _sweep_steps(recipe):
        found.append(Plan(name="sweep", folder="sweep", kind="sweep", total=total))
    return found


def part_of(folder: str) -> str | None:
    """What a stage of a run is called whose folder has this name; None for no stage."""
    return _PARTS.get(folder)


def _sweep_steps(recipe: Mapping[str, Any]) -> int | None:
    """Steps of all trials."""
    sweep = recipe.get("sweep") or {}
    alphas = sweep.get("alphas") or ()
    trials = len(alphas) + bool(alphas and sweep.get("plain_at_largest"))
    return trials * (_number(recipe, "sweep", "steps") or 0)


def _number(recipe: Mapping[str, Any], section: str, name: str) -> int | None:
    found = (recipe.get(section) or {}).get(name)
    return found if isinstance(found, int) else None
