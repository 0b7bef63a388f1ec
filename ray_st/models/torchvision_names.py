"""torchvision's names of MobileNetV2's tensors -> timm's. Its ResNets bear timm's names already.

In: a name such as `features.2.conv.1.0.weight`. Out: `blocks.1.0.conv_dw.weight`, or the name as
it came. Next: `weight_files.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

_REPEATS = (1, 2, 3, 4, 3, 3, 1)  # blocks of a stage
_ENDS = {
    "features.0.0": "conv_stem",
    "features.0.1": "bn1",
    "features.18.0": "conv_head",
    "features.18.1": "bn2",
    "classifier.1": "classifier",
}
_FIRST_BLOCK = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}  # it does not expand
_BLOCK = {
    "0.0": "conv_pw",
    "0.1": "bn1",
    "1.0": "conv_dw",
    "1.1": "bn2",
    "2": "conv_pwl",
    "3": "bn3",
}


def _modules() -> Iterator[tuple[str, str]]:
    yield from _ENDS.items()
    places = [(stage, i) for stage, repeats in enumerate(_REPEATS) for i in range(repeats)]
    for number, (stage, i) in enumerate(places, start=1):
        for theirs, timms in (_FIRST_BLOCK if number == 1 else _BLOCK).items():
            yield f"features.{number}.conv.{theirs}", f"blocks.{stage}.{i}.{timms}"


_TIMM = dict(_modules())


def is_mobilenetv2(names: set[str]) -> bool:
    """Whether these are torchvision's names of MobileNetV2."""
    return {"features.0.0.weight", "features.1.conv.0.0.weight"} <= names


def timm_name(name: str) -> str:
    """Give timm's name of the same tensor; a name that is no part of MobileNetV2 stays."""
    module, _, leaf = name.rpartition(".")
    return f"{_TIMM[module]}.{leaf}" if module in _TIMM else name
