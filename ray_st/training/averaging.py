"""Averaged weights: a model that follows the trained one slowly, and is often the better one.

In: a model and a decay. Out: `Average`, whose `model` is validated and saved in its place. Next:
`gradient.py`.

    average = d * average + (1 - d) * weights,    d = min(decay, (1 + step) / (10 + step))

after each step, counted from 1: the random start weighs little soon, and not for 1 / (1 - decay)
steps. Floating buffers, such as BatchNorm's statistics, are averaged as weights are; integer ones
are copied.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ray_st.training.schedule import TrainConfig


class Average:
    """A moving average of all that a model computes with, on the model's own device."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Begin as the model is; it must go on with the same tensors, in place."""
        self.model = copy.deepcopy(model).requires_grad_(requires_grad=False).eval()
        self._decay = decay
        mine, theirs = _tensors(self.model), _tensors(model)
        is_float = [each.is_floating_point() for each in mine]
        self._mine, self._theirs = _where(is_float, mine), _where(is_float, theirs)
        others = [not each for each in is_float]
        self._my_integers, self._their_integers = _where(others, mine), _where(others, theirs)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the model after a step, counted from 1."""
        torch._foreach_lerp_(self._mine, self._theirs, 1 - decay_at(step, self._decay))
        if self._my_integers:
            torch._foreach_copy_(self._my_integers, self._their_integers)


def decay_at(step: int, decay: float) -> float:
    """How much of the average stays in a step, counted from 1."""
    return min(decay, (1 + step) / (10 + step))


def averaged(model: nn.Module, config: TrainConfig) -> Average | None:
    """The average of `model`, which is not wrapped, where one is asked for."""
    return None if config.ema_decay is None else Average(model, config.ema_decay)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _where(chosen: list[bool], tensors: list[Tensor]) -> list[Tensor]:
    return [tensor for tensor, is_chosen in zip(tensors, chosen, strict=True) if is_chosen]
