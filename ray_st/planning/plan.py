"""A plan: what it rests on, and what it foretells.

In: rates, a fleet, sections of a recipe. Out: `Plan`; plan.json, and what it rests on read back.
Next: `comparison.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ray_st.config import UserError, as_dict, from_dict
from ray_st.data import storage
from ray_st.labeling.config import LabelConfig
from ray_st.models import ModelConfig
from ray_st.models.saved import versions
from ray_st.planning.assumptions import AssumeConfig
from ray_st.planning.fleet import Fleet
from ray_st.planning.labelling import Labelling, foretold
from ray_st.planning.rates import LabelRates, TrainRates
from ray_st.planning.shapes import best_shape, recipe_shape
from ray_st.planning.training import Training, foretold_training
from ray_st.training.schedule import TrainConfig

JSON, FOLDER = "plan.json", "runs/plan"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Basis:
    """All that a plan follows from."""

    images: int
    task: str
    model: ModelConfig
    fleet: Fleet
    assume: AssumeConfig
    label: LabelConfig
    train: TrainConfig
    has_pseudo: bool  # whether steps of training hold pseudo-labelled images too
    label_rates: LabelRates | None
    train_rates: TrainRates | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be expected."""

    basis: Basis
    recipe: Labelling | None  # as the recipe says
    best: Labelling | None  # with the best shape that these nodes allow
    training: list[Training]

    @classmethod
    def of(cls, basis: Basis) -> Plan:
        """Foretell all that there are rates for; raises `UserError` where no teacher has room."""
        labelled: list[Labelling | None] = [None, None]
        if (rates := basis.label_rates) is not None:
            fleet, label = basis.fleet, basis.label
            shapes = [
                recipe_shape(rates, fleet, label),
                best_shape(rates, fleet, label, basis.images, basis.assume),
            ]
            labelled = [
                foretold(rates, fleet, label, shape, basis.images, basis.assume) for shape in shapes
            ]
        return cls(
            basis=basis, recipe=labelled[0], best=labelled[1], training=trained(basis, basis.train)
        )

    def write(self, out: str) -> None:
        """Leave it in a folder."""
        text = {
            "verb": "plan",
            "format": _FORMAT,
            "basis": as_dict(self.basis),
            "recipe": None if self.recipe is None else as_dict(self.recipe),
            "best": None if self.best is None else as_dict(self.best),
            "training": [as_dict(each) for each in self.training],
            "versions": versions(),
        }
        with _refusal(out):
            storage.make_folder(out)
            storage.put(storage.join(out, JSON), (json.dumps(text, indent=2) + "\n").encode())


@contextmanager
def _refusal(out: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(
            f"out: {out} cannot be written ({said}); pass --out with another folder"
        ) from error


def require_writable(out: str) -> None:
    """Refuse a folder or bucket that a plan cannot be left in; leaves nothing there."""
    here = Path(storage.absolute(out))
    missing = [] if storage.is_remote(out) else [p for p in (here, *here.parents) if not p.exists()]
    probe = storage.join(out, f".{JSON}")
    with _refusal(out):
        storage.make_folder(out)
        storage.put(probe, b"")
        storage.remove(probe)
    with suppress(OSError):  # somebody else may have put something there meanwhile
        for folder in missing:
            folder.rmdir()


def trained(basis: Basis, train: TrainConfig) -> list[Training]:
    """What training comes to, for several numbers of workers; nothing without rates."""
    rates = basis.train_rates
    if rates is None:
        return []
    return foretold_training(rates, basis.fleet, train, basis.assume, has_pseudo=basis.has_pseudo)


def read_basis(folder: str) -> Basis:
    """What the plan in a folder rests on; raises `UserError`."""
    path = storage.join(folder, JSON)
    if not storage.exists(path):
        raise UserError(f"plan: {folder} holds no {JSON}; pass a folder that `ray-st plan` left")
    try:
        text = json.loads(storage.read(path))
        if text["format"] != _FORMAT:
            raise UserError(f"plan: {path} is of another version; plan again")
        return from_dict(Basis, text["basis"], path)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"plan: {path} is damaged ({error!r}); plan again") from error
