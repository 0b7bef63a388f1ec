"""`module:Class`: a teacher in a user's own words, a class with `classes` and `predict`.

In: a class that can be imported here and on the workers. Out: a `TeacherSource`. docs/teachers.md
has the contract and an example. Next: `opening.py`.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ray_st.config import UserError
from ray_st.data.labels import Labels
from ray_st.labeling.looks import Looks
from ray_st.labeling.teacher import PredictionError
from ray_st.labeling.teachers.answers import labels_of
from ray_st.labeling.teachers.origin import (
    TASKS,
    Foreign,
    LooksOnce,
    Wishes,
    did_you_mean,
    digest_of,
)
from ray_st.labeling.teachers.pixels import placed_in, unpadded
from ray_st.models.weight_files import reason_of

_SIDE_PX = 640
_LIKE = ("torchvision", "hf", "onnx")  # what a wrong module may have meant


@dataclass(frozen=True, kw_only=True)
class PythonTeacher(LooksOnce):
    """The `TeacherSource` of a class; only its name travels."""

    module: str
    name: str
    source_sha256: str
    task: Foreign
    classes: tuple[str, ...]
    image_size_px: int
    digest: str

    def load(self, device: torch.device | str, looks: Looks | None = None) -> PythonPredictor:
        """Import the class and make one; it chooses its device itself."""
        del device, looks
        made = _imported(self.module, self.name)
        if _source_sha256(made) != self.source_sha256:
            raise UserError(
                f"teacher: {self.module}:{self.name} is another version on this worker "
                f"({inspect.getfile(made)}); ship one, as with ray job submit --working-dir ."
            )
        try:
            teacher = made()
        except Exception as error:
            raise UserError(
                f"teacher: {self.module}:{self.name} could not be made ({_said(error)})"
            ) from error
        return PythonPredictor(teacher, self.task.kind, len(self.classes))


class PythonPredictor:
    """Asks the class for labels, and checks every answer."""

    def __init__(self, teacher: Any, kind: type[Labels], num_classes: int) -> None:
        self._teacher, self._kind, self._num_classes = teacher, kind, num_classes

    @property
    def kind(self) -> type[Labels]:
        """The kind of labels that it gives."""
        return self._kind

    def predict(self, pixels: np.ndarray, sizes_hw: np.ndarray) -> list[Labels]:
        """Label fitted views, all in one call. Raises `PredictionError` naming image and field."""
        placed = placed_in(sizes_hw, pixels.shape[1])
        images = unpadded(pixels, placed)
        try:
            answers = self._teacher.predict(images)
        except Exception as error:
            raise PredictionError(f"predict raised {_said(error)}") from error
        if not isinstance(answers, Sequence) or len(answers) != len(images):
            got = len(answers) if isinstance(answers, Sequence) else type(answers).__name__
            raise PredictionError(f"predict must return a list of {len(images)}, got {got}")
        found = []
        for i, (answer, one) in enumerate(zip(answers, placed, strict=True)):
            try:
                labels = labels_of(answer, self._kind, one.resized_hw, self._num_classes)
            except PredictionError as error:
                height, width = one.resized_hw
                raise PredictionError(
                    f"predict gave for image {i} of {len(images)} ({height} x {width}): {error}"
                ) from error
            found.append(labels.in_source(one))
        return found


def open_class(spec: str, wishes: Wishes) -> PythonTeacher:
    """Import the class and check it; raises `UserError` in one line."""
    module, _, name = spec.partition(":")
    made = _imported(module, name)
    wishes.require_own_nms()
    classes = getattr(made, "classes", None)
    is_named = isinstance(classes, Iterable) and not isinstance(classes, str)
    names = tuple(classes) if is_named and classes is not None else ()
    task, own = getattr(made, "task", "detection"), getattr(made, "digest", "")
    for is_right, what in (
        (inspect.isclass(made), f"must be a class, got {type(made).__name__}"),
        (
            names and all(isinstance(each, str) for each in names),
            f"must have classes, a list of names, got {classes!r}",
        ),
        (len({*names}) == len(names), f"must have each class once, got {[*names]}"),
        (callable(getattr(made, "predict", None)), "must have a method predict(self, images)"),
        (isinstance(own, str), f"must have a digest that is text, got {own!r}"),
        (task in TASKS, f"must have a task of {', '.join(TASKS)}, got {task!r}"),
    ):
        if not is_right:
            raise UserError(f"teacher: {spec} {what}; see docs/teachers.md")
    side = wishes.side(_SIDE_PX)
    source = _source_sha256(made)
    facts = {"kind": "class", "name": spec, "task": task, "classes": names, "size": side}
    return PythonTeacher(
        module=module,
        name=name,
        source_sha256=source,
        task=Foreign.of(task),
        classes=names,
        image_size_px=side,
        digest=digest_of({**facts, "source": source, "digest": own}, b""),
    )


def _imported(module: str, name: str) -> Any:
    # A console script, unlike `python -m`, does not look where it stands; Ray's workers do.
    here = os.getcwd()  # noqa: PTH109 - text, as sys.path holds
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever its code raises
        lacks = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        move = did_you_mean(f"{module}:", [f"{each}:" for each in _LIKE], "") if lacks else ""
        move = move or "it must lie in this folder or be installed"
        raise UserError(f"teacher: {module} cannot be imported ({_said(error)}); {move}") from error
    if not hasattr(found, name):
        own = [each for each, value in vars(found).items() if inspect.isclass(value)]
        move = did_you_mean(name, own, f"see {found.__file__}")
        raise UserError(f"teacher: {module} has no class {name!r}; {move}")
    return getattr(found, name)


def _source_sha256(made: Any) -> str:
    return hashlib.sha256(Path(inspect.getfile(made)).read_bytes()).hexdigest()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {reason_of(error)}"
