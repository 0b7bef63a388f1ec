"""A batch: what one train step sees of both origins.

In: views (uint8 pixels and labels in view pixels). Out: `Batch`, ready for a device.
The only file of `data` that knows torch. Next: `models`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from ray_st.data.labels import Labels, Origin
from ray_st.data.views import Views


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Views of one size with their labels; those of joint training stand last, in a size of theirs.

    An image that could not be read stands as blank pixels with `is_valid` false: it keeps every
    batch the same length on every worker, and counts for nothing in the loss.
    """

    pixels: UInt8[Tensor, "o 3 h w"]  # RGB 0..255, channels last in memory; all but joint images'
    labels: tuple[Labels, ...]  # one an image, in view pixels
    origins: Int64[Tensor, " b"]  # an `Origin` each
    is_valid: Bool[Tensor, " b"]
    image_ids: Int64[Tensor, " b"]
    joint_pixels: UInt8[Tensor, "j 3 y x"] | None = None  # as `pixels`; o + j = b

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Batch:
        """Move the tensors; labels become tensors only as targets."""
        return replace(
            self,
            pixels=self.pixels.to(device, non_blocking=True),
            joint_pixels=_moved(self.joint_pixels, device),
            origins=self.origins.to(device, non_blocking=True),
            is_valid=self.is_valid.to(device, non_blocking=True),
        )


def _moved(pixels: Tensor | None, device: torch.device) -> Tensor | None:
    return None if pixels is None else pixels.to(device, non_blocking=True)


def collate(
    pixels_hwc: np.ndarray,
    labels: Sequence[Labels],
    *,
    origin: Origin,
    is_valid: np.ndarray,
    image_ids: np.ndarray,
) -> Batch:
    """Stack views of one origin: pixels of shape (b, h, w, 3), uint8."""
    if not pixels_hwc.flags.writeable:  # Arrow's memory, which torch must not hold
        pixels_hwc = pixels_hwc.copy()
    return Batch(
        # A permuted view of HWC memory *is* channels-last, so nothing is reordered.
        pixels=torch.from_numpy(pixels_hwc).permute(0, 3, 1, 2),
        labels=tuple(labels),
        origins=torch.full((len(labels),), int(origin), dtype=torch.int64),
        is_valid=torch.from_numpy(np.array(is_valid, bool)),
        image_ids=torch.from_numpy(np.array(image_ids, np.int64)),
    )


def of_views(views: Views, origin: Origin) -> Batch:
    """Stack training views, which are of one origin."""
    return collate(
        views.pixels,
        views.labels,
        origin=origin,
        is_valid=views.is_valid,
        image_ids=views.image_ids,
    )


def paired(human: Batch, pseudo: Batch) -> Batch:
    """Join the human and the pseudo half of a step, so that one forward sees both."""
    pixels = torch.cat([human.pixels, pseudo.pixels])
    return _joined(human, pseudo, pixels.contiguous(memory_format=torch.channels_last), None)


def with_joint(batch: Batch, joint: Batch) -> Batch:
    """Add the classified images of a step, `joint`, behind all others."""
    return _joined(batch, joint, batch.pixels, joint.pixels)


def _joined(first: Batch, second: Batch, pixels: Tensor, joint_pixels: Tensor | None) -> Batch:
    return Batch(
        pixels=pixels,
        joint_pixels=joint_pixels,
        labels=first.labels + second.labels,
        origins=torch.cat([first.origins, second.origins]),
        is_valid=torch.cat([first.is_valid, second.is_valid]),
        image_ids=torch.cat([first.image_ids, second.image_ids]),
    )


def without_joint(batch: Batch) -> Batch:
    """Leave the classified images of a step out."""
    own = len(batch.pixels)
    return Batch(
        pixels=batch.pixels,
        labels=batch.labels[:own],
        origins=batch.origins[:own],
        is_valid=batch.is_valid[:own],
        image_ids=batch.image_ids[:own],
    )


def in_parts(batch: Batch, count: int) -> list[Batch]:
    """Cut a step's images into parts, each with its share of every origin, as equal as can be."""
    places = [torch.nonzero(batch.origins == int(origin)).flatten() for origin in Origin]
    shares = zip(*(each.tensor_split(count) for each in places if len(each)), strict=True)
    return [_taken(batch, torch.cat(share)) for share in shares]


def _taken(batch: Batch, places: Int64[Tensor, " n"]) -> Batch:
    own = len(batch.pixels)
    joint = batch.joint_pixels
    return Batch(
        pixels=_rows(batch.pixels, places[places < own]),
        joint_pixels=None if joint is None else _rows(joint, places[places >= own] - own),
        labels=tuple(batch.labels[place] for place in places.tolist()),
        origins=batch.origins[places],
        is_valid=batch.is_valid[places],
        image_ids=batch.image_ids[places],
    )


def _rows(pixels: Tensor, places: Int64[Tensor, " n"]) -> Tensor:
    """Take images as rows of HWC memory, so that a part is channels-last as the whole is."""
    return pixels.permute(0, 2, 3, 1)[places].permute(0, 3, 1, 2)
