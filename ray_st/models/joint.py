"""Joint training's model: any model, and beside it a linear layer that gives classes of others.

Both stand on the one backbone. What is saved and used afterwards is the model alone. Next:
`count.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float32, UInt8
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ray_st.models.layers import normal
from ray_st.models.trunk import PixelModel


class JointModel(nn.Module):
    """Two outputs of two sets of images, in one forward pass."""

    def __init__(self, model: PixelModel, num_classes: int) -> None:
        """`model` stays as it is, and learns from both."""
        super().__init__()
        self.model = model
        self.classes = nn.Linear(model.backbone.channels[-1], num_classes)
        normal(self.classes, std=0.01)
        self._norms = [each for each in model.modules() if isinstance(each, _BatchNorm)]

    def forward(
        self, pixels: UInt8[Tensor, "b 3 h w"], joint_pixels: UInt8[Tensor, "j 3 y x"]
    ) -> tuple[Any, Float32[Tensor, "j k"]]:
        """RGB 0..255 of any sizes -> the model's outputs of the first, class logits of the second.

        BatchNorms see each set by itself, and keep the running statistics of the first: those that
        the model meets again.
        """
        with _passing(self._norms):
            pooled = self.model.pooled(joint_pixels)
        return self.model(pixels), self.classes(pooled).float()


@contextmanager
def _passing(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Let BatchNorms look at images without remembering them."""
    momenta = [each.momentum for each in norms]
    for each in norms:
        each.momentum = 0.0  # of the running statistics nothing is replaced
    try:
        yield
    finally:
        for each, momentum in zip(norms, momenta, strict=True):
            each.momentum = momentum
