"""`torchvision:NAME[:FILE]`: any of torchvision's detectors, segmenters and classifiers.

In: a name, and a file of weights or none. Out: a `TeacherSource`; the network is built once, where
the command runs, and travels to the actors. Pixels are prepared by the weights' own transforms.
Next: `hugging_face.py`.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torchvision.models as torchvision_models
from torch import Tensor, nn
from torchvision.models import get_model, get_model_builder, get_model_weights, list_models

from ray_st.config import UserError
from ray_st.data.labels import Detections, Labels
from ray_st.labeling.looks import Looks
from ray_st.labeling.teacher import Learned
from ray_st.labeling.teachers.class_map import read_names
from ray_st.labeling.teachers.merging import Order, logits_task, merged_logits
from ray_st.labeling.teachers.origin import (
    Foreign,
    LooksOnce,
    Wishes,
    did_you_mean,
    digest_of,
    named_outputs,
)
from ray_st.labeling.teachers.pixels import BySize, detections
from ray_st.models.weight_files import read_tensors, reason_of, without_prefixes
from ray_st.tasks.detection import DetectConfig

_MODULES = {
    "detection": torchvision_models.detection,
    "segmentation": torchvision_models.segmentation,
    "classification": torchvision_models,
}
_DETECTION_SIDE_PX = 640
# Arguments of builders that are left at None or false would download, or add heads for training.
_UNTRAINED: dict[str, Any] = {"weights_backbone": None, "aux_loss": False}
_INCEPTIONS = ("googlenet", "inception_v3")
_INCEPTION = {"transform_input": True, "aux_logits": False, "init_weights": False}
_AUXILIARY = ("aux_classifier.", "aux1.", "aux2.", "AuxLogits.")  # heads that only train


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchvisionTeacher(LooksOnce):
    """The `TeacherSource` of a network of torchvision's."""

    network: nn.Module  # on the CPU, in evaluation mode
    prepare: Callable[[Tensor], Tensor]  # uint8 (n, 3, h, w) -> what the network takes
    task: Learned
    classes: tuple[str, ...]
    ids: np.ndarray  # class id of each output; -1 for none
    image_size_px: int
    digest: str
    detect: DetectConfig
    order: Order | None = None

    def merging(self, order: Order) -> TorchvisionTeacher:
        """Add up the probabilities of classes."""
        return replace(self, order=order, task=logits_task(self.task.kind, len(order)))

    def load(self, device: torch.device | str, looks: Looks | None = None) -> BySize:
        """Copy the network to a device."""
        del looks
        network = copy.deepcopy(self.network).to(device)
        return BySize(self.task.kind, partial(self._label, network, torch.device(device)))

    @torch.inference_mode()
    def _label(self, network: nn.Module, device: torch.device, images: np.ndarray) -> list[Labels]:
        views = self.prepare(torch.from_numpy(images).permute(0, 3, 1, 2).to(device))
        if self.task.kind is Detections:
            return [
                detections(one["boxes"], one["scores"], one["labels"], self.ids, self.detect)
                for one in network(list(views))
            ]
        found = network(views)
        logits = found["out"] if isinstance(found, Mapping) else found
        logits = merged_logits(logits, self.order) if self.order else logits
        task: Any = self.task
        labels: list[Labels] = task.predictions(logits, images.shape[1:3])
        return labels


def open_torchvision(spec: str, wishes: Wishes) -> TorchvisionTeacher:
    """Build the network of NAME, or of NAME:FILE; raises `UserError` in one line."""
    name, _, file = spec.partition(":")
    task_name = _task_of(name)
    if file:
        network, weights, names = _from_file(name, Path(file).expanduser())
    else:
        weights = get_model_weights(name).DEFAULT
        network, names = _from_hub(name, weights), weights.meta["categories"]
    prepare = weights.transforms()
    if task_name == "detection":
        wishes.require_own_nms()
        task: Learned = Foreign.of(task_name)
        (classes, ids), usual = named_outputs(names), _DETECTION_SIDE_PX
    else:
        classes, ids = tuple(names), np.arange(len(names))
        task = logits_task(Foreign.of(task_name).kind, len(classes))
        # The short side of a 3:2 photo is then what the transforms resize to: nothing is enlarged.
        usual = prepare.resize_size[0] * 3 // 2
    side = wishes.side(usual)
    facts = {
        "kind": "torchvision", "name": name, "classes": names, "size": side,
        "transforms": repr(prepare),
    }  # fmt: skip
    return TorchvisionTeacher(
        network=network.eval().requires_grad_(requires_grad=False),
        prepare=prepare,
        task=task,
        classes=classes,
        ids=ids,
        image_size_px=side,
        digest=digest_of(facts, network.state_dict()),
        detect=wishes.detect,
    )


def _task_of(name: str) -> str:
    found = {task: list_models(module=module) for task, module in _MODULES.items()}
    for task, names in found.items():
        if name in names:
            return task
    known = [each for names in found.values() for each in names]
    move = did_you_mean(f"torchvision:{name}", [f"torchvision:{each}" for each in known], "")
    move = move or "torchvision.models.list_models() names them"
    raise UserError(
        f"teacher: torchvision has no detector, segmenter or classifier {name!r}; {move}"
    )


def _from_hub(name: str, weights: Any) -> nn.Module:
    """Build the network with torchvision's own weights, downloaded once into torch's cache."""
    try:
        # Read as tensors alone first: what the builder reads again is then known to be no code.
        weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        network: nn.Module = get_model(name, weights=weights, progress=False)
    except Exception as error:  # of the network, the disk, the unpickler
        raise UserError(
            f"teacher: the weights of {name} could not be fetched from {weights.url} "
            f"({reason_of(error)}); pass torchvision:{name}:FILE"
        ) from error
    return network


def _from_file(name: str, path: Path) -> tuple[nn.Module, Any, Sequence[str]]:
    """The network with a file's weights, whose transforms it wants, and its outputs' names."""
    tensors = without_prefixes(read_tensors(path, "teacher"))
    kinds, beside = get_model_weights(name), path.with_suffix(".txt")
    own = published(kinds, hashlib.sha256(path.read_bytes()).hexdigest())
    if own is not None:
        with _downloaded(path, own):
            return _from_hub(name, own), own, own.meta["categories"]
    weights = kinds.DEFAULT
    names = read_names(beside, "teacher") if beside.is_file() else weights.meta["categories"]
    network = _untrained(name, len(names))
    _fill(network, tensors, f"{path} is not of {name} with {len(names)} outputs", beside)
    return network, weights, names


def published(kinds: Any, sha256: str) -> Any:
    """Which of torchvision's own weights a file holds; None for another's. Their URLs tell."""
    return next((each for each in kinds if f"-{sha256[:8]}." in each.url), None)


@contextmanager
def _downloaded(path: Path, weights: Any) -> Iterator[None]:
    """Let torchvision find a file where it looks for these weights.

    Its builders do more for their own than to load them: to some they give another epsilon.
    """
    cache = torch.hub.get_dir()
    with TemporaryDirectory() as folder:
        place = Path(folder, "checkpoints", Path(weights.url).name)
        place.parent.mkdir()
        place.symlink_to(path.absolute())
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(cache)


def _untrained(name: str, num_outputs: int) -> nn.Module:
    known = inspect.signature(get_model_builder(name)).parameters
    extra = {key: value for key, value in _UNTRAINED.items() if key in known}
    extra |= _INCEPTION if name in _INCEPTIONS else {}
    network: nn.Module = get_model(name, weights=None, num_classes=num_outputs, **extra)
    return network


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], problem: str, beside: Path) -> None:
    """Load weights; all must fit, but for those of training alone."""
    own = network.state_dict()
    given = {k: v for k, v in tensors.items() if k in own or not k.startswith(_AUXILIARY)}
    # Frozen BatchNorms, which torchvision trains detectors with, count no batches.
    own = {k: v for k, v in own.items() if k in given or not k.endswith("num_batches_tracked")}
    wrong = [
        key for key in {**own, **given}
        if key not in own or key not in given or own[key].shape != given[key].shape
    ]  # fmt: skip
    if wrong:
        raise UserError(
            f"teacher: {problem}: {len(wrong)} tensors differ ({', '.join(wrong[:3])}); name its "
            f"outputs in {beside}, a line each, if they are others"
        )
    network.load_state_dict(given, strict=False)
