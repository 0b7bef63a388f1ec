"""How a student (or a teacher) is trained: the settings, the optimiser, the learning rate.

In: numbers from a recipe. Out: `TrainConfig`, parameter groups, the learning rate of a step.
Next: `step.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ray_st.config import require


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run."""

    steps: int = 500
    """Optimiser steps."""
    batch_size: int = 16
    """Human images a step, over all workers."""
    pseudo_batch_size: int | None = None
    """Pseudo images a step, over all workers; by default as many as human ones."""
    alpha: float = 1.0
    """Weight of the pseudo loss (others call it unsup_weight), >= 0."""
    loss: Literal["normalised", "plain"] = "normalised"
    """normalised: (L_h + alpha * mean_h/mean_p * L_p) / (1 + alpha); plain: L_h + alpha * L_p."""
    mean_decay: float = 0.99
    """Decay of the moving averages mean_h and mean_p, a step, in [0, 1)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd (momentum 0.9) as in the paper, or adamw for short runs from scratch."""
    lr: float = 0.01
    """Peak learning rate, reached after the warm-up; then cosine to 0."""
    warmup_steps: int = 50
    """Steps of linear warm-up from a hundredth of the peak."""
    weight_decay: float = 1e-4
    """Weight decay, on convolution weights only."""
    clip_norm: float = 10.0
    """Largest global norm of the gradient."""
    seed: int = 0
    """Seed of initial weights, image order and views."""
    num_workers: int = 1
    """Training workers; 0 trains inside the calling process, for a debugger."""
    use_gpu: bool = False
    """One accelerator a worker."""
    cpus_per_worker: int = 2
    """Cores that a worker reserves and computes with."""
    loaders: int = 1
    """Most loading tasks at once, a worker and stream."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 200
    """Steps between two resumable checkpoints."""
    max_failures: int = 3
    """How often a dead worker group is started again, from its last checkpoint."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "cpus_per_worker", "loaders", "log_every"):
            require(getattr(self, name) >= 1, f"train.{name}", "at least 1", getattr(self, name))
        require(self.alpha >= 0, "train.alpha", "0 or more", self.alpha)
        require(0 <= self.mean_decay < 1, "train.mean_decay", "in [0, 1)", self.mean_decay)
        require(self.lr > 0, "train.lr", "above 0", self.lr)
        require(self.clip_norm > 0, "train.clip_norm", "above 0", self.clip_norm)
        require(
            self.checkpoint_every >= 1,
            "train.checkpoint_every",
            "at least 1",
            self.checkpoint_every,
        )
        require(self.seed < 2**62, "train.seed", "below 2**62", self.seed)
        for name in ("warmup_steps", "weight_decay", "num_workers", "max_failures", "seed"):
            require(getattr(self, name) >= 0, f"train.{name}", "0 or more", getattr(self, name))
        for name, size in (("batch_size", self.batch_size), ("pseudo_batch_size", self.num_pseudo)):
            require(
                size >= 1 and size % max(1, self.num_workers) == 0,
                f"train.{name}",
                f"a positive multiple of train.num_workers ({self.num_workers})",
                size,
            )

    @property
    def num_pseudo(self) -> int:
        """Pseudo images a step, when there is a pseudo stream."""
        return self.batch_size if self.pseudo_batch_size is None else self.pseudo_batch_size


def learning_rate(step: int, config: TrainConfig) -> float:
    """Rate of a step from 0: linear warm-up, then half a cosine to 0, as in the paper's code."""
    if step < config.warmup_steps:
        return config.lr * (0.01 + 0.99 * step / config.warmup_steps)
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Decay the weights of convolutions and linear layers; never biases and norms."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=config.lr)
