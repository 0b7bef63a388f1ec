"""`--teacher`: which kind of teacher a text names, and the classes that its labels shall have.

In: what a user wrote. Out: a `TeacherSource`, or `UserError`, before a cluster is touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_st.config import require
from ray_st.labeling.teacher import SavedTeacher, TeacherSource
from ray_st.labeling.teachers.class_map import class_map, target_classes
from ray_st.labeling.teachers.fetched import at_hand
from ray_st.labeling.teachers.hugging_face import open_hugging_face
from ray_st.labeling.teachers.merging import mapped
from ray_st.labeling.teachers.onnx_graph import open_onnx
from ray_st.labeling.teachers.origin import Wishes
from ray_st.labeling.teachers.python_class import open_class
from ray_st.labeling.teachers.torchvision_model import open_torchvision
from ray_st.models.saved import read_model
from ray_st.tasks import make_task

_SCHEMES: dict[str, Callable[[str, Wishes], TeacherSource]] = {
    "torchvision": open_torchvision,
    "hf": open_hugging_face,
    "onnx": open_onnx,
}
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A teacher, and which of its classes its labels leave out."""

    source: TeacherSource
    is_foreign: bool
    dropped: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What is to be said before it labels; a line each."""
        if not self.dropped:
            return []
        names = ", ".join(self.dropped[:8]) + (" ..." if len(self.dropped) > 8 else "")
        return [f"{len(self.dropped)} classes of the teacher become none and are dropped: {names}"]

    @property
    def facts(self) -> dict[str, Any]:
        """What a summary says of it."""
        return {"dropped_classes": list(self.dropped)} if self.dropped else {}


def open_teacher(
    uri: str,
    wishes: Wishes,
    classes: str | None = None,
    pairs: Sequence[str] | Mapping[str, str] = (),
) -> Opened:
    """Open a teacher of any kind.

    Args:
        uri: a model folder, torchvision:NAME[:FILE], hf:FOLDER_OR_ID, onnx:FILE or module:Class;
            files and folders here or in a bucket.
        wishes: size of views, and what is ours to say of detectors.
        classes: file of class names, or a labelled set; None: the teacher's own.
        pairs: teacher class -> target class.
    """
    source = _opened(uri, wishes)
    target = None if classes is None else target_classes(classes)
    to = class_map(source.classes, target, pairs)
    is_foreign = not isinstance(source, SavedTeacher)
    if to is None:
        return Opened(source=source, is_foreign=is_foreign)
    return Opened(source=mapped(source, to), is_foreign=is_foreign, dropped=to.dropped)


def _opened(uri: str, wishes: Wishes) -> TeacherSource:
    scheme, _, rest = uri.partition(":")
    if Path(uri).exists():
        return _folder(uri, wishes)
    if scheme in _SCHEMES:
        with at_hand(rest, is_folder=scheme == "hf") as here:
            return _SCHEMES[scheme](here, wishes)
    return open_class(uri, wishes) if _CLASS.match(uri) else _folder(uri, wishes)


def _folder(uri: str, wishes: Wishes) -> SavedTeacher:
    """What `ray-st train` left."""
    saved = read_model(uri, "teacher")
    card = saved.card
    rule = f"left out, for this teacher has learned to see {card.model.image_size_px} px"
    require(wishes.image_size_px is None, "image_size_px", rule, wishes.image_size_px)
    task = make_task(card.task, card.model, len(card.classes), wishes.detect)
    return SavedTeacher(saved=saved, task=task)
