"""RetinaNet: raw pixels in, class logits and box codes of every anchor out.

Source: paper.md 5.1, the authors' heads.py. Next: `ray_st/tasks/task.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from ray_st.models.backbone import Backbone
from ray_st.models.fpn import FPN

ANCHORS_PER_LOCATION = 9  # 3 scales x 3 ratios; `ray_st/tasks/anchors.py` says which
_PRIOR_LOGIT = -math.log(99)  # every class starts at probability 0.01
_MEAN_RGB = (123.675, 116.28, 103.53)  # ImageNet's, on 0..255
_STD_RGB = (58.395, 57.12, 57.375)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    """What the head says of each anchor, levels fine to coarse, then rows, columns, shapes.

    There is no background slot: one logit a class, each its own yes or no. (The paper's code has
    91 slots for the 80 classes of COCO, ids and background included; the unused never matter.)
    """

    class_logits: Float32[Tensor, "b a k"]
    box_codes: Float32[Tensor, "b a 4"]  # dx / anchor width, dy / anchor height, log w, log h
    feature_sizes: tuple[tuple[int, int], ...]  # height and width of each level's map


class RetinaNet(nn.Module):
    """Backbone, pyramid and head; normalises the pixels itself."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        backbone: str,
        num_classes: int,
        levels: tuple[int, int],
        channels: int,
        head_convs: int,
    ) -> None:
        super().__init__()
        num_levels = levels[1] - levels[0] + 1
        self.register_buffer("mean", torch.tensor(_MEAN_RGB).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD_RGB).view(1, 3, 1, 1), persistent=False)
        self.backbone = Backbone(backbone, levels)
        self.fpn = FPN(self.backbone.channels, channels, num_levels)
        self.classes = _Tower(channels, head_convs, num_levels, num_classes)
        self.boxes = _Tower(channels, head_convs, num_levels, 4)
        assert self.classes.predict.bias is not None
        nn.init.constant_(self.classes.predict.bias, _PRIOR_LOGIT)

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"]) -> Outputs:
        """RGB 0..255 of any size, best channels last -> outputs in float32, autocast or not."""
        maps = self.fpn(self.backbone((pixels.float() - self.mean) / self.std))
        return Outputs(
            class_logits=self.classes(maps),
            box_codes=self.boxes(maps),
            feature_sizes=tuple((x.shape[2], x.shape[3]) for x in maps),
        )


class _Tower(nn.Module):
    """Half of the head: convolutions shared by all levels, BatchNorm of each level's own."""

    predict: nn.Conv2d

    def __init__(self, channels: int, num_convs: int, num_levels: int, num_values: int) -> None:
        super().__init__()
        self.num_values = num_values
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(num_convs)
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(num_convs))
            for _ in range(num_levels)
        )
        self.predict = nn.Conv2d(channels, ANCHORS_PER_LOCATION * num_values, 3, padding=1)
        for conv in self.convs:
            _normal(conv, std=0.01)
        _normal(self.predict, std=1e-5)

    def forward(self, maps: Sequence[Tensor]) -> Float32[Tensor, "b a v"]:
        return torch.cat([self._level(x, i) for i, x in enumerate(maps)], dim=1).float()

    def _level(self, x: Tensor, level: int) -> Tensor:
        level_norms = self.norms[level]
        assert isinstance(level_norms, nn.ModuleList)
        for conv, norm in zip(self.convs, level_norms, strict=True):
            x = F.relu(norm(conv(x)), inplace=True)
        # Channels last in memory, so this is a view and not a copy.
        values: Tensor = self.predict(x)
        return values.permute(0, 2, 3, 1).reshape(len(x), -1, self.num_values)


def _normal(conv: nn.Module, *, std: float) -> None:
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    nn.init.normal_(conv.weight, 0.0, std)
    nn.init.zeros_(conv.bias)
