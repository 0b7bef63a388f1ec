"""What all teachers from elsewhere share: a digest, a task without a loss, the rules of settings.

In: whatever decides labels. Out: SHA-256, `Foreign`, `LooksOnce`, output ids. Next: `merging.py`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_st.config import UserError, nearest, require
from ray_st.data.labels import ClassLabel, Detections, Labels, SegmentationMap
from ray_st.data.placed import require_side
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.looks import Looks
from ray_st.labeling.teachers.class_map import NO_CLASS
from ray_st.tasks.detection import DetectConfig

TASKS: dict[str, type[Labels]] = {
    "detection": Detections,
    "segmentation": SegmentationMap,
    "classification": ClassLabel,
}
_CHOSEN = ("score_floor", "max_detections")  # of `detect`: what is ours to say of any detector


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """What a teacher from elsewhere has learned, for those who only ask it for labels."""

    name: str
    kind: type[Labels]

    @classmethod
    def of(cls, name: str) -> Foreign:
        """The task of this name."""
        return cls(name=name, kind=TASKS[name])


class LooksOnce:
    """A teacher from elsewhere looks at an image once: it merges nothing of its own."""

    image_size_px: int

    def looks(self, config: LabelConfig) -> Looks:
        """One view. Raises `UserError` for more."""
        rule, hint = "left out, for this teacher looks once", "pass {}"
        require(not config.flip, "label.flip", rule, config.flip, hint.format("false"))
        require(config.scales == (1.0,), "label.scales", rule, config.scales, hint.format("1"))
        return Looks(sides_px=(self.image_size_px,))


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a user says of any teacher from elsewhere."""

    detect: DetectConfig = field(default_factory=DetectConfig)
    image_size_px: int | None = None

    def __post_init__(self) -> None:
        require_side(self.image_size_px, "image_size_px")

    def side(self, usual: int) -> int:
        """Side of the views, pixels."""
        return self.image_size_px or usual

    def require_own_nms(self) -> None:
        """Refuse settings of our own detectors' post-processing: others bring theirs."""
        for setting in fields(DetectConfig):
            if setting.name not in _CHOSEN:
                value = getattr(self.detect, setting.name)
                rule = "left out, for this teacher suppresses boxes by its own rules"
                hint = f"pass {setting.default}"
                require(value == setting.default, f"detect.{setting.name}", rule, value, hint)


def digest_of(facts: Mapping[str, Any], content: bytes | Mapping[str, Tensor]) -> str:
    """SHA-256 of what decides labels: facts that JSON can hold, and bytes or named tensors."""
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    if isinstance(content, bytes):
        found.update(content)
        return found.hexdigest()
    for name in sorted(content):
        value = content[name].detach().cpu().contiguous()
        found.update(f"\n{name} {value.dtype} {[*value.shape]}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def named_outputs(names: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Classes of a detector with these outputs, and each output's class id, -1 for none."""
    classes = tuple(name for name in names if name not in NO_CLASS)
    ids = np.full(len(names), -1, np.int64)
    ids[[k for k, name in enumerate(names) if name not in NO_CLASS]] = np.arange(len(classes))
    return classes, ids


def optional(package: str, scheme: str) -> ModuleType:
    """Import a package that is not installed with ray-st."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"teacher: {scheme}: needs the package {package} ({error}); run `pip install {package}`"
        ) from error


def did_you_mean(name: str, known: Sequence[str], otherwise: str) -> str:
    """The next move after a wrong name."""
    near = nearest(name, known)
    return f"did you mean {near}?" if near else otherwise
