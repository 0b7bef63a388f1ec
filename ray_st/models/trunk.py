"""What every model begins with: normalised pixels, a backbone, a pyramid.

In: a `ModelConfig`. Out: `PixelModel`, the base of all models; the pyramid that the config names.
Next: `retinanet.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from ray_st.models.backbone import Backbone
from ray_st.models.fpn import FPN
from ray_st.models.nasfpn import NASFPN
from ray_st.models.spinenet import SIZES, SpineNet

if TYPE_CHECKING:
    from ray_st.models import ModelConfig

_MEAN_RGB = (123.675, 116.28, 103.53)  # ImageNet's, on 0..255
_STD_RGB = (58.395, 57.12, 57.375)


class PixelModel(nn.Module):
    """A model that takes raw pixels; mean and deviation belong to its weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, levels: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN_RGB).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(_STD_RGB).view(1, 3, 1, 1))
        self.backbone = _backbone(config, levels or config.levels)

    def features(self, pixels: Tensor) -> list[Tensor]:
        """RGB 0..255 (b, 3, h, w) -> the backbone's maps, fine to coarse."""
        maps: list[Tensor] = self.backbone((pixels.float() - self.mean) / self.std)
        return maps

    def pooled(self, pixels: Tensor) -> Float32[Tensor, "b c"]:
        """RGB 0..255 (b, 3, h, w) -> the coarsest map's mean over places.

        Of SpineNet, whose maps are of one width, the mean of all of them.
        """
        maps = self.features(pixels)
        chosen = maps if isinstance(self.backbone, SpineNet) else maps[-1:]
        return torch.stack([x.float().mean(dim=(2, 3)) for x in chosen]).mean(dim=0)


def make_pyramid(config: ModelConfig, in_channels: Sequence[int]) -> nn.Module:
    """Backbone maps -> maps of `config.channels`, one a level of `config.levels`."""
    if config.pyramid == "fpn":
        finest, coarsest = config.levels
        return FPN(in_channels, config.channels, coarsest - finest + 1)
    if config.pyramid == "nasfpn":
        return NASFPN(
            in_channels,
            config.channels,
            config.pyramid_repeats,
            separable=config.separable,
            act=config.activation,
        )
    return nn.Identity()  # SpineNet's maps are a pyramid


def _backbone(config: ModelConfig, levels: tuple[int, int]) -> Backbone | SpineNet:
    if config.backbone not in SIZES:
        return Backbone(config.backbone, levels, config.drop_path)
    return SpineNet(
        SIZES[config.backbone],
        channels=config.channels,
        act=config.activation,
        drop_path=config.drop_path,
    )
