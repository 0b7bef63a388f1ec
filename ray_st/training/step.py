"""One step: gradient, clip, move, unless its numbers went bad.

In: `TrainState` and a `Batch`. Out: the state moved on and a `StepReport`, most of it still on the
device, so that nothing waits for it. Next: `due.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ray_st.data.batches import Batch
from ray_st.data.labels import Origin
from ray_st.tasks.task import Objective
from ray_st.training.accumulation import gradient_in_parts
from ray_st.training.averaging import Average, averaged
from ray_st.training.gradient import gradient
from ray_st.training.guard import Skipped, Statistics
from ray_st.training.loss_balance import HUMAN, JOINT, PSEUDO, BalancedLoss, LossBalance
from ray_st.training.rate import learning_rate
from ray_st.training.schedule import TrainConfig
from ray_st.training.sharding import gathered
from ray_st.training.trail import Trail
from ray_st.training.trainable import bare, make_optimizer, unwrapped


@dataclass(kw_only=True)
class TrainState:
    """All that a step changes."""

    model: nn.Module  # perhaps wrapped by DDP, perhaps compiled
    optimizer: torch.optim.Optimizer
    balance: LossBalance
    step: int  # steps done
    average: Average | None = None  # of the weights, where one is asked for
    skipped: Skipped = field(default_factory=Skipped)  # of the steps done
    trail: Trail = field(default_factory=Trail)  # of their images
    statistics: Statistics = field(init=False)  # as they stood before the last step

    def __post_init__(self) -> None:
        self.statistics = Statistics(self.model)

    @classmethod
    def fresh(cls, model: nn.Module, config: TrainConfig, device: torch.device | str) -> TrainState:
        """Before the first step of a model that stands on `device`, wrapped or not."""
        balance = LossBalance.start(
            alpha=config.alpha,
            normalised=config.loss == "normalised",
            decay=config.mean_decay,
            joint=config.joint.weight if config.joint.is_on else None,
            device=device,
        )
        return cls(
            model=model,
            optimizer=make_optimizer(unwrapped(model), config),
            balance=balance,
            step=0,
            average=averaged(bare(model), config),
        )

    @property
    def trained(self) -> nn.Module:
        """What is validated and saved: the averaged weights, or else the last ones."""
        return bare(self.model) if self.average is None else self.average.model


@dataclass(frozen=True, kw_only=True, eq=False)
class StepReport:
    """What one step did; tensors, read only when a line is logged."""

    step: int  # the step's number, from 1
    lr: float
    loss: BalancedLoss
    gradient_norm: Float[Tensor, ""]  # before clipping
    parts: Mapping[str, Float[Tensor, ""]]  # of the loss, from this worker's images
    pseudo_labels: float  # `Labels.amount` an image in the pseudo half of this worker
    pseudo_empty: float | None  # share of that half that has no label; None without a half
    unreadable: int  # images of this worker that could not be read
    skipped: Skipped  # this step among them, if its numbers went bad

    def as_row(self) -> dict[str, Any]:
        """Plain numbers for metrics.jsonl; None where an origin has no image."""
        seen = self.loss.seen.tolist()
        losses, means = self.loss.losses.tolist(), self.loss.balance.means.tolist()
        has_ratio = seen[HUMAN] and seen[PSEUDO] and means[PSEUDO] > 0
        row = {
            "step": self.step,
            "loss": float(self.loss.total),
            "loss_human": losses[HUMAN] if seen[HUMAN] else None,
            "loss_pseudo": losses[PSEUDO] if seen[PSEUDO] else None,
            "mean_human": means[HUMAN] if seen[HUMAN] else None,
            "mean_pseudo": means[PSEUDO] if seen[PSEUDO] else None,
            "ratio": float(self.loss.ratio) if has_ratio else None,
            "parts": {name: float(value) for name, value in self.parts.items()},
            "lr": self.lr,
            "gradient_norm": float(self.gradient_norm),
            "pseudo_labels_per_image": self.pseudo_labels if seen[PSEUDO] else None,
            "pseudo_empty_share": self.pseudo_empty,
            "unreadable_images": self.unreadable,
            "skipped_steps": self.skipped.total,
        }
        if len(seen) > JOINT:
            row["loss_joint"] = losses[JOINT] if seen[JOINT] else None
            row["mean_joint"] = means[JOINT] if seen[JOINT] else None
        return row


def train_step(
    state: TrainState, batch: Batch, objective: Objective, config: TrainConfig
) -> StepReport:
    """Learn from one batch, which may stand on any device. Updates `state` in place.

    A step whose loss or gradient is no finite number counts as a step and changes nothing else.
    Both are the same bits on all workers, so that all decide alike.
    """
    lr = learning_rate(state.step, config)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.statistics.keep()
    state.optimizer.zero_grad(set_to_none=True)
    learn = gradient if config.accumulate == 1 else gradient_in_parts
    learned = learn(state.model, batch, objective, state.balance, config)
    norm = gathered(nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm))
    loss = _moved(state, learned.loss, norm)
    state.trail.add(state.step, batch.image_ids.cpu(), batch.origins.cpu())
    pseudo = [
        one.amount()
        for one, origin in zip(batch.labels, batch.origins.tolist(), strict=True)
        if origin == Origin.PSEUDO
    ]
    return StepReport(
        step=state.step,
        lr=lr,
        loss=loss,
        gradient_norm=norm,
        parts=learned.parts,
        pseudo_labels=sum(pseudo) / max(1, len(pseudo)),
        pseudo_empty=pseudo.count(0.0) / len(pseudo) if pseudo else None,
        unreadable=int((~batch.is_valid).sum()),
        skipped=state.skipped,
    )


def _moved(state: TrainState, loss: BalancedLoss, norm: Tensor) -> BalancedLoss:
    """Make the step, or undo what its forward pass did; returns the loss with the averages then."""
    # The one place where the host waits for the device.
    is_finite = math.isfinite(float(norm)) and math.isfinite(float(loss.total))
    state.step += 1
    state.skipped = state.skipped.after(is_finite=is_finite)
    if not is_finite:
        state.statistics.restore()
        return replace(loss, balance=state.balance, ratio=state.balance.ratios[PSEUDO])
    state.optimizer.step()
    state.balance = loss.balance
    if state.average is not None:
        state.average.update(state.step)
    return loss
