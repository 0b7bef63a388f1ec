"""A file of weights, whoever wrote it -> tensors under timm's names.

In: .safetensors, .pth, .pt or .npz of timm, of torchvision (ResNets, MobileNetV2) or of ours, here
or in a bucket. Out: `Weights`: of a whole model of ours the backbone alone. Nothing is unpickled
but tensors.
Next: `hub.py`.
"""

from __future__ import annotations

import json
import posixpath
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.models.files import stands
from ray_st.models.torchvision_names import is_mobilenetv2, timm_name

_WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys that hold the tensors
_PREFIXES = ("module.", "_orig_mod.", "model.")  # before every name
_OURS, _TIMMS = "backbone.", "network.model."  # a model of ours; a timm network within it
_HUB_WEIGHTS, _HUB_CONFIG = "model.safetensors", "config.json"  # a folder of timm's hub


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_UNPICKLER = "WeightsUnpickler error:"


class Normalisation(NamedTuple):
    """What is subtracted from pixels of 0..1, and what they are divided by then; RGB."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def buffers(self) -> dict[str, Tensor]:
        """The model's buffers `mean` and `std`: (1, 3, 1, 1), on 0..255."""
        return {
            name: torch.tensor([255 * each for each in values]).view(1, 3, 1, 1)
            for name, values in zip(self._fields, self, strict=True)
        }

    @classmethod
    def of_buffers(cls, mean: Tensor, std: Tensor) -> Normalisation:
        """The inverse of `buffers`, exactly: the division is in double precision."""
        mean_rgb, std_rgb = (tuple((x.double() / 255).flatten().tolist()) for x in (mean, std))
        return cls(mean=mean_rgb, std=std_rgb)


USUAL = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # of ImageNet


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors of a backbone, and the normalisation that came with them, if any did."""

    tensors: Mapping[str, Tensor]
    normalisation: Normalisation | None = None


def read_weights(path: str | Path) -> Weights:
    """Read a file; raises `UserError` for one that is none, is damaged or holds no tensors."""
    tensors = read_tensors(path, "init.weights", ", or a model folder")
    try:
        normalisation = _beside(str(path))
    except Exception as error:  # of JSON, of numbers, of the disk
        raise _unreadable(path, "init.weights", error) from error
    found = named(tensors)
    return Weights(tensors=found.tensors, normalisation=found.normalisation or normalisation)


def read_tensors(path: str | Path, field: str, others: str = "") -> dict[str, Tensor]:
    """Read a file's tensors under its own names; `field` opens each error, raised as above.

    `others` is what `field` takes beside such files.
    """
    reader = _READERS.get(posixpath.splitext(_name(str(path)))[1].lower())
    if reader is None or not stands(str(path), field):
        raise UserError(
            f"{field}: {path} must be a file that ends in {', '.join(_READERS)}{others}; "
            "check the path"
        )
    try:
        tensors = _unwrapped(reader(storage.read(str(path))))
    except Exception as error:  # of five libraries, each with errors of its own
        raise _unreadable(path, field, error) from error
    require_finite(tensors, path, field)
    return tensors


def _unreadable(path: str | Path, field: str, error: Exception) -> UserError:
    return UserError(
        f"{field}: {path} cannot be read ({reason_of(error)}); it must be whole and hold "
        "tensors only, as torch.save(model.state_dict(), FILE) writes them"
    )


def require_finite(
    tensors: Mapping[str, Tensor], source: str | Path, field: str = "init.weights"
) -> None:
    """Refuse numbers that no model can start from; float32 holds what is finite here."""
    for name, value in tensors.items():
        if value.is_floating_point() and not value.float().isfinite().all():
            raise UserError(
                f"{field}: {source} holds NaN or infinity in {name}; its training went astray "
                "or the file is damaged: pass weights from before, or copy it again"
            )


def reason_of(error: BaseException) -> str:
    """What went wrong, in a line: an error of another library without colours and advice."""
    text = _COLOURS.sub("", str(error)).strip()
    _, _, refused = text.partition(_UNPICKLER)  # torch's advice before it is to unpickle anything
    if refused:
        text = refused.strip().partition("\n")[0].partition(". ")[0]
    return textwrap.shorten(text, 160, placeholder=" ...") or type(error).__name__


def named(tensors: Mapping[str, Tensor]) -> Weights:
    """Tensors under timm's names, without the parts of a model of ours beside its backbone."""
    tensors = without_prefixes(tensors)
    normalisation = None
    if any(name.startswith(_OURS) for name in tensors):
        if {"mean", "std"} <= tensors.keys():
            normalisation = Normalisation.of_buffers(tensors["mean"], tensors["std"])
        own = {n: value for n, value in tensors.items() if n.startswith(_OURS)}
        tensors = {n.removeprefix(_OURS).removeprefix(_TIMMS): value for n, value in own.items()}
    if is_mobilenetv2(set(tensors)):
        tensors = {timm_name(name): value for name, value in tensors.items()}
    return Weights(tensors=tensors, normalisation=normalisation)


def without_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without what wrappers such as DDP put before every name."""
    start = "".join(_shared_prefixes(tensors))
    return {name.removeprefix(start): value for name, value in tensors.items()}


def _shared_prefixes(names: Mapping[str, Tensor]) -> list[str]:
    found, rest = [], [*names]
    while prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in rest)), None):
        found.append(prefix)
        rest = [name.removeprefix(prefix) for name in rest]
    return found


def _unwrapped(content: object) -> dict[str, Tensor]:
    # A training checkpoint may hold a tensor or two (the best accuracy) beside the weights.
    while isinstance(content, Mapping):
        inner = [content[k] for k in _WRAPPERS if isinstance(content.get(k), Mapping)]
        if not inner:
            tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
            if tensors:
                return tensors
            break
        content = inner[0]
    raise ValueError("it holds no tensors by name")


def _name(uri: str) -> str:
    """What a file is called in its folder."""
    return posixpath.basename(storage.split_options(uri)[0])


def _beside(uri: str) -> Normalisation | None:
    """What a folder of timm's hub says of its weights."""
    config = storage.join(storage.folder_of(uri), _HUB_CONFIG)
    if _name(uri) != _HUB_WEIGHTS or not storage.exists(config):
        return None
    about = json.loads(storage.read(config))
    about = about.get("pretrained_cfg") if isinstance(about, Mapping) else None
    if not isinstance(about, Mapping) or not {"mean", "std"} <= about.keys():
        return None
    mean, std = ([float(each) for each in about[name]] for name in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3:
        raise ValueError(f"{config} gives mean {mean} and std {std}, not three numbers each")
    return Normalisation(mean=tuple(mean), std=tuple(std))


def _read_safetensors(content: bytes) -> object:
    return dict(sorted(safetensors.torch.load(content).items()))  # which come in any order


def _read_torch(content: bytes) -> object:
    return torch.load(BytesIO(content), weights_only=True, map_location="cpu")


def _read_npz(content: bytes) -> object:
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


_READERS = {
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".npz": _read_npz,
}
