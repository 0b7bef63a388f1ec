"""What a step holds in memory: weights, gradients, what the optimiser keeps, and the rest.

In: a model and its optimiser after a step; what a machine or a cluster's nodes have. Out: `Held`,
`PeakMemory`, and findings. Next: `trial_step.py`.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, nn

from ray_st.selftraining.checkup.finding import Finding
from ray_st.training.schedule import TrainConfig

_EVERY_S = 0.002
_TIGHT = 0.8  # of what is there
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, kw_only=True)
class Held:
    """Bytes that one worker holds at the peak of a step."""

    device: str  # cpu or cuda
    parameters: int
    gradients: int
    optimiser: int
    activations: int  # all else that a step holds
    process: int  # what the process held before, 0 on a GPU

    @property
    def total(self) -> int:
        """All together."""
        return self.parameters + self.gradients + self.optimiser + self.activations + self.process

    @classmethod
    def of(
        cls,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        peak: int,
        process: int,
        device: str,
    ) -> Held:
        """Tell what a step held, after it; `peak` and `process` are of the whole process."""
        state = [value for each in optimizer.state.values() for value in each.values()]
        parameters = _bytes_of([*model.parameters(), *model.buffers()])
        gradients = _bytes_of(one.grad for one in model.parameters() if one.grad is not None)
        optimiser = _bytes_of(each for each in state if isinstance(each, Tensor))
        known = parameters + gradients + optimiser
        return cls(
            device=device,
            parameters=parameters,
            gradients=gradients,
            optimiser=optimiser,
            activations=max(0, peak - process - known),
            process=process,
        )


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)


class PeakMemory:
    """The most that this process held within the block, above all on a GPU where it uses one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
            return
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self.peak = max(self.peak, resident_bytes())
        self.peak = max(self.peak, resident_bytes())


def resident_bytes() -> int:
    """Memory that this process holds now; on systems that do not tell, the most it ever held."""
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def machine_bytes() -> int:
    """Memory of this machine, or what a container may use of it."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            found.append(int(Path(file).read_text()))
    return min(found)


def needed_memory(held: Held, train: TrainConfig, nodes: Sequence[int], of: str) -> list[Finding]:
    """Compare what the workers hold with the memory, bytes, of each node or GPU; `of` names them.

    As many workers as a node has room for stand on it, on a GPU one.
    """
    workers = max(1, train.num_workers)
    most = 1 if held.device == "cuda" else workers
    parts = ", ".join(
        f"{name} {gigabytes(value)}"
        for name, value in (
            ("weights", held.parameters),
            ("gradients", held.gradients),
            ("optimiser", held.optimiser),
            ("activations", held.activations),
            ("process", held.process),
        )
        if value
    )
    said = f"a worker holds {gigabytes(held.total)} at the peak of a step ({parts})"
    numbers = {**vars(held), "total": held.total, "workers": workers, "nodes": list(nodes)}
    if not nodes:
        return [Finding(severity="fine", where="train.batch_size", what=said, numbers=numbers)]
    room, tight = (
        sum(min(most, int(share * node) // max(1, held.total)) for node in nodes)
        for share in (1.0, _TIGHT)
    )
    said += f"; {of} has {gigabytes(sum(nodes))}: room for "
    said += f"{room} of {workers}"
    if tight >= workers:
        return [Finding(severity="fine", where="train.batch_size", what=said, numbers=numbers)]
    return [
        Finding(
            severity="fail" if room < workers else "warn",
            where="train.batch_size",
            what=said,
            move="lower train.batch_size or model.image_size_px, or use fewer workers a node",
            numbers=numbers,
        )
    ]


def gigabytes(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
