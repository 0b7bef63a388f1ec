"""The gradient of one step: a forward and a backward pass over all images at once.

In: a model, a `Batch`, an objective and the averages so far. Out: gradients in the parameters, and
`Learned`. Next: `accumulation.py`, the same in parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ray_st.data.batches import Batch
from ray_st.tasks.task import LossSums, Objective
from ray_st.training.loss_balance import JOINT, BalancedLoss, LossBalance, balanced_loss
from ray_st.training.schedule import TrainConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """What is known of a step's loss once its gradient is there."""

    loss: BalancedLoss
    parts: Mapping[str, Float[Tensor, ""]]  # terms of the task's loss, from this worker's images

    @classmethod
    def of(
        cls,
        loss: BalancedLoss,
        sums: LossSums,
        origins: Int64[Tensor, " b"],
        is_valid: Bool[Tensor, " b"],
    ) -> Learned:
        """From what the loss was made of."""
        return cls(loss=loss, parts=sums.part_means(is_valid & (origins != JOINT)))


def gradient(
    model: nn.Module, batch: Batch, objective: Objective, balance: LossBalance, config: TrainConfig
) -> Learned:
    """Add the gradient of the global batch's loss to that in the parameters of `model`.

    `model` may be wrapped and compiled; `batch` is this worker's, on any device.
    """
    batch = batch.to(device_of(model))
    targets = targets_of(batch, objective)
    sums = objective.loss_sums(outputs_of(model, batch, config), targets)
    loss = balanced_loss(sums, batch.origins, batch.is_valid, balance)
    loss.to_differentiate.backward()  # type: ignore[no-untyped-call]
    return Learned.of(loss, sums, batch.origins, batch.is_valid)


def device_of(model: nn.Module) -> torch.device:
    """Where a model computes."""
    return next(model.parameters()).device


def targets_of(batch: Batch, objective: Objective) -> Any:
    """What outputs are compared with; on the device of the batch."""
    size_hw = (batch.pixels.shape[2], batch.pixels.shape[3])
    return objective.targets(batch.labels, size_hw, batch.pixels.device)


def outputs_of(model: nn.Module, batch: Batch, config: TrainConfig) -> Any:
    """Run the model forward in the precision of `config`."""
    seen = [each for each in (batch.pixels, batch.joint_pixels) if each is not None]
    # Autocast around the model only: its outputs are float32, and so are the losses.
    with torch.autocast(batch.pixels.device.type, torch.bfloat16, config.precision == "bf16"):
        return model(*seen)
