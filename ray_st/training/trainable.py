"""From a built model to one that can be trained: what moves its weights, and how it computes.

In: a model and a `TrainConfig`. Out: an optimiser; the model with synchronised BatchNorms; what a
step runs, compiled; and the model again that all of it stands around. Next: `sharding.py`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ray_st.models.joint import JointModel
from ray_st.models.trunk import PixelModel
from ray_st.training.schedule import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Decay the weights of convolutions and linear layers; never biases and norms."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.lr)


def with_synchronised_norms(model: nn.Module, config: TrainConfig) -> nn.Module:
    """Make every BatchNorm one over all workers, where that is asked for and means something.

    Parameters, buffers and their names stay, so that a checkpoint fits either form.
    """
    if not config.sync_batchnorm or config.num_workers <= 1:
        return model
    # timm's own: PyTorch's would lose the activation that timm keeps inside its BatchNorms.
    converted: nn.Module = convert_sync_batchnorm(model)
    return converted


def compiled(model: nn.Module, config: TrainConfig) -> nn.Module:
    """Compile what a step runs, where that is asked for.

    The result shares its parameters with `model`, which stays as it is: saved under its own names,
    and evaluated without being compiled again for every other batch size.
    """
    return cast(nn.Module, torch.compile(model)) if config.compile else model


def with_joint_classes(model: nn.Module, num_classes: int) -> nn.Module:
    """Add the classes of joint training, where there are some."""
    if not num_classes:
        return model
    assert isinstance(model, PixelModel), "every model of a task is one"
    return JointModel(model, num_classes)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without what `compiled` and Ray Train put around it."""
    inner = cast(nn.Module, getattr(model, "_orig_mod", model))
    return inner.module if isinstance(inner, DistributedDataParallel) else inner


def bare(model: nn.Module) -> nn.Module:
    """The model under its own names, without anything around it."""
    inner = unwrapped(model)
    return inner.model if isinstance(inner, JointModel) else inner


def joint_classes(model: nn.Module) -> nn.Linear | None:
    """What joint training learns beside the model, if it does."""
    inner = unwrapped(model)
    return inner.classes if isinstance(inner, JointModel) else None


def synchronised(model: nn.Module, *, only_if: bool) -> AbstractContextManager[None]:
    """Let workers share the gradients of passes within, or else let each keep its own for later."""
    inner = getattr(model, "_orig_mod", model)
    if only_if or not isinstance(inner, DistributedDataParallel):
        return nullcontext()
    return inner.no_sync()
