"""Segmentation as a task: logits at stride 4 to loss sums, to class maps, and maps to mIoU.

In: logits of the model, `SegmentationMap` in view pixels. Out: `LossSums`, maps, metrics.
Source: paper.md 5.9. Next: `mean_iou.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from ray_st.config import UserError
from ray_st.data.labels import IGNORE, Labels, SegmentationMap
from ray_st.tasks.mean_iou import confusion, iou_figures
from ray_st.tasks.soft_targets import SoftMaps, soft_cost
from ray_st.tasks.task import LossSums, Shown


@dataclass(kw_only=True, eq=False)
class Segmentation:
    """The `Task` of a model that gives class logits on a grid."""

    num_classes: int
    name: str = field(default="segmentation", init=False)
    kind: type[Labels] = field(default=SegmentationMap, init=False)
    figures: tuple[str, ...] = field(default=("mIoU", "pixel_accuracy"), init=False)

    def targets(
        self, labels: Sequence[SegmentationMap], size_hw: tuple[int, int], device: torch.device
    ) -> UInt8[Tensor, "b h w"] | SoftMaps:
        """Stack the maps of a batch; of an image without one every pixel is ignored.

        With a soft label among them, the confidences come too.
        """
        maps = np.full((len(labels), *size_hw), IGNORE, np.uint8)
        for i, one in enumerate(labels):
            if one.class_map.size:
                maps[i] = one.class_map
        counted = maps[maps != IGNORE]
        if counted.size and counted.max() >= self.num_classes:
            raise UserError(
                f"data.classes: class ids must be 0..{self.num_classes - 1} or {IGNORE}, got "
                f"{counted.max()}; give the class list of these labels"
            )
        stacked = torch.from_numpy(maps).to(device, non_blocking=True)
        return SoftMaps.of(stacked, labels) if any(one.is_soft for one in labels) else stacked

    def loss_sums(
        self, outputs: Float32[Tensor, "b k h w"], targets: UInt8[Tensor, "b y x"] | SoftMaps
    ) -> LossSums:
        """Cross entropy summed over each image's pixels that count; counts are those pixels.

        Labels come down to the logits' grid by nearest pixel. (The authors' code brings them down
        bilinearly, which mixes class ids; and ours stays exact.)
        """
        if isinstance(targets, SoftMaps):
            grid = _on_grid(targets.class_map, outputs)
            cost = soft_cost(outputs, grid, _on_grid(targets.confidence, outputs))
        else:
            grid = _on_grid(targets, outputs)
            cost = F.cross_entropy(outputs, grid, ignore_index=IGNORE, reduction="none")
        sums = cost.sum(dim=(1, 2))
        return LossSums(
            sums=sums,
            counts=_counted(grid),
            parts={"class": sums.detach()},
            count_offset=0.0,
        )

    def counts(
        self, outputs: Float32[Tensor, "_ k h w"], targets: UInt8[Tensor, "b y x"] | SoftMaps
    ) -> Float32[Tensor, " b"]:
        """Pixels of the logits' grid that have a class."""
        maps = targets.class_map if isinstance(targets, SoftMaps) else targets
        return _counted(_on_grid(maps, outputs))

    @torch.no_grad()
    def predictions(
        self, outputs: Float32[Tensor, "b k h w"], size_hw: tuple[int, int]
    ) -> list[SegmentationMap]:
        """The likeliest class of every pixel of the view, and its probability."""
        maps = []
        for logits in outputs:  # one by one: at full size the logits of a batch are gigabytes
            full = F.interpolate(logits[None], size=size_hw, mode="bilinear", align_corners=False)
            best, class_map = full[0].max(dim=0)
            # The softmax of the best alone, without the tensor of all the others.
            probability = torch.exp(best - full[0].logsumexp(dim=0))
            maps.append(
                SegmentationMap(
                    class_map=class_map.to(torch.uint8).cpu().numpy(),
                    confidence=(probability * 255).to(torch.uint8).cpu().numpy(),
                )
            )
        return maps

    @torch.no_grad()
    def merged(
        self, views: Iterable[tuple[Float32[Tensor, "b k h w"], Shown]]
    ) -> list[SegmentationMap]:
        """The class of the highest mean probability of every pixel, and that mean.

        Padding is IGNORE. The outputs of all views are held, at a fourth of their sides; at full
        size those of one image at a time.
        """
        seen = list(views)
        first = seen[0][1]
        maps = []
        for i, area_hw in enumerate(first.areas_hw):
            total = sum(_probabilities(logits[i], shown, i, area_hw) for logits, shown in seen)
            assert isinstance(total, Tensor), "an image is looked at once or more"
            best, class_map = (total / len(seen)).max(dim=0)
            maps.append(
                SegmentationMap(
                    class_map=_padded(class_map, first.side_px, IGNORE),
                    confidence=_padded(best * 255, first.side_px, 0),
                )
            )
        return maps

    def metrics(
        self, truths: pa.Table, predictions: pa.Table, classes: Sequence[str]
    ) -> dict[str, float]:
        """mIoU, pixel accuracy and IoU/<class>, 0..100; see `iou_figures`."""
        return iou_figures(confusion(truths, predictions, len(classes)), classes)

    def agreement(self, truths: pa.Table, labels: pa.Table) -> tuple[float, float]:
        """Share of labelled pixels that are right, and of true ones that are labelled rightly."""
        counts = confusion(truths, labels, self.num_classes)
        right = float(np.trace(counts))
        labelled, true = float(counts[:, :-1].sum()), float(counts.sum())
        return (
            right / labelled if labelled else float("nan"),
            right / true if true else float("nan"),
        )


def _on_grid(plane: UInt8[Tensor, "b y x"], outputs: Tensor) -> Int64[Tensor, "b h w"]:
    grid = F.interpolate(plane[:, None], size=outputs.shape[2:], mode="nearest-exact")
    return grid[:, 0].long()


def _counted(grid: Int64[Tensor, "b h w"]) -> Float32[Tensor, " b"]:
    return (grid != IGNORE).sum(dim=(1, 2)).float()


def _probabilities(
    logits: Tensor, shown: Shown, image: int, area_hw: tuple[int, int]
) -> Float32[Tensor, "k h w"]:
    """Class probabilities of an image's own area, upright, at another size than in this view."""
    height, width = shown.areas_hw[image]
    full = F.interpolate(logits[None], size=shown.size_hw, mode="bilinear", align_corners=False)
    # Cut before it is resized once more: padding has no say at the image's border.
    full = full[..., :height, :width]
    if shown.is_mirrored:
        full = full.flip(3)
    if area_hw != (height, width):
        full = F.interpolate(full, size=area_hw, mode="bilinear", align_corners=False)
    return torch.exp(full[0] - full[0].logsumexp(dim=0))


def _padded(values: Tensor, side_px: int, padding: int) -> np.ndarray:
    """Put what is known of an image into its view, as bytes."""
    view = np.full((side_px, side_px), padding, np.uint8)
    view[: values.shape[0], : values.shape[1]] = values.to(torch.uint8).cpu().numpy()
    return view
