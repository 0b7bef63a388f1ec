"""Projection: raw pixels in, a few numbers an image out, for comparing views with each other.

What is learned is the backbone; the projection takes what views may differ in, and is thrown away.
Source: SimCLR (Chen et al., 2020), section 4.2. Next: `joint.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ray_st.models.classifier import Classifier

if TYPE_CHECKING:
    from ray_st.models import ModelConfig


class Projector(Classifier):
    """A classifier with two layers behind the pooling, BatchNorm and ReLU between them."""

    def __init__(self, config: ModelConfig, num_outputs: int) -> None:
        super().__init__(config, num_outputs)
        width = self.backbone.channels[-1]
        self.predict = nn.Sequential(
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, num_outputs),
        )
