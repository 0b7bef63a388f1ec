"""What keeps a step whose numbers went bad from leaving a trace.

In: a model. Out: `Statistics`, its buffers as they stood before; `Skipped`, how often it was
needed. Next: `averaging.py`.

The forward pass moves the running statistics of BatchNorms, long before anybody knows whether its
loss is a number. They are a few kilobytes, so a copy of them before each step costs next to
nothing, and putting it back is exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Steps that changed nothing, since their loss or their gradient was no finite number."""

    total: int = 0
    in_a_row: int = 0  # up to the last step

    def after(self, *, is_finite: bool) -> Skipped:
        """Count one more step."""
        if is_finite:
            return Skipped(total=self.total)
        return Skipped(total=self.total + 1, in_a_row=self.in_a_row + 1)


class Statistics:
    """The buffers of a model, as they stood when they were last kept."""

    def __init__(self, model: nn.Module) -> None:
        """Keep them for the first time. The model must go on with the same buffers, in place."""
        by_type: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        for buffer in model.buffers():
            by_type[buffer.dtype].append(buffer)
        # One call a type copies all of them: a call each would cost more than the copying.
        self._live = list(by_type.values())
        self._kept = [[buffer.clone() for buffer in each] for each in self._live]

    @torch.no_grad()
    def keep(self) -> None:
        """Remember them as they are."""
        for kept, live in zip(self._kept, self._live, strict=True):
            torch._foreach_copy_(kept, live)

    @torch.no_grad()
    def restore(self) -> None:
        """Make them what they were."""
        for kept, live in zip(self._kept, self._live, strict=True):
            torch._foreach_copy_(live, kept)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Let forward passes within leave neither statistics nor random numbers changed."""
    statistics = Statistics(model)
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    statistics.restore()
