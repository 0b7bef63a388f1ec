"""What a task is: the few places in which detection, segmentation and classification differ.

In: model outputs and labels. Out: targets, loss sums, predictions, metrics. Labelling, training,
sweeping and reporting hold a `Task` and never ask which. Next: `anchors.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ray_st.data.labels import Labels
from ray_st.data.placed import fitted_hw

_SMALLEST_COUNT = 1e-12  # of images that are all unreadable


@dataclass(frozen=True, kw_only=True, eq=False)
class LossSums:
    """Loss as a sum and a count per image; whoever knows the global batch divides.

    The loss of a set of images is sum(sums) / (sum(counts) + count_offset).
    """

    sums: Float[Tensor, " b"]  # weighted total, with gradient
    counts: Float[Tensor, " b"]  # what normalises it: positives, pixels or images
    parts: Mapping[str, Float[Tensor, " b"]]  # terms of `sums` or shares, detached, for the log
    count_offset: float  # added once to the global count (detection: 1, as in the paper's code)

    def detached(self) -> LossSums:
        """The same numbers without a gradient, and so without what is kept for one."""
        return replace(self, sums=self.sums.detach())

    @classmethod
    def joined(cls, some: Sequence[LossSums]) -> LossSums:
        """The images of several, one after the other; all of one task."""
        return cls(
            sums=torch.cat([each.sums for each in some]),
            counts=torch.cat([each.counts for each in some]),
            parts={name: torch.cat([each.parts[name] for each in some]) for name in some[0].parts},
            count_offset=some[0].count_offset,
        )

    def part_means(self, is_valid: Bool[Tensor, " b"]) -> dict[str, Float[Tensor, ""]]:
        """Each part over this worker's images that could be read, normalised as the loss is."""
        count = torch.where(is_valid, self.counts.float(), 0.0).sum() + self.count_offset
        return {
            name: torch.where(is_valid, part.float(), 0.0).sum() / count.clamp_min(_SMALLEST_COUNT)
            for name, part in self.parts.items()
        }


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How the images of a batch lie in one view of each: top left, the rest is padding."""

    side_px: int  # of the square views
    areas_hw: tuple[tuple[int, int], ...]  # what each image fills of its view
    is_mirrored: bool = False  # the images within their areas, left to right

    @classmethod
    def of(cls, sizes_hw: Sequence[tuple[int, int]], side_px: int) -> Shown:
        """Fitted views of source images of these sizes."""
        areas_hw = tuple(fitted_hw(size_hw, side_px) for size_hw in sizes_hw)
        return cls(side_px=side_px, areas_hw=areas_hw)

    def mirrored(self) -> Shown:
        """Say the same of views whose images are mirrored."""
        return replace(self, is_mirrored=not self.is_mirrored)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of a view."""
        return self.side_px, self.side_px


@runtime_checkable
class Objective(Protocol):
    """What a train step needs: something to lower."""

    def targets(self, labels: Sequence[Any], size_hw: tuple[int, int], device: Any) -> Any:
        """Labels in view pixels -> what `loss_sums` compares outputs with."""

    def loss_sums(self, outputs: Any, targets: Any) -> LossSums:
        """Outputs and targets -> a sum and a count per image."""


@runtime_checkable
class Countable(Objective, Protocol):
    """An `Objective` whose counts are known before its loss is, so that a step may have parts."""

    def counts(self, outputs: Any, targets: Any) -> Float[Tensor, " b"]:
        """Counts of the `LossSums` of these targets, without their loss.

        They depend on targets alone: of `outputs` only the form is looked at, so that outputs of
        any images in views of this size will do.
        """


@runtime_checkable
class Task(Countable, Protocol):
    """One kind of label, from model outputs to the metric."""

    name: str
    kind: type[Labels]
    figures: tuple[
        str, ...
    ]  # keys of `metrics` to look at; the first ranks models, higher is better

    def predictions(self, outputs: Any, size_hw: tuple[int, int]) -> list[Any]:
        """Outputs -> raw labels of `kind` in view pixels, a low floor applied at most."""

    def merged(self, views: Iterable[tuple[Any, Shown]]) -> list[Any]:
        """Outputs of several views of the same images -> one `predictions` from all of them.

        Labels are in pixels of the first view, which is the largest and not mirrored. `views` may
        be an iterator that runs the model: what need not be held of an output is let go.
        """

    def metrics(
        self, truths: pa.Table, predictions: pa.Table, classes: Sequence[str]
    ) -> dict[str, float]:
        """LABEL_ROWs of the same images -> named figures, 0..100; one a class is FIGURE/CLASS."""

    def agreement(self, truths: pa.Table, labels: pa.Table) -> tuple[float, float]:
        """Precision and recall, 0..1, where the truth is known; NaN for a share of nothing."""
