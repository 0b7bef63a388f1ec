"""The feature pyramid: backbone maps in, one map of equal width a level out.

Source: paper.md 5.5, the authors' fpn.py, but with symmetric padding. Next: `nasfpn.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ray_st.models.layers import at_size


class FPN(nn.Module):
    """Levels finest..coarsest from the taps, fine to coarse.

    Levels beyond the last tap come from the level below by a 3x3 convolution of stride 2, with
    ReLU before it except for the first. Every level ends in its own BatchNorm without activation.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, num_levels: int) -> None:
        super().__init__()
        num_extra = num_levels - len(in_channels)
        self.laterals = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.smooths = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels
        )
        self.extras = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(num_extra)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(num_levels))

    def forward(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (b, in_channels[i], h_i, w_i), fine to coarse -> maps (b, channels, h_l, w_l)."""
        merged = [lateral(tap) for lateral, tap in zip(self.laterals, taps, strict=True)]
        for i in range(len(merged) - 2, -1, -1):
            height, width = merged[i].shape[-2:]
            merged[i] = merged[i] + at_size(merged[i + 1], (height, width))
        levels = [smooth(x) for smooth, x in zip(self.smooths, merged, strict=True)]
        for i, extra in enumerate(self.extras):
            levels.append(extra(levels[-1] if i == 0 else F.relu(levels[-1])))
        return [norm(x) for norm, x in zip(self.norms, levels, strict=True)]
