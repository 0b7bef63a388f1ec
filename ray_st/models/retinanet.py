"""RetinaNet: raw pixels in, class logits and box codes of every anchor out.

Source: paper.md 5.1, the authors' heads.py. Next: `segmenter.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from ray_st.models.layers import activation, normal
from ray_st.models.trunk import PixelModel, make_pyramid

if TYPE_CHECKING:
    from ray_st.models import ModelConfig

ANCHORS_PER_LOCATION = 9  # 3 scales x 3 ratios; `ray_st/tasks/anchors.py` says which
_PRIOR_LOGIT = -math.log(99)  # every class starts at probability 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    """What the head says of each anchor, levels fine to coarse, then rows, columns, shapes.

    There is no background slot: one logit a class, each its own yes or no. (The paper's code has
    91 slots for the 80 classes of COCO, ids and background included; the unused never matter.)
    """

    class_logits: Float32[Tensor, "b a k"]
    box_codes: Float32[Tensor, "b a 4"]  # dx / anchor width, dy / anchor height, log w, log h
    feature_sizes: tuple[tuple[int, int], ...]  # height and width of each level's map


class RetinaNet(PixelModel):
    """Backbone, pyramid and head."""

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__(config)
        self.pyramid = make_pyramid(config, self.backbone.channels)
        self.classes = _Tower(config, num_classes)
        self.boxes = _Tower(config, 4)
        assert self.classes.predict.bias is not None
        nn.init.constant_(self.classes.predict.bias, _PRIOR_LOGIT)

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"]) -> Outputs:
        """RGB 0..255 of any size, best channels last -> outputs in float32, autocast or not."""
        maps = self.pyramid(self.features(pixels))
        return Outputs(
            class_logits=self.classes(maps),
            box_codes=self.boxes(maps),
            feature_sizes=tuple((x.shape[2], x.shape[3]) for x in maps),
        )


class _Tower(nn.Module):
    """Half of the head: convolutions shared by all levels, BatchNorm of each level's own."""

    predict: nn.Conv2d

    def __init__(self, config: ModelConfig, num_values: int) -> None:
        super().__init__()
        self.num_values = num_values
        num_levels = config.levels[1] - config.levels[0] + 1
        width = config.head_channels or config.channels
        fans = [config.channels, *[width] * config.head_convs]
        self.convs = nn.ModuleList(nn.Conv2d(fan_in, width, 3, padding=1) for fan_in in fans[:-1])
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(width) for _ in self.convs) for _ in range(num_levels)
        )
        self.act = activation(config.activation)
        self.predict = nn.Conv2d(fans[-1], ANCHORS_PER_LOCATION * num_values, 3, padding=1)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            normal(conv, std=0.01)
        normal(self.predict, std=1e-5)

    def forward(self, maps: Sequence[Tensor]) -> Float32[Tensor, "b a v"]:
        return torch.cat([self._level(x, i) for i, x in enumerate(maps)], dim=1).float()

    def _level(self, x: Tensor, level: int) -> Tensor:
        level_norms = self.norms[level]
        assert isinstance(level_norms, nn.ModuleList)
        for conv, norm in zip(self.convs, level_norms, strict=True):
            x = self.act(norm(conv(x)))
        # Channels last in memory, so this is a view and not a copy.
        values: Tensor = self.predict(x)
        return values.permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.num_values)
