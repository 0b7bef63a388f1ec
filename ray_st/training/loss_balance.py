"""The heart of the method: two losses, one step, and neither drowns the other.

In: per-image loss sums of a batch that holds both origins. Out: one scalar to differentiate, the
global figures for the log, and the moving averages, moved on. Next: `joint.py`.

    L = (L_h + alpha * (mean_h / mean_p) * L_p) / (1 + alpha)

L_h and L_p are the losses of the human and the pseudo images of the *global* batch; mean_h and
mean_p are their moving averages, taken as constants. Source: "Rethinking Pre-training and
Self-training", section on loss normalisation; decay and start of the averages are our choice.

Joint training adds a third term of the same form, of classified images with a weight w:

    L = (L_h + alpha * (mean_h / mean_p) * L_p + w * (mean_h / mean_j) * L_j) / (1 + alpha + w)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ray_st.data.labels import Origin
from ray_st.tasks.task import LossSums

HUMAN, PSEUDO, JOINT = int(Origin.HUMAN), int(Origin.PSEUDO), int(Origin.JOINT)

# Under this a mean loss is noise, and dividing by it would be an overflow.
_SMALLEST_MEAN = 1e-12
SMALLEST_COUNT = 1e-12  # of images that are all unreadable


@dataclass(frozen=True, kw_only=True, eq=False)
class LossBalance:
    """How the two losses are weighed, with the moving averages so far.

    A value: every step returns the next one, so saving and resuming is saving and passing it.
    `totals` and `weights` are the parts of a bias-corrected average, an entry an `Origin`: the
    first batch stands as it is, and its weight fades as others come. There are two origins, or
    three in joint training.
    """

    shares: tuple[float, ...]  # weight of each origin's loss: 1, alpha, and that of joint images
    normalised: bool  # False: the plain sum L_h + alpha * L_p, for comparison
    decay: float  # of the moving averages, 0..1 a step
    totals: Float[Tensor, " o"]
    weights: Float[Tensor, " o"]

    @classmethod
    def start(
        cls,
        *,
        alpha: float,
        normalised: bool,
        decay: float,
        joint: float | None = None,
        device: torch.device | str = "cpu",
    ) -> LossBalance:
        """Begin with empty averages; `joint` is the weight of the joint loss, where there is one.

        Weights are 0 or more.
        """
        shares = (1.0, alpha) if joint is None else (1.0, alpha, joint)
        empty = torch.zeros(len(shares), device=device)
        return cls(shares=shares, normalised=normalised, decay=decay, totals=empty, weights=empty)

    @property
    def means(self) -> Float[Tensor, " o"]:
        """Moving averages of each origin's loss; 0 for an origin never seen."""
        return self.totals / self.weights.clamp_min(_SMALLEST_MEAN)

    def knows(self, origins: Collection[int]) -> bool:
        """Whether these origins have an average above 0 to divide by; waits for the device.

        An origin without a label so far was seen, and its mean is 0.
        """
        return bool((self.means[[*origins]] > 0).all())

    def updated(self, losses: Float[Tensor, " o"], seen: Bool[Tensor, " o"]) -> LossBalance:
        """Move the averages by one step; an origin without an image in it keeps its own."""
        totals = self.decay * self.totals + (1 - self.decay) * losses
        weights = self.decay * self.weights + (1 - self.decay)
        return replace(
            self,
            totals=torch.where(seen, totals, self.totals),
            weights=torch.where(seen, weights, self.weights),
        )

    def factors(self, seen: Bool[Tensor, " o"]) -> Float[Tensor, " o"]:
        """What each origin's loss is multiplied by, constants of the step.

        With one origin missing from the whole global batch, the normalised form gives the others
        its place, so that the size of a step never jumps.
        """
        shares = torch.tensor(self.shares, device=seen.device)
        if not self.normalised:
            return shares
        shares = shares * seen
        return shares / shares.sum().clamp_min(_SMALLEST_MEAN) * self.ratios

    @property
    def ratios(self) -> Float[Tensor, " o"]:
        """mean_h over each origin's own mean; 1 where one of the two is not known."""
        means = self.means.clamp_min(_SMALLEST_MEAN)
        known = (self.weights > 0) & (self.weights[HUMAN] > 0)
        known[HUMAN] = False  # 1 by definition, even where the mean is no number
        return torch.where(known, means[HUMAN] / means, 1.0)

    def state_dict(self) -> dict[str, list[float]]:
        """The averages as plain numbers, exact in JSON."""
        return {"totals": self.totals.tolist(), "weights": self.weights.tolist()}

    def resumed(self, state: dict[str, list[float]]) -> LossBalance:
        """Go on from saved averages."""
        device = self.totals.device
        return replace(
            self,
            totals=torch.tensor(state["totals"], device=device),
            weights=torch.tensor(state["weights"], device=device),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class BalancedLoss:
    """One step's loss, and what it was made of."""

    to_differentiate: Float[Tensor, ""]  # this worker's share; DDP's averaging makes it the whole
    total: Float[Tensor, ""]  # L of the global batch, equal on all workers
    losses: Float[Tensor, " o"]  # each origin's loss in the global batch, before weighing
    seen: Bool[Tensor, " o"]  # whether the global batch held an image of the origin
    ratio: Float[Tensor, ""]  # mean_h / mean_p, as it weighed this step's pseudo loss
    balance: LossBalance  # for the next step


def balanced_loss(
    sums: LossSums,
    origins: Int64[Tensor, " b"],
    is_valid: Bool[Tensor, " b"],
    balance: LossBalance,
) -> BalancedLoss:
    """Weigh the two losses of a global batch; the same on 1 worker or N.

    Each worker passes its own images. One all-reduce of three numbers an origin makes the counts,
    and so the normalisers and the averages, those of the global batch: a worker with few boxes in
    its half counts for little, as it would in one process.
    """
    member = members(origins, is_valid, len(balance.shares))
    local, counts = of_each(sums.sums, member), of_each(sums.counts, member)
    world = torch.cat([local.detach(), counts, member.sum(dim=1).float()])
    num_workers = over_workers(world)
    global_sums, global_counts, images = world.chunk(3)
    normaliser = normalisers(global_counts, sums.count_offset)
    losses, seen = global_sums / normaliser, images > 0
    balance = balance.updated(losses, seen)
    factors = balance.factors(seen)
    return BalancedLoss(
        to_differentiate=num_workers * (factors * local / normaliser).sum(),
        total=(factors * losses).sum(),
        losses=losses,
        seen=seen,
        ratio=balance.ratios[PSEUDO],
        balance=balance,
    )


def normalisers(counts: Float[Tensor, " o"], count_offset: float) -> Float[Tensor, " o"]:
    """What each origin's sum is divided by; joint images are of another loss, without an offset."""
    offsets = torch.full_like(counts, count_offset)
    offsets[JOINT:] = 0.0
    return (counts + offsets).clamp_min(SMALLEST_COUNT)


def members(
    origins: Int64[Tensor, " b"], is_valid: Bool[Tensor, " b"], count: int
) -> Bool[Tensor, "o b"]:
    """Which images are of each of the first `count` origins, of those that could be read."""
    return torch.stack([(origins == kind) & is_valid for kind in range(count)])


def of_each(values: Tensor, member: Bool[Tensor, "o b"]) -> Float[Tensor, " o"]:
    """Add up a value an image, for each origin."""
    # `where` and not a product: a blank image's loss may be anything, NaN too.
    return torch.where(member, values.float(), 0.0).sum(dim=1)


def over_workers(values: Tensor) -> int:
    """Add up over all workers, in place; returns how many these are."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    dist.all_reduce(values)
    return dist.get_world_size()
