"""NAS-FPN: a pyramid whose cell was searched for, stacked several times.

In: backbone maps. Out: five maps of equal width, fine to coarse.
Source: paper.md 5.6, the authors' nasfpn.py. Next: `trunk.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ray_st.models.layers import activation, at_size, conv


class Node(NamedTuple):
    """Two earlier nodes, brought to this level and combined; a convolution follows."""

    level: int
    combine: str
    inputs: tuple[int, int]
    also: int | None = None
    """An input of the cell that nobody else takes, of the same level: added as it is."""


FINEST = 3  # by the names of the table; nodes 0 to 4 are the inputs P3 to P7
CELL = (
    Node(4, "attention", (1, 3)),  # 5
    Node(4, "sum", (1, 5)),  # 6
    Node(3, "sum", (0, 6)),  # 7
    Node(4, "sum", (6, 7)),  # 8
    Node(5, "attention", (7, 8), also=2),  # 9
    Node(7, "attention", (6, 9), also=4),  # 10
    Node(6, "attention", (9, 10)),  # 11
)
OUTPUTS = {3: 7, 4: 8, 5: 9, 6: 11, 7: 10}  # level -> node


class NASFPN(nn.Module):
    """`repeats` cells, each from five levels to the same five levels.

    Taps of another width are first brought to `channels` by a 1x1 convolution with BatchNorm;
    levels beyond the last tap are max-pooled from the level below. With `separable`, every
    convolution is depthwise then pointwise, the 1x1 ones too.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, repeats: int, *, separable: bool, act: str
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Identity() if c == channels else _conv_norm(c, channels, 1, separable=separable)
            for c in in_channels
        )
        self.cells = nn.ModuleList(
            _Cell(channels, separable=separable, act=act) for _ in range(repeats)
        )
        self.apply(_initialise)

    def forward(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (b, in_channels[i], h_i, w_i), fine to coarse -> maps (b, channels, h_l, w_l)."""
        maps = [lateral(tap) for lateral, tap in zip(self.laterals, taps, strict=True)]
        while len(maps) < len(OUTPUTS):
            maps.append(F.max_pool2d(maps[-1], 2, ceil_mode=True))
        for cell in self.cells:
            maps = cell(maps)
        return maps


class _Cell(nn.Module):
    def __init__(self, channels: int, *, separable: bool, act: str) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(activation(act), _conv_norm(channels, channels, 3, separable=separable))
            for _ in CELL
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        nodes, levels = list(maps), [FINEST + i for i in range(len(maps))]
        for node, conv_of_node in zip(CELL, self.convs, strict=True):
            size_hw = (maps[node.level - FINEST].shape[2], maps[node.level - FINEST].shape[3])
            # The coarser input first; sorted() keeps the order of a tie.
            coarse, fine = (
                resample(nodes[i], node.level - levels[i], size_hw)
                for i in sorted(node.inputs, key=lambda i: -levels[i])
            )
            merged = COMBINE[node.combine](coarse, fine)
            if node.also is not None:
                merged = merged + nodes[node.also]
            nodes.append(conv_of_node(merged))
            levels.append(node.level)
        return [nodes[i] for i in OUTPUTS.values()]


def resample(x: Tensor, levels_up: int, size_hw: tuple[int, int]) -> Tensor:
    """Bring a map to a level: max-pooled to a coarser one, by nearest neighbour to a finer one."""
    if levels_up > 0:
        x = F.max_pool2d(x, 2**levels_up, ceil_mode=True)
    return at_size(x, size_hw)


def attend(coarse: Tensor, fine: Tensor) -> Tensor:
    """Let the coarser map's strongest answer of each channel weigh the finer map."""
    return coarse + fine * coarse.amax(dim=(2, 3), keepdim=True).sigmoid()


def add(coarse: Tensor, fine: Tensor) -> Tensor:
    """Sum."""
    return coarse + fine


COMBINE = {"attention": attend, "sum": add}


def _conv_norm(
    in_channels: int, out_channels: int, kernel: int, *, separable: bool
) -> nn.Sequential:
    return nn.Sequential(
        conv(in_channels, out_channels, kernel, separable=separable), nn.BatchNorm2d(out_channels)
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
