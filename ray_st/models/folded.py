"""The same model with fewer layers: BatchNorms folded into the convolutions before them.

In: a model in evaluation mode. Out: one that gives the same outputs up to rounding, sooner; it is
for inference alone. Next: `torchvision_names.py`.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary


def folded(model: nn.Module, example: Tensor) -> nn.Module:
    """Fold every BatchNorm into its convolution where nothing else can tell the difference.

    That is where a convolution runs once, its output goes into a BatchNorm and nowhere else, and
    that BatchNorm runs once too: not in a head that levels share, not where the BatchNorm stands
    before the convolution.

    Args:
        model: in evaluation mode; it stays as it is, and shares what is not folded.
        example: an input; its shape and type matter, its values do not.
    """
    result = copy.deepcopy(model, _tensors(model))  # new modules around the same tensors
    modules = dict(result.named_modules())
    swaps: dict[nn.Module, nn.Module] = {}
    with torch.no_grad():
        for conv, norm in (map(modules.__getitem__, pair) for pair in _pairs(model, example)):
            # A subclass of BatchNorm may do more than its name says; one of Conv2d is judged by
            # the convolution that it ran.
            if isinstance(conv, nn.Conv2d) and type(norm) in (nn.BatchNorm2d, BatchNormAct2d):
                swaps[conv] = fuse_conv_bn_eval(conv, norm)
                swaps[norm] = _after(norm)
    for parent in modules.values():
        for name, child in list(parent.named_children()):
            if child in swaps:
                setattr(parent, name, swaps[child])
    return result


def _after(norm: nn.Module) -> nn.Module:
    if isinstance(norm, BatchNormAct2d):
        return nn.Sequential(norm.drop, norm.act)
    return nn.Identity()


def _tensors(model: nn.Module) -> dict[int, Tensor]:
    """By id, as `copy.deepcopy` takes what stands for an object instead of a copy."""
    return {id(each): each for each in (*model.parameters(), *model.buffers())}


def _pairs(model: nn.Module, example: Tensor) -> Iterator[tuple[str, str]]:
    """Names of each convolution and of the BatchNorm that alone reads its output, both run once."""
    named = {id(each): name for name, each in (*model.named_parameters(), *model.named_buffers())}
    # On the meta device a forward has shapes alone, so it costs little at any size of image.
    meta = {at: torch.empty_like(each, device="meta") for at, each in _tensors(model).items()}
    twin = copy.deepcopy(model, dict(meta))  # deepcopy() writes into what it is given
    with torch.no_grad(), _Trace({named[at]: each for at, each in meta.items()}) as trace:
        held = twin(example.to("meta"))
    alive = set(trace.conv_of.values())  # an output that `held` keeps is read by the caller too
    del held
    for weight, (mean, *others) in trace.readers.items():
        once = trace.uses[weight] == 1 and not others and weight not in alive
        if once and mean is not None and trace.uses[mean] == 1:
            yield weight.rpartition(".")[0], mean.rpartition(".")[0]


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Which operation reads which convolution's output: all of them, not those of modules only."""

    def __init__(self, named: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = {id(each): name for name, each in named.items()}
        self.uses = Counter[str]()
        """How many operations read a parameter or buffer."""
        self.conv_of = WeakTensorKeyDictionary()
        """Output that is still held -> the weight that it came from, by name."""
        self.readers = defaultdict[str, list[str | None]](list)
        """Weight of a convolution -> the running mean beside each read of its output, or None."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        read = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        names = [self._names[id(each)] for each in read if id(each) in self._names]
        self.uses.update(names)
        mean = next((name for name in names if name.endswith("running_mean")), None)
        for each in read:
            if each in self.conv_of:
                self.readers[self.conv_of[each]].append(mean)
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and id(args[1]) in self._names:
            self.conv_of[made] = self._names[id(args[1])]
        return made
