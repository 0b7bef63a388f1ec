"""The bricks of what we build ourselves: activation, convolution, resizing, stochastic depth.

In: a name or channels. Out: small modules and functions on maps (b, c, h, w). Next: `spinenet.py`.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_ACTIVATIONS = {"relu": nn.ReLU, "swish": nn.SiLU}


def activation(name: str) -> nn.Module:
    """Return the activation `relu` or `swish`."""
    return _ACTIVATIONS[name]()


def conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias and BatchNorm; stride s turns a side into ceil(side / s)."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def conv(in_channels: int, out_channels: int, kernel: int, *, separable: bool = False) -> nn.Module:
    """Convolution with bias; separable: depthwise without bias, then pointwise with bias."""
    if not separable:
        return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    depthwise = nn.Conv2d(
        in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels, bias=False
    )
    return nn.Sequential(depthwise, nn.Conv2d(in_channels, out_channels, 1))


def normal(layer: nn.Conv2d | nn.Linear, *, std: float) -> None:
    """Weights from N(0, std), bias 0: how the paper's heads start."""
    assert layer.bias is not None
    nn.init.normal_(layer.weight, 0.0, std)
    nn.init.zeros_(layer.bias)


def level_size(pixels: Tensor, level: int) -> tuple[int, int]:
    """Height and width of a level's map: each halving of an odd side rounds up."""
    height, width = pixels.shape[-2:]
    return -(-height // 2**level), -(-width // 2**level)


def at_size(x: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Nearest neighbour to an exact size: with odd sizes a plain doubling is one too large."""
    if x.shape[-2:] == size_hw:
        return x
    return F.interpolate(x, size=size_hw, mode="nearest")


class DropPath(nn.Module):
    """Stochastic depth: in training, drops a whole image's branch with probability `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop or scale up, so that the mean over many steps stays."""
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)
