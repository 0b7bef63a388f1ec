"""From a built model to one that can be trained: what moves its weights.

In: a model and a `TrainConfig`. Out: an optimiser. Next: `step.py`.
"""

from __future__ import annotations

import torch
from torch import nn

from ray_st.training.schedule import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Decay the weights of convolutions and linear layers; never biases and norms."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.lr)
