"""Which images were learned from, in one number: the same for any workers and any restarts.

In: the image ids of every step. Out: `Trail`, whose number two runs can be compared by. Next:
`step.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Int64
from torch import Tensor

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def fingerprint(
    step: int, image_ids: Int64[np.ndarray, " b"], origins: Int64[np.ndarray, " b"]
) -> int:
    """A sum over the images of a step, modulo 2**64: whoever holds which, and in which order.

    Each term is splitmix64's mix of image, origin and step, so that no exchange between steps
    leaves the sum as it was.
    """
    kinds = origins.astype(np.uint64)
    keys = image_ids.astype(np.uint64) * np.uint64(2) + (kinds & np.uint64(1))
    keys ^= (kinds >> np.uint64(1)) << np.uint64(63)  # of joint images
    with np.errstate(over="ignore"):  # modulo 2**64 is what is wanted
        return int(_mixed(_mixed(keys) + np.uint64(step)).sum(dtype=np.uint64))


def _mixed(keys: np.ndarray) -> np.ndarray:
    keys = keys + np.uint64(_GOLDEN)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(_FIRST)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(_SECOND)
    mixed: np.ndarray = keys ^ (keys >> np.uint64(31))
    return mixed


@dataclass(kw_only=True)
class Trail:
    """The sum of all steps so far, of which this worker knows its own part first."""

    total: int = 0  # of all workers, up to the last call of `joined`
    mine: int = 0  # since then

    def add(self, step: int, image_ids: Tensor, origins: Tensor) -> None:
        """Note this worker's images of a step; tensors on the host."""
        part = fingerprint(step, image_ids.numpy(), origins.numpy())
        self.mine = (self.mine + part) % 2**64

    def joined(self) -> str:
        """The number of all workers, 16 hexadecimal digits; all of them must ask."""
        # In two halves, whose sums over workers stay far below 2**63.
        halves = torch.tensor([self.mine >> 32, self.mine & 0xFFFFFFFF], dtype=torch.int64)
        if dist.is_available() and dist.is_initialized():
            halves = _summed(halves)
        high, low = halves.tolist()
        self.total, self.mine = (self.total + (high << 32) + low) % 2**64, 0
        return f"{self.total:016x}"


def _summed(halves: Tensor) -> Tensor:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    found = halves.to(device)
    dist.all_reduce(found)
    return found.cpu()
