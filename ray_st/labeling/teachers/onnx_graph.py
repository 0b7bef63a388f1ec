"""`onnx:FILE`: a graph that onnxruntime runs; docs/teachers.md says which inputs and outputs.

In: a file, and its class names beside it. Out: a `TeacherSource`; the file's bytes travel to the
actors. Next: `answers.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ray_st.config import UserError, require
from ray_st.data.labels import Detections, Labels
from ray_st.labeling.looks import Looks
from ray_st.labeling.teacher import Learned, PredictionError
from ray_st.labeling.teachers.class_map import read_names
from ray_st.labeling.teachers.merging import Order, logits_task, merged_logits
from ray_st.labeling.teachers.origin import (
    Foreign,
    LooksOnce,
    Wishes,
    digest_of,
    named_outputs,
    optional,
)
from ray_st.labeling.teachers.pixels import BySize, detections
from ray_st.models.weight_files import reason_of
from ray_st.tasks.detection import DetectConfig

_SIDE_PX = 640
_BOXES = ("boxes", "scores", "labels")
_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
_TASKS_BY_RANK = {2: "classification", 4: "segmentation"}
_RULE = (
    "one input of uint8 or float32, (n, 3, h, w) or (n, h, w, 3), and outputs boxes, scores, "
    "labels, or logits of rank 2 or 4"
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a graph takes images."""

    name: str
    kind: Any  # uint8 or float32
    channels_first: bool
    side_px: int | None  # fixed by the graph; None: any height and width
    is_single: bool  # takes one image a call


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxTeacher(LooksOnce):
    """The `TeacherSource` of a graph."""

    graph: bytes
    plan: Plan
    task: Learned
    classes: tuple[str, ...]
    ids: np.ndarray  # class id of each output; -1 for none
    image_size_px: int
    digest: str
    detect: DetectConfig
    order: Order | None = None

    def merging(self, order: Order) -> OnnxTeacher:
        """Add up the probabilities of classes."""
        return replace(self, order=order, task=logits_task(self.task.kind, len(order)))

    def load(self, device: torch.device | str, looks: Looks | None = None) -> BySize:
        """Make a session; on a GPU where this onnxruntime knows one."""
        del looks
        session = _session(self.graph, torch.device(device))
        label = partial(self._label, session)
        most, cut = int(self.plan.is_single), self.plan.side_px is None
        return BySize(self.task.kind, label, most=most, cut=cut)

    def _label(self, session: Any, images: np.ndarray) -> list[Labels]:
        names = [each.name for each in session.get_outputs()]
        try:
            values = session.run(names, {self.plan.name: _fed(images, self.plan)})
        except Exception as error:  # of onnxruntime, which has a dozen
            raise PredictionError(f"the graph cannot be run ({reason_of(error)})") from error
        found = dict(zip(names, values, strict=True))
        if self.task.kind is Detections:
            return self._boxes([found[name] for name in _BOXES], len(images))
        logits = torch.from_numpy(found["logits"]).float()
        if logits.shape[:2] != (len(images), len(self.classes)):
            raise PredictionError(
                f"logits must be ({len(images)}, {len(self.classes)}, ...), got {[*logits.shape]}"
            )
        if logits.isnan().any():
            raise PredictionError("logits must be numbers, got NaN")
        logits = merged_logits(logits, self.order) if self.order else logits
        task: Any = self.task
        labels: list[Labels] = task.predictions(logits, images.shape[1:3])
        return labels

    def _boxes(self, outputs: Sequence[np.ndarray], count: int) -> list[Labels]:
        if outputs[0].ndim == 2 and count == 1:  # of one image, without a place for others
            outputs = [each[None] for each in outputs]
        boxes, scores, labels = outputs
        if boxes.shape != (count, *scores.shape[1:], 4) or scores.shape != labels.shape:
            raise PredictionError(
                "boxes, scores and labels must be (n, m, 4), (n, m), (n, m), got "
                f"{boxes.shape}, {scores.shape}, {labels.shape} for {count} images"
            )
        wrong = labels[(scores > self.detect.score_floor) & ~_among(labels, len(self.ids))]
        if wrong.size:
            raise PredictionError(f"labels must be 0..{len(self.ids) - 1}, got {wrong[0]}")
        if not np.isfinite(boxes).all() or not np.isfinite(scores).all():
            raise PredictionError("boxes and scores must be finite numbers, got NaN or infinity")
        safe = np.where(_among(labels, len(self.ids)), labels, 0)  # of padding, any number
        of_image = zip(*map(torch.from_numpy, (boxes, scores, safe)), strict=True)
        return [detections(b, s, k, self.ids, self.detect) for b, s, k in of_image]


def _among(labels: np.ndarray, count: int) -> np.ndarray:
    found: np.ndarray = (labels >= 0) & (labels < count)
    return found


def _fed(images: np.ndarray, plan: Plan) -> np.ndarray:
    """uint8 (n, h, w, 3) -> what the graph takes: 0..255 as uint8, 0..1 as float32."""
    fed = images if plan.kind is np.uint8 else images.astype(np.float32) / 255
    return np.ascontiguousarray(fed.transpose(0, 3, 1, 2) if plan.channels_first else fed)


def _session(graph: bytes, device: torch.device) -> Any:
    runtime = optional("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    known = runtime.get_available_providers()
    providers = [*(each for each in wanted if each in known), "CPUExecutionProvider"]
    return runtime.InferenceSession(graph, options, providers=providers)


def open_onnx(file: str, wishes: Wishes) -> OnnxTeacher:
    """Read a graph and its class names; raises `UserError` in one line."""
    optional("onnxruntime", "onnx")
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"teacher: {path} is no file; check the path")
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        raise UserError(f"teacher: {path} names no classes; write them to {beside}, a line each")
    names, graph = read_names(beside, "teacher"), path.read_bytes()
    try:
        session = _session(graph, torch.device("cpu"))
    except Exception as error:  # of onnxruntime, which has a dozen
        raise UserError(
            f"teacher: {path} cannot be read ({reason_of(error)}); it must be one ONNX file, whole "
            "and with its weights inside"
        ) from error
    plan, task_name = _plan(session, path), _task(session, path, len(names))
    require_side(plan, wishes)
    task: Learned = Foreign.of(task_name)
    classes, ids = tuple(names), np.arange(len(names))
    if task_name == "detection":
        wishes.require_own_nms()
        classes, ids = named_outputs(names)
    else:
        task = logits_task(task.kind, len(classes))
    side = plan.side_px or wishes.side(_SIDE_PX)
    facts = {"kind": "onnx", "classes": names, "size": side}
    return OnnxTeacher(
        graph=graph, plan=plan, task=task, classes=classes, ids=ids, image_size_px=side,
        digest=digest_of(facts, graph), detect=wishes.detect,
    )  # fmt: skip


def require_side(plan: Plan, wishes: Wishes) -> None:
    """Refuse views of another size than the graph's own."""
    if plan.side_px is not None:
        got, rule = wishes.image_size_px, f"{plan.side_px} or left out, as the graph has it"
        require(got in (None, plan.side_px), "image_size_px", rule, got)


def _plan(session: Any, path: Path) -> Plan:
    """How the graph takes images; refuses what is none of the ways of `_RULE`."""
    inputs = session.get_inputs()
    shape = [*inputs[0].shape] if len(inputs) == 1 else []
    first, last = shape[1:2] == [3], shape[3:] == [3]
    kind = _TYPES.get(inputs[0].type) if inputs else None
    if len(shape) != 4 or first == last or kind is None:
        raise _refused(session, path)
    count, *sides = (
        each if isinstance(each, int) else None
        for each in (shape[0], *(shape[2:] if first else shape[1:3]))
    )
    if sides[0] != sides[1] or count not in (None, 1):  # views are square
        raise _refused(session, path)
    return Plan(
        name=inputs[0].name, kind=kind, channels_first=first, side_px=sides[0],
        is_single=count == 1,
    )  # fmt: skip


def _task(session: Any, path: Path, num_names: int) -> str:
    shapes = {each.name: [*each.shape] for each in session.get_outputs()}
    if {*_BOXES} <= {*shapes}:
        return "detection"
    shape = shapes.get("logits", [])
    if len(shape) not in _TASKS_BY_RANK:
        raise _refused(session, path)
    if isinstance(shape[1], int) and shape[1] != num_names:
        raise UserError(
            f"teacher: {path} has logits of {shape[1]} classes, {path.with_suffix('.txt')} names "
            f"{num_names}; write one line a class"
        )
    return _TASKS_BY_RANK[len(shape)]


def _refused(session: Any, path: Path) -> UserError:
    both = (session.get_inputs(), session.get_outputs())
    found = [", ".join(f"{x.name} {x.type} {[*x.shape]}" for x in each) for each in both]
    return UserError(
        f"teacher: {path} must have {_RULE}, square or of any size; found input {found[0]}, "
        f"output {found[1]}"
    )
