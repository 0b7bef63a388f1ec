"""Segmentation: raw pixels in, class logits of every fourth pixel out.

Source: paper.md 5.9, the authors' segmentation_model.py. Next: `classifier.py`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from ray_st.models.layers import activation, level_size, normal
from ray_st.models.trunk import PixelModel, make_pyramid

if TYPE_CHECKING:
    from ray_st.models import ModelConfig

LEVEL = 2  # of the logits: stride 4


class Segmenter(PixelModel):
    """All pyramid levels, brought to stride 4 and summed; convolutions; a 1x1 to the classes."""

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__(config)
        self.pyramid = make_pyramid(config, self.backbone.channels)
        width = config.head_channels or config.channels
        fans = [config.channels, *[width] * config.head_convs]
        self.convs = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(fan_in, fan_out, 3, padding=1),
                    nn.BatchNorm2d(fan_out),
                    activation(config.activation),
                )
                for fan_in, fan_out in pairwise(fans)
            )
        )
        self.predict = nn.Conv2d(fans[-1], num_classes, 1)
        for module in self.convs.modules():
            if isinstance(module, nn.Conv2d):
                normal(module, std=0.01)
        normal(self.predict, std=0.01)

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"]) -> Float32[Tensor, "b k h4 w4"]:
        """RGB 0..255 of any size -> logits of ceil(h / 4) x ceil(w / 4), autocast or not."""
        size_hw = level_size(pixels, LEVEL)
        first, *others = (
            F.interpolate(x, size=size_hw, mode="bilinear", align_corners=False)
            for x in self.pyramid(self.features(pixels))
        )
        for x in others:
            first = first + x
        return self.predict(self.convs(first)).float()  # type: ignore[no-any-return]
