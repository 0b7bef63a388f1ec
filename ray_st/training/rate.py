"""The learning rate of a step.

In: a `TrainConfig`. Out: a number. Next: `restarts.py`.
"""

from __future__ import annotations

import math

from ray_st.training.schedule import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Rate of a step from 0: linear warm-up, then cosine or steps, as in the authors' code."""
    warmup, peak = config.warmup_steps, config.lr
    if step < warmup:
        start = 0.01 * peak if config.warmup_lr is None else config.warmup_lr
        return start + (peak - start) * step / warmup
    if config.schedule == "step":
        return float(peak * 0.1 ** sum(step >= drop for drop in config.lr_drops))
    done = (step - warmup) / max(1, config.steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
