"""One step of shapes without numbers: what a model refuses is found before anything starts.

In: a `ModelConfig`, a task and a `TrainConfig`. Out: nothing, or `UserError`. Next: `guard.py`.
"""

from __future__ import annotations

from dataclasses import is_dataclass

import timm
import torch
from torch import Tensor, nn

from ray_st.config import UserError, require
from ray_st.models import ModelConfig, build
from ray_st.training.freezing import freeze
from ray_st.training.schedule import TrainConfig
from ray_st.training.trainable import with_joint_classes

_ONE_VALUE = "Expected more than 1 value per channel"  # PyTorch's BatchNorms


def rehearse(
    config: ModelConfig, task: str, num_outputs: int, train: TrainConfig, *, has_pseudo: bool
) -> None:
    """Build the model and train it on what one worker sees in a step, on the meta device.

    Takes no memory, whatever the size. Raises `UserError` for a model that cannot be built, that
    does not take views of `config.image_size_px`, whose BatchNorms would see a single value, that
    several workers cannot train, or that has no parameter of a name in `train.freeze`; and for a
    task whose steps have no parts.
    """
    require(
        train.accumulate == 1 or task != "simclr",
        "train.accumulate",
        "1 for SimCLR, whose loss compares each image with all others of its step",
        train.accumulate,
        "raise train.num_workers for larger batches",
    )
    require(
        not train.joint.is_on or task != "classification",
        "train.joint.images",
        "null for classification, which learns classes itself",
        train.joint.images,
    )
    side, images = config.image_size_px, _images(train, has_pseudo=has_pseudo)
    # The forward pass too stands under the meta device, for the constants that some models make.
    with torch.device("meta"):
        model = build(config, task, num_outputs).train()
        freeze(model, train.freeze)
        pixels = torch.empty(images, 3, side, side, dtype=torch.uint8)
        try:
            outputs = model(pixels)
        except Exception as error:
            raise UserError(_refusal(config, train, error)) from error
        if train.joint.is_on:
            model = with_joint_classes(model, 1)
            outputs = _joint_outputs(model, pixels, config, train)
        if train.num_workers > 1:
            _require_gradients(model, outputs, config, train)


def _joint_outputs(
    model: nn.Module, pixels: Tensor, config: ModelConfig, train: TrainConfig
) -> object:
    """The same with the images of joint training, which have a size and a number of theirs."""
    side, images = train.joint.side_px(config.image_size_px), _share(train.num_joint, train)
    try:
        return model(pixels, torch.empty(images, 3, side, side, dtype=torch.uint8))
    except Exception as error:
        if str(error).startswith(_ONE_VALUE):
            line = (
                "train.joint.batch_size: must give each training worker 2 images or more a part, "
                f"for BatchNorm sees one value a channel here, got {train.num_joint}; raise it or "
                "train.joint.image_size_px"
            )
        else:
            line = (
                f"train.joint.image_size_px: must be a size that {config.backbone!r} takes, got "
                f"{side} ({_said(error)}); leave it out, which means {config.image_size_px}"
            )
        raise UserError(line) from error


def _images(train: TrainConfig, *, has_pseudo: bool) -> int:
    """How many images one BatchNorm sees at once."""
    return _share(train.batch_size + (train.num_pseudo if has_pseudo else 0), train)


def _share(total: int, train: TrainConfig) -> int:
    """Of so many images a step."""
    part = total // train.accumulate
    return part if train.sync_batchnorm else part // max(1, train.num_workers)


def _refusal(config: ModelConfig, train: TrainConfig, error: Exception) -> str:
    """Name the field that makes the model fail, and the next move."""
    if str(error).startswith(_ONE_VALUE):
        workers = max(1, train.num_workers)
        each = f" in each of {train.accumulate} parts" if train.accumulate > 1 else ""
        return (
            f"train.batch_size: must give each of {workers} training workers 2 images or more{each}"
            f", for BatchNorm sees one value a channel here, got {train.batch_size}; raise it or "
            "model.image_size_px"
        )
    known = timm.get_pretrained_cfg(config.backbone) if timm.is_model(config.backbone) else None
    side = known.input_size[-1] if known else config.image_size_px
    move = f"set model.image_size_px to {side} or " if side != config.image_size_px else ""
    return (
        f"model.backbone: must take views of model.image_size_px {config.image_size_px}, got "
        f"{config.backbone!r} ({_said(error)}); {move}choose another backbone"
    )


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def _require_gradients(
    model: nn.Module, outputs: object, config: ModelConfig, train: TrainConfig
) -> None:
    """Refuse parameters that the outputs do not depend on: DistributedDataParallel does."""
    total = sum(each.sum() for each in _tensors(outputs))
    assert isinstance(total, Tensor), "every model gives a tensor"
    total.backward()  # type: ignore[no-untyped-call]
    idle = [
        name for name, one in model.named_parameters() if one.requires_grad and one.grad is None
    ]
    if idle:
        raise UserError(
            f"model.backbone: must use all its weights with train.num_workers {train.num_workers}, "
            f"got {config.backbone!r} with {len(idle)} tensors that get no gradient "
            f"({idle[0].removeprefix('backbone.network.model.')}, ...); set train.num_workers to 1 "
            "or choose another backbone"
        )


def _tensors(outputs: object) -> list[Tensor]:
    """All that a model gives, however it is packed."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, tuple):
        return [each for part in outputs for each in _tensors(part)]
    return _tensors(tuple(vars(outputs).values())) if is_dataclass(outputs) else []
