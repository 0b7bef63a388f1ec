"""Where weights start: at random, from ImageNet, from self-supervision, or from a teacher.

In: `InitConfig`, and a model (on the meta device, or a real one). Out: `Start`: tensors to send to
the workers, and an exact account of what fitted. Input normalisation is part of a start: the
model's `mean` and `std` come with the weights. Next: `tasks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import safetensors.torch
from torch import Tensor, nn

from ray_st.config import UserError, require
from ray_st.data import storage
from ray_st.models import ModelConfig
from ray_st.models.files import stands
from ray_st.models.fitting import Loaded, counted_names, fitted, require_fit
from ray_st.models.saved import (
    WEIGHTS,
    SavedModel,
    has_card,
    model_folder,
    read_files,
    read_model,
)
from ray_st.models.spinenet import SIZES
from ray_st.models.weight_files import (
    Normalisation,
    Weights,
    named,
    read_weights,
    require_finite,
)

_OUTSIDE = ("backbone.network.model.", "backbone.")  # before timm's names; before ours
_STARTS = {  # by the task that a backbone was learned by
    "classification": ("imagenet", "imagenet++"),
    "simclr": ("simclr",),
}


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Where the weights of a model start (paper sections 3.1, 3.4)."""

    start: Literal["random", "imagenet", "imagenet++", "simclr", "teacher"] = "random"
    """imagenet, imagenet++ (Noisy Student) and simclr start the backbone, teacher all of it."""
    weights: str | None = None
    """Model folder, or a .safetensors, .pth, .pt or .npz file, here or in a bucket; by default
    timm's, from the hub."""
    partial: bool = False
    """Load what fits of `weights` and record the rest in summary.json, instead of refusing."""
    mean: tuple[float, float, float] | None = None
    """Mean RGB that the weights expect, on 0..1; by default as their folder or the hub says."""
    std: tuple[float, float, float] | None = None
    """Standard deviation of RGB that the weights expect, on 0..1; goes with init.mean."""

    def __post_init__(self) -> None:
        start = self.start
        if start in ("simclr", "teacher") and self.weights is None:
            raise UserError(
                f"init.weights: is missing; start {start} has no default, pass --init.weights "
                "with a model folder"
            )
        for name in ("weights", "partial", "mean", "std"):
            value = getattr(self, name)
            useless = start == "random" or (start == "teacher" and name != "weights")
            require(
                not useless or value in (None, False),
                f"init.{name}",
                f"left out with init.start {start}",
                value,
                "remove it, or set another init.start",
            )
        for name, value, other in (("std", self.std, self.mean), ("mean", self.mean, self.std)):
            move = f"pass --init.{name} R G B too"
            rule = "set where the other of init.mean and init.std is"
            require(other is None or value is not None, f"init.{name}", rule, value, move)
        for mean in self.mean or ():
            require(0 <= mean <= 1, "init.mean", "on 0..1", self.mean, "divide by 255")
        for std in self.std or ():
            require(0 < std <= 1, "init.std", "above 0, on 0..1", self.std, "divide by 255")


@dataclass(frozen=True, kw_only=True)
class Start:
    """A start that was read once, as bytes: small enough to hand to any worker."""

    weights: bytes  # safetensors, by the model's own names
    loaded: Loaded

    @classmethod
    def of_teacher(cls, saved: SavedModel, source: str) -> Start:
        """All of a model that agrees with the one to train."""
        tensors = safetensors.torch.load(saved.weights)
        require_finite(tensors, source)
        loaded = Loaded(start="teacher", source=source, tensors=len(counted_names(tensors)))
        return cls(weights=saved.weights, loaded=loaded)

    def apply(self, model: nn.Module) -> None:
        """Put the tensors in place; the rest of the model stays as it was built."""
        tensors = safetensors.torch.load(self.weights)
        unexpected = model.load_state_dict(tensors, strict=False).unexpected_keys
        assert not unexpected, "a start bears the names of its model"


def initialise(model: nn.Module, config: ModelConfig, init: InitConfig) -> Loaded | None:
    """Load a start in place; None for random. Raises `UserError` as `read_start` does."""
    start = read_start(model, config, init)
    if start is None:
        return None
    start.apply(model)
    return start.loaded


def read_start(model: nn.Module, config: ModelConfig, init: InitConfig) -> Start | None:
    """Read a start for a model, which may stand on the meta device; None for random.

    Args:
        model: what `build` made, with the attribute `backbone` and the buffers `mean` and `std`.
        config: what it was made of.
        init: what to start from.

    Raises:
        UserError: the source is missing, damaged or unreachable, nothing of it fits, or some of it
            does not and `init.partial` is false.
    """
    if init.start == "random":
        return None
    wanted = model.state_dict()
    if init.start == "teacher":
        assert init.weights is not None, "InitConfig sees to it"
        given = safetensors.torch.load(read_model(init.weights, "init.weights").weights)
        require_finite(given, init.weights)
        tensors, loaded = fitted(init.start, init.weights, wanted, given, spare=())
        require_fit(loaded, config.backbone, partial=False)
    else:
        tensors, loaded = _backbone_start(wanted, config, init)
    return Start(weights=safetensors.torch.save(tensors), loaded=loaded)


def _backbone_start(
    wanted: Mapping[str, Tensor], config: ModelConfig, init: InitConfig
) -> tuple[dict[str, Tensor], Loaded]:
    """Tensors of the backbone and the normalisation, by the model's names."""
    from ray_st.models import hub  # imports timm, which a config alone must not

    backbone = config.backbone
    source, weights = _source(config, init)
    outside = next((each for each in _OUTSIDE if any(n.startswith(each) for n in wanted)), "")
    inner = {n.removeprefix(outside): x for n, x in wanted.items() if n.startswith(outside)}
    spare = hub.network_names(backbone)
    fitting, loaded = fitted(init.start, source, inner, weights.tensors, spare)
    require_fit(loaded, backbone, partial=init.partial)
    normalisation = _normalisation(init, weights, backbone)
    tensors = {outside + name: value for name, value in fitting.items()}
    return {**tensors, **normalisation.buffers()}, loaded


def _source(config: ModelConfig, init: InitConfig) -> tuple[str, Weights]:
    from ray_st.models import hub

    backbone = config.backbone
    if init.weights is None:
        name, tensors = hub.download(backbone, init.start)
        pixels = hub.normalisation_of(backbone, init.start)
        return name, Weights(tensors=tensors, normalisation=pixels)
    folder, inside = model_folder(init.weights), storage.join(init.weights, WEIGHTS)
    if has_card(folder, "init.weights"):
        return init.weights, _of_folder(folder, config, init)
    is_inside = stands(inside, "init.weights")
    if not is_inside and storage.is_folder(init.weights):
        raise UserError(
            f"init.weights: {init.weights} is a folder without {WEIGHTS}; pass the --out folder of "
            "`ray-st pretrain`, or a file of weights"
        )
    file = inside if is_inside else init.weights
    weights = read_weights(file)
    pixels = weights.normalisation or hub.normalisation_of_file(file, backbone)
    return init.weights, replace(weights, normalisation=pixels)


def _of_folder(folder: str, config: ModelConfig, init: InitConfig) -> Weights:
    saved = read_files(folder, "init.weights")
    task, where = saved.card.task, f"init.weights: {folder} holds"
    if task not in _STARTS:
        raise UserError(
            f"{where} a model for {task}; pass --init.start teacher to start from all of it, or a "
            f"folder with a backbone learned by {' or '.join(_STARTS)}"
        )
    if init.start not in _STARTS[task]:
        raise UserError(
            f"{where} a backbone learned by {task}; pass --init.start {' or '.join(_STARTS[task])}"
        )
    # A timm backbone keeps its own activation; no tensor shows which one SpineNet learned with.
    for name in ("backbone", "activation") if config.backbone in SIZES else ("backbone",):
        have, want = getattr(saved.card.model, name), getattr(config, name)
        if have != want:
            raise UserError(
                f"{where} the {name} {have!r}, the recipe asks for {want!r}; give both the same "
                f"model.{name}"
            )
    tensors = safetensors.torch.load(saved.weights)
    require_finite(tensors, folder)
    return named(tensors)


def _normalisation(init: InitConfig, weights: Weights, backbone: str) -> Normalisation:
    from ray_st.models import hub

    if init.mean is not None and init.std is not None:
        return Normalisation(mean=init.mean, std=init.std)
    if weights.normalisation is None:
        raise UserError(hub.no_pixels(init.weights, backbone, init.start))
    return weights.normalisation
