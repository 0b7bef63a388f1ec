"""SimCLR: two views of one image are to be alike, and unlike the views of all other images.

In: projections of a batch whose first half shows some images and whose second half shows the same
ones again, in the same order. Out: `LossSums`, an anchor a view. Labels name the image, so that
every image is a class of its own. Source: "A Simple Framework for Contrastive Learning of Visual
Representations" (Chen et al., 2020), NT-Xent. Next: `ray_st/labeling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float32, Int64
from torch import Tensor

from ray_st.config import require
from ray_st.data.labels import ClassLabel
from ray_st.tasks.task import LossSums

_UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig:
    """How views are compared."""

    temperature: float = 0.1
    """What cosines are divided by; the lower, the more the hardest negatives count."""
    projection: int = 128
    """Numbers of a projection, which is compared and then thrown away."""

    def __post_init__(self) -> None:
        require(self.temperature > 0, "simclr.temperature", "above 0", self.temperature)
        require(self.projection >= 1, "simclr.projection", "at least 1", self.projection)


@dataclass(frozen=True, kw_only=True)
class SimCLR:
    """An `Objective`: nothing is labelled, so there is nothing to predict or to measure."""

    temperature: float

    def targets(
        self, labels: Sequence[ClassLabel], size_hw: tuple[int, int], device: torch.device
    ) -> Int64[Tensor, " b"]:
        """Which image each view shows; -1 where it could not be read."""
        del size_hw
        shown = [one.top_class_ids[0] if one.amount() else _UNKNOWN for one in labels]
        return torch.tensor(shown, dtype=torch.int64, device=device)

    def loss_sums(self, outputs: Float32[Tensor, "b d"], targets: Int64[Tensor, " b"]) -> LossSums:
        """Cross entropy of each view's twin among the views of all workers' other images.

        The mean over all anchors is NT-Xent. A view of which one of the two could not be read is
        no anchor and no negative, nor are an image's own views from elsewhere in the batch.
        """
        half = len(targets) // 2
        is_pair = (targets == targets.roll(half)) & (targets != _UNKNOWN)
        targets = torch.where(is_pair, targets, _UNKNOWN)
        views = F.normalize(outputs, dim=1)
        all_views, all_targets = gathered(views), gathered(targets)
        is_negative = (all_targets != targets[:, None]) & (all_targets != _UNKNOWN)
        negatives = (views @ all_views.T / self.temperature).masked_fill(~is_negative, -torch.inf)
        twin = (views * views.roll(half, dims=0)).sum(dim=1) / self.temperature
        loss = torch.cat([twin[:, None], negatives], dim=1).logsumexp(dim=1) - twin
        is_nearest = twin > negatives.amax(dim=1)
        return LossSums(
            sums=torch.where(is_pair, loss, 0.0),
            counts=is_pair.float(),
            parts={"accuracy": (is_pair & is_nearest).float()},
            count_offset=0.0,
        )


def gathered(rows: Tensor) -> Tensor:
    """Rows of all workers, in the order of their ranks; gradients find their way back.

    Every worker must bring the same number of rows.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    everyone: Tensor = _Gathered.apply(rows)
    return everyone


class _Gathered(torch.autograd.Function):
    """`all_gather` with a gradient; PyTorch deprecates its own."""

    @staticmethod
    def forward(_: Any, rows: Tensor) -> Tensor:
        everyone = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(everyone, rows.contiguous())
        return torch.cat(everyone)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        # A row is a negative of every worker's anchors: all of them pull at it.
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
