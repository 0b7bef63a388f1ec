"""A model spread over its workers: weights, gradients and optimiser state a share each (FSDP2).

In: a model with the same weights in every worker. Out: the same model, sharded by blocks; whole
tensors of it and back, so that what is saved is the same whoever trained it. Next: `freezing.py`.

A block is gathered for its own forward and backward only. BatchNorm's averages stay each worker's
own, as with DistributedDataParallel, which copies the first worker's over the others' before each
forward: in training nobody reads them, so the first worker's are the same in both. They are copied
where they are read, for evaluation (`same_buffers`), and it is the first worker that saves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

_LARGEST = 1 / 8  # of a model's weights, in one block; what is smaller than
_SMALLEST = 1 / 1000  # is left to the block around it: a message costs more than it saves


def blocks_of(model: nn.Module, pixels: Tensor) -> list[str]:
    """Names of the modules to shard one by one, inner ones first; the rest is the root's.

    `model` runs once, on `pixels`: only what runs once a step, by its own `forward`, can gather
    itself. A twin on the meta device does.
    """
    runs: Counter[nn.Module] = Counter()

    def ran(module: nn.Module, _: object) -> None:
        runs[module] += 1

    handles = [each.register_forward_pre_hook(ran) for each in model.modules()]
    model(pixels)
    for handle in handles:
        handle.remove()
    once = {module for module, count in runs.items() if count == 1}
    return [name for child in _children(model, "") for name in _split(*child, once, _size(model))]


def _split(name: str, module: nn.Module, once: set[nn.Module], total: int) -> list[str]:
    size = _size(module)
    small = module in once and size <= _LARGEST * total
    children = [] if small else _children(module, f"{name}.")
    inner = [each for child in children for each in _split(*child, once, total)]
    rest = size - sum(_size(module.get_submodule(each[len(name) + 1 :])) for each in inner)
    is_block = module in once and rest >= max(1, _SMALLEST * total)
    return [*inner, name] if is_block else inner


def _children(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    return [(f"{prefix}{name}", child) for name, child in module.named_children()]


def _size(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def shard(model: nn.Module, blocks: list[str], device: torch.device) -> None:
    """Spread a model, in place, over all workers, and move it to `device` block by block.

    Its parameters become DTensors, so an optimiser is made afterwards.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for name in blocks:
        fully_shard(model.get_submodule(name), mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(model: nn.Module) -> bool:
    """Whether a model is spread over workers, so that all of them must run it together."""
    return any(isinstance(each, DTensor) for each in model.parameters())


def gathered(tensor: Tensor) -> Tensor:
    """A whole tensor of one that is spread over workers, all of which must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole(value: Any, *, keep: bool = True) -> Any:
    """Gather every tensor in a state that is spread; the others stay as they are.

    All workers must call it with the same state. Gathered tensors stand in CPU memory, and None
    stands for them in workers that do not `keep` them.
    """
    if isinstance(value, DTensor):
        tensor = gathered(value)
        return tensor.cpu() if keep else None
    if isinstance(value, Mapping):
        return {name: whole(each, keep=keep) for name, each in value.items()}
    if isinstance(value, list):
        return [whole(each, keep=keep) for each in value]
    return value


def spread(value: Tensor, like: Tensor | None) -> Tensor:
    """Take one's own part of a whole tensor, spread as `like` is; all of it where that is not."""
    if not isinstance(like, DTensor):
        return value
    # Every worker has read the whole: nothing needs to be sent.
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


def spread_state(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's whole state as `optimizer` holds it: spread where its parameters are."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]

    def placed(value: Any, parameter: Tensor) -> Any:
        is_like = isinstance(value, Tensor) and value.shape == parameter.shape
        return spread(value, parameter) if is_like else value

    state = {
        index: {name: placed(value, parameters[index]) for name, value in held.items()}
        for index, held in saved["state"].items()
    }
    return {**saved, "state": state}


def same_buffers(model: nn.Module) -> None:
    """Give every worker the first one's buffers: the model that is saved is the one evaluated."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
