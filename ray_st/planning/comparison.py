"""How near a run came to its plan.

In: a folder that `ray-st plan` left, or none; what a run is, and what it did. Out: facts for its
summary. Next: `wording.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.labeling.config import LabelConfig
from ray_st.models import ModelConfig
from ray_st.planning.labelling import foretold
from ray_st.planning.plan import FOLDER, JSON, Basis, read_basis, trained
from ray_st.planning.shapes import recipe_shape
from ray_st.planning.training import Training
from ray_st.training.schedule import TrainConfig


def basis_for(folder: str | None, task: str, model: ModelConfig | None) -> Basis | None:
    """The plan to compare a run with: the one that was named, or that of `FOLDER` if it fits.

    It fits if it is of the same task and `model` (None: a teacher from elsewhere, which no plan
    fits unasked).
    """
    if folder is not None:
        return read_basis(folder)
    if not storage.exists(storage.join(FOLDER, JSON)):
        return None
    try:
        found = read_basis(FOLDER)
    except UserError:
        return None  # nobody asked for it
    return found if (found.task, found.model) == (task, model) else None


def labelling_basis(
    folder: str | None, task: str, model: ModelConfig | None, label: LabelConfig
) -> Basis | None:
    """The plan to compare a labelling with; it must have room for its teachers.

    One that was named and has none is refused; nobody asked for the other.
    """
    found = basis_for(folder, task, model)
    return None if found is None else _fitting(found, folder, _no_labelling(found, label))


def training_basis(
    folder: str | None, task: str, model: ModelConfig, train: TrainConfig, *, has_pseudo: bool
) -> Basis | None:
    """The same for a training, with pseudo labels or without."""
    found = basis_for(folder, task, model)
    if found is None:
        return None
    found = replace(found, has_pseudo=has_pseudo)
    return _fitting(found, folder, _no_training(found, train))


def _fitting(found: Basis, folder: str | None, unfit: str) -> Basis | None:
    if unfit and folder is not None:
        raise UserError(f"plan: {folder} {unfit}; name another, or leave --plan out")
    return None if unfit else found


def _no_labelling(basis: Basis, label: LabelConfig) -> str:
    """Why a plan says nothing of a labelling; empty where it does."""
    if basis.label_rates is None:
        return "foretells no labelling"
    if label.actors[1] == 0:
        return "foretells teachers, and label.actors 0 0 has none"
    try:
        recipe_shape(basis.label_rates, basis.fleet, label)
    except UserError as error:
        return f"has no such nodes ({str(error).partition(';')[0]})"
    return ""


def _no_training(basis: Basis, train: TrainConfig) -> str:
    if _as_many(trained(basis, train), train) is not None:
        return ""
    workers = max(1, train.num_workers)
    return f"foretells no training of {workers} workers on {basis.fleet.name}"


def _as_many(found: Sequence[Training], train: TrainConfig) -> Training | None:
    workers = max(1, train.num_workers)
    return next((each for each in found if each.workers == workers), None)


def label_outcome(basis: Basis, label: LabelConfig, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What labelling as many images as this run did was to be, and was; perhaps nothing.

    Never raises `UserError`: the labels are there, whatever the plan says. A warning then stands
    with those of `summary`.
    """
    rates, speed = basis.label_rates, summary.get("speed") or {}
    measured = speed.get("images_per_s")
    if rates is None or measured is None:
        return {}
    images = max(1, round(measured * summary["seconds"]["label"]))
    try:
        shape = recipe_shape(rates, basis.fleet, label)
        expected = foretold(rates, basis.fleet, label, shape, images, basis.assume)
    except UserError as error:
        said = f"not compared with its plan: {error}"
        return {"warnings": [*summary.get("warnings", ()), said]}
    return _outcome(expected.images_per_s, measured)


def train_outcome(basis: Basis, train: TrainConfig, measured: float | None) -> dict[str, Any]:
    """The same of training, in images a second of both origins; `measured`: of its log."""
    found = _as_many(trained(basis, train), train)
    return _outcome(found.images_per_s, measured) if found is not None and measured else {}


def _outcome(predicted: float, measured: float) -> dict[str, Any]:
    return {
        "plan": {
            "predicted_images_per_s": predicted,
            "measured_images_per_s": measured,
            "off": measured / predicted - 1,
        }
    }
