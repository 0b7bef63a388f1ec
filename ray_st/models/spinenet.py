"""SpineNet: a backbone that crosses scales on its way and is its own pyramid.

In: normalised pixels. Out: maps of levels 3 to 7, all of one width, fine to coarse.
Source: paper.md 5.7, the authors' spinenet.py. Next: `backbone.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from ray_st.models.layers import DropPath, activation, at_size, conv_norm, level_size


class Node(NamedTuple):
    """One block group: the sum of its parents, brought to its level, then its blocks."""

    level: int
    kind: str
    parents: tuple[int, int]
    also: int | None = None
    """A node that nobody else takes, of the same level and width: added as it is."""


STEM = Node(2, "bottleneck", (0, 0))  # nodes 0 and 1, one after the other, without a merge
STEM_WIDTH = 64  # of the convolution before them, at every scale
NODES = (
    Node(2, "bottleneck", (0, 1)),  # 2
    Node(4, "residual", (0, 1)),  # 3
    Node(3, "bottleneck", (2, 3)),  # 4
    Node(4, "bottleneck", (2, 4)),  # 5
    Node(6, "residual", (3, 5)),  # 6
    Node(4, "bottleneck", (3, 5)),  # 7
    Node(5, "residual", (6, 7)),  # 8
    Node(7, "residual", (6, 8)),  # 9
    Node(5, "bottleneck", (8, 9)),  # 10
    Node(5, "bottleneck", (8, 10)),  # 11
    Node(4, "bottleneck", (5, 10)),  # 12
    Node(3, "bottleneck", (4, 10)),  # 13
    Node(5, "bottleneck", (7, 12), also=11),  # 14
    Node(7, "bottleneck", (5, 14)),  # 15
    Node(6, "bottleneck", (12, 14)),  # 16
)
OUTPUTS = {3: 13, 4: 12, 5: 14, 6: 16, 7: 15}  # level -> node
WIDTHS = {2: 64, 3: 128, 4: 256, 5: 256, 6: 256, 7: 256}  # level -> width at scale 1
EXPANSION = {"bottleneck": 4, "residual": 1}  # output channels in widths


class Size(NamedTuple):
    """What sets one SpineNet apart from another."""

    width_scale: float
    alpha: float  # channels of a resampled map, in widths of where it comes from
    repeats: int  # blocks of a group


SIZES = {
    "spinenet49s": Size(0.65, 0.5, 1),
    "spinenet49": Size(1.0, 0.5, 1),
    "spinenet96": Size(1.0, 0.5, 2),
    "spinenet143": Size(1.0, 1.0, 3),
    "spinenet190": Size(1.3, 1.0, 4),
}


class SpineNet(nn.Module):
    """The stem (nodes 0 and 1), the 15 nodes of the table, a 1x1 convolution an output level."""

    def __init__(self, size: Size, *, channels: int, act: str, drop_path: float) -> None:
        super().__init__()
        self.channels = [channels] * len(OUTPUTS)
        self.stem = nn.Sequential(
            conv_norm(3, STEM_WIDTH, 7, stride=2), activation(act), nn.MaxPool2d(3, 2, padding=1)
        )
        self.first = nn.ModuleList(
            _group(in_channels, STEM, size, act) for in_channels in (STEM_WIDTH, _out(STEM, size))
        )
        rows = (STEM, STEM, *NODES)
        self.nodes = nn.ModuleList(
            _Merge(node, [rows[j] for j in node.parents], size, act, drop_path * i / len(NODES))
            for i, node in enumerate(NODES, start=1)
        )
        self.endpoints = nn.ModuleList(
            nn.Sequential(conv_norm(_out(rows[i], size), channels, 1), activation(act))
            for i in OUTPUTS.values()
        )
        self.apply(_initialise)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return maps of shape (b, channels, ceil(h / 2**level), ceil(w / 2**level))."""
        x, maps = self.stem(pixels), []
        for group in self.first:
            x = group(x)
            maps.append(x)
        for node, merge in zip(NODES, self.nodes, strict=True):
            also = None if node.also is None else maps[node.also]
            size_hw = level_size(pixels, node.level)
            maps.append(merge([maps[j] for j in node.parents], also, size_hw))
        return [
            endpoint(maps[i]) for endpoint, i in zip(self.endpoints, OUTPUTS.values(), strict=True)
        ]


class _Merge(nn.Module):
    """One row of the table: parents resampled and summed, activation, then the blocks."""

    def __init__(
        self, node: Node, parents: Sequence[Node], size: Size, act: str, drop: float
    ) -> None:
        super().__init__()
        self.resamples = nn.ModuleList(_Resample(parent, node, size, act) for parent in parents)
        self.act = activation(act)
        self.group = _group(_out(node, size), node, size, act, drop)

    def forward(
        self, parents: Sequence[Tensor], also: Tensor | None, size_hw: tuple[int, int]
    ) -> Tensor:
        first, second = (
            resample(x, size_hw) for resample, x in zip(self.resamples, parents, strict=True)
        )
        merged = first + second if also is None else first + second + also
        return self.group(self.act(merged))  # type: ignore[no-any-return]


class _Resample(nn.Module):
    """From a parent's level and channels to those of a node, in few channels on the way."""

    def __init__(self, parent: Node, node: Node, size: Size, act: str) -> None:
        super().__init__()
        narrow = int(_width(parent, size) * size.alpha)
        steps = [conv_norm(_out(parent, size), narrow, 1), activation(act)]
        if (factor := 2 ** (node.level - parent.level)) > 1:
            steps += [conv_norm(narrow, narrow, 3, stride=2), activation(act)]
        if factor > 2:
            kernel = 3 if factor <= 4 else 5
            steps.append(nn.MaxPool2d(kernel, factor // 2, padding=kernel // 2))
        self.shrink = nn.Sequential(*steps)
        self.widen = conv_norm(narrow, _out(node, size), 1)

    def forward(self, x: Tensor, size_hw: tuple[int, int]) -> Tensor:
        return self.widen(at_size(self.shrink(x), size_hw))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Convolutions beside a shortcut."""

    def __init__(self, in_channels: int, node: Node, size: Size, act: str, drop: float) -> None:
        super().__init__()
        width, out = _width(node, size), _out(node, size)
        kernels = (1, 3, 1) if node.kind == "bottleneck" else (3, 3)
        channels = (in_channels, *[width] * (len(kernels) - 1), out)
        steps: list[nn.Module] = []
        for kernel, (fan_in, fan_out) in zip(kernels, pairwise(channels), strict=True):
            steps += [conv_norm(fan_in, fan_out, kernel), activation(act)]
        self.branch = nn.Sequential(*steps[:-1], DropPath(drop))
        self.shortcut = nn.Identity() if in_channels == out else conv_norm(in_channels, out, 1)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.branch(x) + self.shortcut(x))  # type: ignore[no-any-return]


def _group(in_channels: int, node: Node, size: Size, act: str, drop: float = 0.0) -> nn.Sequential:
    fans = (in_channels, *[_out(node, size)] * (size.repeats - 1))
    return nn.Sequential(*(_Block(fan_in, node, size, act, drop) for fan_in in fans))


def _width(node: Node, size: Size) -> int:
    return int(WIDTHS[node.level] * size.width_scale)


def _out(node: Node, size: Size) -> int:
    return _width(node, size) * EXPANSION[node.kind]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        # Variance 1 / fan-in; a normal cut at two deviations keeps 0.88 of its own.
        std = 1 / math.sqrt(module.weight[0].numel()) / 0.87962566
        nn.init.trunc_normal_(module.weight, 0.0, std, -2 * std, 2 * std)
