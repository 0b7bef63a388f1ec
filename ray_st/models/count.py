"""How large a model is and how much it computes, without memory for either.

In: a `ModelConfig`, a task, the number of classes. Out: `Count`. Next: `zoo.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from ray_st.models import ModelConfig, build


@dataclass(frozen=True, kw_only=True)
class Count:
    """Of one model and one image."""

    parameters: int
    """Everything that is trained; running means and variances are not."""

    multiply_adds: int
    """Of convolutions and matrix products, forward: what the paper prints as FLOPs."""


def count(config: ModelConfig, task: str, num_classes: int) -> Count:
    """Count at `config.image_size_px`, on the meta device: shapes only, no numbers."""
    side = config.image_size_px
    with torch.device("meta"):
        model = build(config, task, num_classes).eval()
        pixels = torch.empty(1, 3, side, side, dtype=torch.uint8)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(pixels)
    return Count(
        parameters=sum(each.numel() for each in model.parameters()),
        multiply_adds=counter.get_total_flops() // 2,  # it counts a multiply-add as two
    )
