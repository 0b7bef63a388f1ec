"""What timm knows of a backbone: its tensors, its weights on the hub, the pixels they expect.

In: the name of a backbone, and a start. Out: names, tensors, a normalisation. Next:
`fitting.py`.
"""

from __future__ import annotations

import re
from typing import Any

import timm
import torch
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg, split_model_name_tag
from torch import Tensor

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.models import tf_mobilenet
from ray_st.models.weight_files import USUAL, Normalisation, reason_of

NOISY_STUDENT = "ns_jft_in1k"  # ImageNet and 300M unlabelled images: the paper's ImageNet++
_AUTO_AUGMENT = "aa_in1k"  # the paper's ImageNet
_CACHED = "models--timm--"  # before the name, in the hub's cache
_OR_A_FILE = "pass init.weights FILE, with the init.mean and init.std that it expects"
_MORE_DATA = ("_ft_", "jft", "in12k", "in21k", "in22k", "ssld", "swag")  # marks in timm's tags


def network_names(backbone: str) -> frozenset[str]:
    """Names of all tensors of timm's whole network, classifier included; none for other names."""
    if not timm.is_model(backbone):
        return frozenset()
    with torch.device("meta"):
        return frozenset(timm.create_model(backbone).state_dict())


def pretrained_tags(backbone: str, start: str) -> list[str]:
    """Tags of timm that mean this start, the best first; one in the backbone's name decides."""
    _, asked = split_model_name_tag(backbone)
    fits = _is_noisy_student if start == "imagenet++" else _is_imagenet_alone
    tags = [tag for tag in _tags(backbone) if fits(tag) and asked in ("", tag)]
    return sorted(tags, key=lambda tag: tag != _AUTO_AUGMENT)  # else in timm's order


def normalisation_of(backbone: str, start: str) -> Normalisation | None:
    """What the weights of this start expect as timm has it; else what the backbone's others do."""
    name, _ = split_model_name_tag(backbone)
    tags = pretrained_tags(backbone, start)
    about = get_pretrained_cfg(f"{name}.{tags[0]}" if tags else name)
    return None if about is None else Normalisation(mean=about.mean, std=about.std)


def normalisation_of_file(uri: str, backbone: str) -> Normalisation | None:
    """What a file expects, where its place or the backbone's name tells; else None.

    Its place does inside the hub's own cache (.../models--timm--NAME.TAG/...). A backbone's name
    tells nothing of a file, but for the one that was made for weights of one kind.
    """
    parts = storage.absolute(uri).split("/")
    names = (each.removeprefix(_CACHED) for each in parts if each.startswith(_CACHED))
    if (name := next(filter(timm.is_model_pretrained, names), None)) is not None:
        about = get_pretrained_cfg(name)
        return Normalisation(mean=about.mean, std=about.std)
    return normalisation_of(backbone, "imagenet") if backbone == tf_mobilenet.NAME else None


def no_pixels(file: str | None, backbone: str, start: str) -> str:
    """Say that a file is silent about its pixels, and what they probably are."""
    timms, padded = normalisation_of(backbone, start), _padded_as_tensorflow(backbone)
    whose = "as most are" if timms is None else f"as timm's {backbone} was"
    mean, std = (" ".join(map(str, values)) for values in timms or USUAL)
    line = (
        f"init.mean: is missing; {file} does not say which pixels it expects, pass --init.mean "
        f"{mean} --init.std {std} if it was trained {whose}, or else what its "
        "authors used"
    )
    if padded is None:
        return line
    return f"{line}; files from TensorFlow want its padding too, which model.backbone {padded} has"


def _padded_as_tensorflow(backbone: str) -> str | None:
    name, _ = split_model_name_tag(backbone)
    name = name if name.startswith("tf_") else f"tf_{name}"
    return name if timm.is_model(name) else None


def download(backbone: str, start: str) -> tuple[str, dict[str, Tensor]]:
    """Fetch weights through timm, or take them from its cache: their name, and the tensors."""
    tags = pretrained_tags(backbone, start)
    if not tags:
        raise UserError(_no_weights(backbone, start))
    name = f"{split_model_name_tag(backbone)[0]}.{tags[0]}"
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:  # of the hub's client, the network's layers, the disk
        reason = reason_of(error.__cause__ or error)
        raise UserError(
            f"init.start: the weights {name} could not be fetched from {_address(name)} "
            f"({reason}); {_OR_A_FILE}"
        ) from error
    tensors: dict[str, Tensor] = network.state_dict()
    return name, tensors


def _tags(backbone: str) -> list[str]:
    """Tags with weights, timm's default first."""
    found: dict[str, Any] = get_arch_pretrained_cfgs(backbone)
    return [name.partition(".")[2] for name, about in found.items() if about.has_weights]


def _is_noisy_student(tag: str) -> bool:
    return tag == NOISY_STUDENT


def _is_imagenet_alone(tag: str) -> bool:
    without_size = re.sub(r"_\d+$", "", tag)
    return without_size.endswith("in1k") and not any(mark in tag for mark in _MORE_DATA)


def _no_weights(backbone: str, start: str) -> str:
    has = f"it has {', '.join(_tags(backbone)) or 'none at all'}"
    if start == "imagenet++":
        known = timm.list_pretrained(f"*.{NOISY_STUDENT}")
        names = ", ".join(name.partition(".")[0] for name in known)
        return (
            f"init.start: timm has no {NOISY_STUDENT} weights of {backbone}; choose one of {names} "
            f"as model.backbone, or {_OR_A_FILE}"
        )
    return (
        f"init.start: timm has no weights of {backbone} from ImageNet alone ({has}); choose "
        f"another model.backbone, or {_OR_A_FILE}"
    )


def _address(name: str) -> str:
    about = get_pretrained_cfg(name)
    return f"https://huggingface.co/{about.hf_hub_id}" if about.hf_hub_id else str(about.url)
