"""Which verb a resolved recipe is of, and which stages that verb has.

In: a resolved recipe. Out: a verb's name; `Plan`s of stages. Next: `marks.py`.

A recipe does not name its verb, for one recipe serves many. Which fields a resolved one has does,
and of which kind they are: other programs have a recipe.yaml too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ray_st.status.values import count, items, section

_TEXT, _SECTION, _ANY = str, dict, object
# The first whose fields are all there, those of a verb's own before those that verbs share.
_FIELDS: Final[dict[str, dict[str, type]]] = {
    "export-model": {"format": _TEXT, "model": _TEXT, "outputs": _TEXT},
    "export": {"format": _TEXT, "pseudo": _TEXT, "images_root": _ANY},
    "demo": {"loop": _SECTION, "digits": _SECTION},
    "run": {"loop": _SECTION, "data": _SECTION},
    "sweep": {"sweep": _SECTION, "pseudo": _TEXT},
    "label": {"teacher": _TEXT, "images": _TEXT},
    "pretrain": {"method": _TEXT, "images": _TEXT},
    "train": {"train": _SECTION, "data": _SECTION},
    "eval": {"model": _TEXT, "data": _TEXT},
    "policy": {"policy": _SECTION, "pseudo": _TEXT},
}
VERBS: Final = (*_FIELDS, "index", "doctor", "plan")
"""All that leave a folder."""
_PARTS = {"teacher": "teacher", "pseudo": "label", "student": "student", "human_only": "human_only"}
"""Folders of a run's stages, and what the stages are called; a sweep has one where it is wanted."""

Kind = Literal["training", "labelling", "sweep", "other"]
_KINDS: dict[str, Kind] = {
    "train": "training",
    "pretrain": "training",
    "label": "labelling",
    "eval": "labelling",
    "sweep": "sweep",
}
_VERBS: dict[Kind, str] = {"training": "train", "labelling": "label", "sweep": "sweep"}
"""Whose summary a stage of a run leaves."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A stage as a recipe asks for it."""

    name: str
    folder: str  # in the run's; "" for the run's own
    kind: Kind
    total: int | None = None


def verb_of(recipe: Mapping[str, Any]) -> str | None:
    """The verb that left this recipe; None for no recipe, or another program's."""
    for verb, fields in _FIELDS.items():
        if all(name in recipe and isinstance(recipe[name], kind) for name, kind in fields.items()):
            return verb
    return None


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
    loop, steps = section(recipe.get("loop")), _number(recipe, "train", "steps")
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
    own = count(loop.get("teacher_steps"))
    found[0] = Plan(name="teacher", folder="teacher", kind="training", total=own or steps)
    if total := _sweep_steps(recipe):
        found.append(Plan(name="sweep", folder="sweep", kind="sweep", total=total))
    return found


def is_part(folder: str) -> bool:
    """Whether a run could have a stage in a folder of this name."""
    return folder in (*_PARTS, "sweep")


def part_of(recipe: Mapping[str, Any], folder: str) -> tuple[str, Plan] | None:
    """The verb and the plan of a run's stage whose folder has this name; None for no stage.

    `recipe`: of the folder that it lies in.
    """
    if verb_of(recipe) not in ("run", "demo"):
        return None
    plan = next((each for each in _of_run(recipe) if each.folder == folder), None)
    return None if plan is None else (_VERBS[plan.kind], plan)


def _sweep_steps(recipe: Mapping[str, Any]) -> int | None:
    """Steps of all trials."""
    sweep = section(recipe.get("sweep"))
    alphas = items(sweep.get("alphas"))
    trials = len(alphas) + bool(alphas and sweep.get("plain_at_largest"))
    return trials * (_number(recipe, "sweep", "steps") or 0)


def _number(recipe: Mapping[str, Any], part: str, name: str) -> int | None:
    return count(section(recipe.get(part)).get(name))
