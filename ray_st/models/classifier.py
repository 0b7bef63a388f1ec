"""Classification: raw pixels in, one logit a class out; only the backbone, no pyramid.

Source: the authors' classification head, paper.md 5.7. Next: `projector.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from ray_st.models.backbone import COARSEST_TAP
from ray_st.models.layers import normal
from ray_st.models.trunk import PixelModel

if TYPE_CHECKING:
    from ray_st.models import ModelConfig


class Classifier(PixelModel):
    """The backbone's coarsest map, pooled, then linear; of SpineNet the mean of all its maps."""

    predict: nn.Module

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        coarsest = min(config.levels[1], COARSEST_TAP)
        super().__init__(config, (coarsest, coarsest))
        linear = nn.Linear(self.backbone.channels[-1], num_classes)
        normal(linear, std=0.01)
        self.predict = linear

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"]) -> Float32[Tensor, "b k"]:
        """RGB 0..255 of any size -> logits in float32, autocast or not."""
        return self.predict(self.pooled(pixels)).float()  # type: ignore[no-any-return]
