"""The gradient of one step in several parts, for batches that do not fit into memory at once.

In: what `gradient.py` takes. Out: the same gradient, and `Learned`. Next: `trail.py`.

A part's graph is let go before the next part is looked at, so what its loss is multiplied by must
be known before the losses of the others are. The normalisers depend on targets alone. The ratio
mean_h / mean_p is that of the steps before; a step without any before it runs all its parts forward
once more, first of all, so that its gradient too is exactly that of one part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ray_st.data.batches import Batch, in_parts
from ray_st.tasks.task import Countable, LossSums, Objective
from ray_st.training.gradient import Learned, device_of, outputs_of, targets_of
from ray_st.training.guard import untouched
from ray_st.training.loss_balance import (
    PSEUDO,
    LossBalance,
    balanced_loss,
    members,
    normalisers,
    of_each,
    over_workers,
)
from ray_st.training.schedule import TrainConfig
from ray_st.training.trainable import synchronised, unwrapped


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """What each origin's loss sum of a global batch is multiplied by, known before any is."""

    factors: Float[Tensor, " o"]
    normaliser: Float[Tensor, " o"]
    num_workers: int

    @classmethod
    def of(
        cls,
        counts: Float[Tensor, " b"],
        count_offset: float,
        origins: Int64[Tensor, " b"],
        is_valid: Bool[Tensor, " b"],
        balance: LossBalance,
    ) -> Scale:
        """From the counts of this worker's images of all parts; `balance` gives the ratio."""
        member = members(origins, is_valid, len(balance.shares))
        world = torch.cat([of_each(counts, member), member.sum(dim=1).float()])
        num_workers = over_workers(world)
        global_counts, images = world.chunk(2)
        return cls(
            factors=balance.factors(images > 0),
            normaliser=normalisers(global_counts, count_offset),
            num_workers=num_workers,
        )

    def to_differentiate(self, sums: LossSums, part: Batch) -> Float[Tensor, ""]:
        """One part's share of the loss, as `BalancedLoss` has it of the whole."""
        local = of_each(sums.sums, members(part.origins, part.is_valid, len(self.factors)))
        return self.num_workers * (self.factors * local / self.normaliser).sum()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Parts:
    """One worker's share of a step, cut and on the device."""

    batches: Sequence[Batch]
    targets: Sequence[Any]

    @property
    def origins(self) -> Int64[Tensor, " b"]:
        return torch.cat([part.origins for part in self.batches])

    @property
    def is_valid(self) -> Bool[Tensor, " b"]:
        return torch.cat([part.is_valid for part in self.batches])

    def learned(self, some: Sequence[LossSums], balance: LossBalance) -> Learned:
        """What one part would have found, from the sums of all."""
        sums = LossSums.joined(some)
        loss = balanced_loss(sums, self.origins, self.is_valid, balance)
        return Learned.of(loss, sums, self.origins, self.is_valid)


def gradient_in_parts(
    model: nn.Module, batch: Batch, objective: Objective, balance: LossBalance, config: TrainConfig
) -> Learned:
    """Do what `gradient` does, in `config.accumulate` parts; BatchNorms see one at a time.

    The loss and the ratio that are told are those that were differentiated; the averages are those
    that one part would leave.
    """
    assert isinstance(objective, Countable), "the rehearsal lets no other objective come here"
    device = device_of(model)
    batches = [part.to(device) for part in in_parts(batch, config.accumulate)]
    parts = _Parts(batches=batches, targets=[targets_of(part, objective) for part in batches])
    # Of one origin alone there is no ratio to know.
    origins, known = {*batch.origins.tolist()}, balance
    if balance.normalised and len(origins) > 1 and not balance.knows(origins):
        known = _foreseen(unwrapped(model), parts, objective, balance, config)
    scale, some = None, []
    for part, targets in zip(parts.batches, parts.targets, strict=True):
        with synchronised(model, only_if=part is parts.batches[-1]):
            outputs = outputs_of(model, part, config)
            sums = objective.loss_sums(outputs, targets)
            if scale is None:
                counts = torch.cat([objective.counts(outputs, each) for each in parts.targets])
                scale = Scale.of(counts, sums.count_offset, parts.origins, parts.is_valid, known)
            scale.to_differentiate(sums, part).backward()  # type: ignore[no-untyped-call]
        some.append(sums.detached())
    assert scale is not None, "a step has a part"
    found = parts.learned(some, balance)
    total = (scale.factors * found.loss.losses).sum()
    loss = replace(found.loss, total=total, ratio=known.ratios[PSEUDO])
    return replace(found, loss=loss)


@torch.no_grad()
def _foreseen(
    model: nn.Module, parts: _Parts, objective: Objective, balance: LossBalance, config: TrainConfig
) -> LossBalance:
    """The averages as this step will leave them; the model and the random numbers stay."""
    with untouched(model):
        some = [
            objective.loss_sums(outputs_of(model, part, config), targets)
            for part, targets in zip(parts.batches, parts.targets, strict=True)
        ]
    return parts.learned(some, balance).loss.balance
