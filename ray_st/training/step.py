"""One step: forward, loss, backward, clip, move.

In: `TrainState` and a `Batch`. Out: the state moved on and a `StepReport` that is still on the
device, so that nothing waits for it. Next: `evaluate.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ray_st.data.batches import Batch
from ray_st.data.labels import Origin
from ray_st.tasks.task import Objective
from ray_st.training.loss_balance import HUMAN, PSEUDO, BalancedLoss, LossBalance, balanced_loss
from ray_st.training.schedule import TrainConfig, learning_rate
from ray_st.training.sharding import gathered


@dataclass(kw_only=True)
class TrainState:
    """All that a step changes."""

    model: nn.Module  # perhaps wrapped by DDP, perhaps compiled
    optimizer: torch.optim.Optimizer
    balance: LossBalance
    step: int  # steps done


@dataclass(frozen=True, kw_only=True, eq=False)
class StepReport:
    """What one step did; tensors, read only when a line is logged."""

    step: int  # the step's number, from 1
    lr: float
    loss: BalancedLoss
    gradient_norm: Float[Tensor, ""]  # before clipping
    parts: Mapping[str, Float[Tensor, ""]]  # of the loss, from this worker's images
    pseudo_labels: float  # `Labels.amount` an image in the pseudo half of this worker
    unreadable: int  # images of this worker that could not be read

    def as_row(self) -> dict[str, Any]:
        """Plain numbers for metrics.jsonl; None where an origin has no image."""
        seen = self.loss.seen.tolist()
        losses, means = self.loss.losses.tolist(), self.loss.balance.means.tolist()
        return {
            "step": self.step,
            "loss": float(self.loss.total),
            "loss_human": losses[HUMAN] if seen[HUMAN] else None,
            "loss_pseudo": losses[PSEUDO] if seen[PSEUDO] else None,
            "mean_human": means[HUMAN] if seen[HUMAN] else None,
            "mean_pseudo": means[PSEUDO] if seen[PSEUDO] else None,
            "parts": {name: float(value) for name, value in self.parts.items()},
            "lr": self.lr,
            "gradient_norm": float(self.gradient_norm),
            "pseudo_labels_per_image": self.pseudo_labels if seen[PSEUDO] else None,
            "unreadable_images": self.unreadable,
        }


def train_step(
    state: TrainState, batch: Batch, objective: Objective, config: TrainConfig
) -> StepReport:
    """Learn from one batch, which may stand on any device. Updates `state` in place."""
    host, batch = batch, batch.to(next(state.model.parameters()).device)
    lr = learning_rate(state.step, config)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    size_hw = (batch.pixels.shape[2], batch.pixels.shape[3])
    targets = objective.targets(batch.labels, size_hw, batch.pixels.device)
    # Autocast around the model only: its outputs are float32, and so are the losses.
    with torch.autocast(batch.pixels.device.type, torch.bfloat16, config.precision == "bf16"):
        outputs = state.model(batch.pixels)
    sums = objective.loss_sums(outputs, targets)
    loss = balanced_loss(sums, batch.origins, batch.is_valid, state.balance)
    state.optimizer.zero_grad(set_to_none=True)
    loss.to_differentiate.backward()  # type: ignore[no-untyped-call]
    norm = gathered(nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm))
    state.optimizer.step()
    state.balance = loss.balance
    state.step += 1
    pseudo = [
        one.amount()
        for one, origin in zip(host.labels, host.origins.tolist(), strict=True)
        if origin == Origin.PSEUDO
    ]
    return StepReport(
        step=state.step,
        lr=lr,
        loss=loss,
        gradient_norm=norm,
        parts=sums.part_means(batch.is_valid),
        pseudo_labels=sum(pseudo) / max(1, len(pseudo)),
        unreadable=int((~host.is_valid).sum()),
    )
