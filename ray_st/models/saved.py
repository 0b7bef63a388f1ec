"""A model at rest: safetensors, and a JSON that explains them.

In: a model and its card. Out: a folder that `label`, `eval` and `train` take; `SavedModel`, the
same in memory. Nothing is unpickled. Next: `folded.py`.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ray_st.config import UserError, as_dict, convert, require
from ray_st.data import storage
from ray_st.models import ModelConfig, build
from ray_st.models.files import read_file, stands
from ray_st.models.folded import folded

WEIGHTS, CARD = "model.safetensors", "model.json"
FORMAT = 2  # 1 held no mean and std among the weights


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What must be known of weights to use them."""

    task: str
    classes: tuple[str, ...]
    model: ModelConfig
    preprocessing: Mapping[str, Any]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    loss_balance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A model as bytes and card: small enough to hand to any worker, on any node."""

    weights: bytes  # safetensors
    card: ModelCard

    @property
    def digest(self) -> str:
        """SHA-256 of the weights: the name by which labels remember their teacher."""
        return hashlib.sha256(self.weights).hexdigest()

    def load(self, device: torch.device | str = "cpu") -> nn.Module:
        """Build the model for inference: in evaluation mode, its BatchNorms folded away."""
        model = build(self.card.model, self.card.task, len(self.card.classes)).eval()
        model.load_state_dict(safetensors.torch.load(self.weights))
        side = self.card.model.image_size_px
        model = folded(model, torch.empty(1, 3, side, side, dtype=torch.uint8, device="meta"))
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    found = {}
    for name in ("ray-st", "ray", "torch", "torchvision", "timm", "pyarrow", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout on PYTHONPATH, as inside a Ray job
            found[name] = "from source"
    return found


def save_model(folder: Path, model: nn.Module, card: ModelCard) -> None:
    """Write weights and card."""
    save_tensors(folder, model.state_dict(), card)


def save_tensors(folder: Path, weights: Mapping[str, Tensor], card: ModelCard) -> None:
    """Write weights and card; the card last, so that a folder with a card is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in weights.items()}
    safetensors.torch.save_file(tensors, folder / WEIGHTS)
    text = {
        "format": FORMAT,
        "task": card.task,
        "classes": list(card.classes),
        "model": as_dict(card.model),
        "preprocessing": dict(card.preprocessing),
        "loss_balance": dict(card.loss_balance),
        "metrics": dict(card.metrics),
        "recipe": dict(card.recipe),
        "versions": versions(),
    }
    (folder / CARD).write_text(json.dumps(text, indent=2) + "\n")


def read_model(path: str | Path, what: str) -> SavedModel:
    """Read a model folder, here or in a bucket; `what` names the flag in the error of a wrong one.

    A model that cannot be built, or weights that are not its own, are refused here and not in a
    worker.
    """
    saved, tensors = _read(path, what)
    if not saved.card.classes:
        raise UserError(
            f"{what}: {path} holds a backbone to start from, without classes; train a model from "
            f"it with --init.start {saved.card.task} --init.weights {path}"
        )
    _require_buildable(saved.card, tensors, f"{what}: {path}")
    return saved


def read_files(path: str | Path, what: str) -> SavedModel:
    """Read the two files of a folder or bucket, which need not hold a whole model."""
    return _read(path, what)[0]


def _read(path: str | Path, what: str) -> tuple[SavedModel, dict[str, Tensor]]:
    """The same, and the tensors that had to be unpacked to know the weights for whole."""
    folder = model_folder(path)
    for name in (CARD, WEIGHTS):
        if not stands(storage.join(folder, name), what):
            raise UserError(
                f"{what}: {folder} holds no {name}; pass the --out folder of `ray-st train`"
            )
    card = _read_card(folder, what)
    file = storage.join(folder, WEIGHTS)
    weights = read_file(file, what)
    try:
        tensors = safetensors.torch.load(weights)
    except (SafetensorError, ValueError, KeyError, AssertionError) as error:
        raise UserError(
            f"{what}: {file} is damaged or no safetensors file ({error}); copy it again"
        ) from error
    return SavedModel(weights=weights, card=card), tensors


def model_folder(path: str | Path) -> str:
    """The folder of a model that is named by itself or by one of its two files."""
    text = str(path)
    is_file = posixpath.basename(storage.split_options(text)[0]) in (WEIGHTS, CARD)
    return (storage.folder_of(text) or ".") if is_file else text


def has_card(folder: str, what: str) -> bool:
    """Whether a folder or bucket holds a model; raises as `read_model` does."""
    return stands(storage.join(folder, CARD), what)


def _read_card(folder: str, what: str) -> ModelCard:
    file = storage.join(folder, CARD)
    content = read_file(file, what)
    try:
        text = json.loads(content)
        card = None if 1 <= text["format"] < FORMAT else _card(text)
    except (ValueError, KeyError, TypeError) as error:
        reason = error if isinstance(error, UserError) else repr(error)
        raise UserError(
            f"{what}: {file} is not a model card ({reason}); "
            "pass the --out folder of `ray-st train`"
        ) from error
    if card is None:
        raise UserError(
            f"{what}: {folder} was written by an older ray-st (format {text['format']}, this "
            f"one reads {FORMAT}); train it again"
        )
    return card


def _require_buildable(card: ModelCard, held: Mapping[str, Tensor], where: str) -> None:
    try:
        with torch.device("meta"):  # shapes alone: no memory, no random numbers
            built = build(card.model, card.task, len(card.classes)).state_dict()
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    differing = [
        name
        for name in {**built, **held}
        if name not in held or name not in built or held[name].shape != built[name].shape
    ]
    if differing:
        raise UserError(
            f"{where}: {WEIGHTS} and {CARD} disagree on {len(differing)} tensors "
            f"({', '.join(differing[:3])}); train it again"
        )


def _card(text: dict[str, Any]) -> ModelCard:
    require(text["format"] == FORMAT, "format", f"{FORMAT}", text["format"])
    classes = convert(tuple[str, ...], text["classes"], path="classes")
    named = len(classes) > 0 or text["task"] == "simclr"  # which learns without classes
    require(named, "classes", "at least one name", text["classes"])
    return ModelCard(
        task=text["task"],
        classes=classes,
        model=convert(ModelConfig, text["model"], path="model"),
        preprocessing=text["preprocessing"],
        recipe=text["recipe"],
        loss_balance=text["loss_balance"],
        metrics=text["metrics"],
    )


def require_classes(saved: SavedModel, classes: tuple[str, ...], *, what: str, data: str) -> None:
    """Refuse a model that names other classes than the data, before anything starts."""
    if saved.card.classes == classes:
        return
    missing = sorted(set(classes) - set(saved.card.classes))
    extra = sorted(set(saved.card.classes) - set(classes))
    how = f"lacks {missing}, has {extra} besides" if missing or extra else "has them in other order"
    raise UserError(
        f"{what}: the model's classes are not those of {data} ({how}); "
        "pass a model that was trained on the same class list"
    )


def require_model(saved: SavedModel, task: str, model: ModelConfig, *, what: str) -> None:
    """Refuse a model of another task or architecture than the recipe's, naming what differs."""
    have = {"task": saved.card.task, **_dotted(saved.card.model)}
    want = {"task": task, **_dotted(model)}
    differing = [f"{n} {have[n]}, not {want[n]}" for n in want if have[n] != want[n]]
    if differing:
        raise UserError(
            f"{what}: the model differs from the recipe's ({'; '.join(differing)}); "
            "give both the same model section"
        )


def _dotted(model: ModelConfig) -> dict[str, Any]:
    return {f"model.{name}": value for name, value in as_dict(model).items()}
