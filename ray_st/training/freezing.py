"""Weights that stay as they are, chosen by patterns of their names.

In: a model and patterns such as "backbone.*". Out: the model, in which they do not learn. Next:
`rehearsal.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from types import MethodType

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ray_st.config import UserError, nearest, require


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters whose names fit one of the patterns, in place.

    They get no gradient, so no optimiser moves or decays them. A BatchNorm of which all parameters
    are frozen uses its statistics as they are, and does not change them. `model` is not wrapped:
    DistributedDataParallel leaves out what is frozen before it. Raises `UserError` for a pattern
    that fits no parameter, and where nothing is left to learn.
    """
    if not patterns:
        return
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(_misses(pattern, names))
    for name, parameter in model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad = False
    require(
        any(parameter.requires_grad for parameter in model.parameters()),
        "train.freeze",
        "less than all parameters",
        list(patterns),
        "take a pattern away",
    )
    for module in model.modules():
        if isinstance(module, _BatchNorm) and _is_frozen(module):
            module.eval()
            # Whoever calls `train` on the whole model means the rest of it.
            module.train = MethodType(_as_it_is, module)  # type: ignore[method-assign]


def _is_frozen(module: nn.Module) -> bool:
    learns = [parameter.requires_grad for parameter in module.parameters()]
    return bool(learns) and not any(learns)


def _as_it_is(module: nn.Module, mode: bool = True) -> nn.Module:  # noqa: FBT001, FBT002 - PyTorch's
    del mode
    return module


def _misses(pattern: str, names: Sequence[str]) -> str:
    known = dict.fromkeys([*names, *(f"{above}.*" for name in names for above in _above(name))])
    near = nearest(pattern, known)
    tops = ", ".join(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in names))
    move = f"did you mean {near}? " if near else ""
    return (
        f"train.freeze: must fit names of the model's parameters, got {pattern!r}; {move}"
        f"the model has {tops}"
    )


def _above(name: str) -> list[str]:
    """Names of all modules that hold a parameter, from the outermost."""
    words = name.split(".")
    return [".".join(words[:count]) for count in range(1, len(words))]
