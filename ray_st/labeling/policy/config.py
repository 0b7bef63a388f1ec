"""What a user says of pseudo labels: the section `policy` of a recipe, checked.

In: a recipe or flags. Out: `PolicyConfig`. What each field does, with examples: docs/policy.md.
Next: `tally.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from ray_st.config import UserError, nearest, require
from ray_st.data.labels import ClassLabel, Detections, Labels, SegmentationMap

_TASKS: dict[type[Labels], str] = {
    Detections: "detection",
    SegmentationMap: "segmentation",
    ClassLabel: "classification",
}
_BOXES_ALONE = ("ignore_from", "min_size_px", "max_per_image", "nms")
_WITHOUT_EFFECT: dict[type[Labels], tuple[str, ...]] = {
    Detections: ("soft_targets",),
    SegmentationMap: (*_BOXES_ALONE, "max_per_class"),
    ClassLabel: _BOXES_ALONE,
}


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which raw predictions become pseudo labels."""

    score_threshold: float = 0.5
    """Lowest score of a pseudo label, 0..1 (the paper: 0.5)."""
    class_thresholds: tuple[str, ...] = ()
    """Lowest scores of single classes, such as "person 0.6"; over every other threshold."""
    target_precision: float | None = None
    """Choose each class's lowest threshold that has this precision, 0..1, on a hold-out."""
    holdout: str | None = None
    """Labelled images with the teacher's predictions: the --out folder of `ray-st eval`. With it
    is said how good the teacher is, and how the labels compare with people's."""
    balance_share: float | None = None
    """Keep this share of each class's predictions, 0..1, the best ones (CBST)."""
    max_per_class: int | None = None
    """Keep at most so many labels of each class in the whole pool, the best ones."""
    ignore_from: float | None = None
    """Boxes from this score on that are no labels are no background either, 0..1."""
    min_size_px: float = 0.0
    """Least side of a box, in pixels of the source image."""
    max_per_image: int | None = None
    """Keep at most so many boxes of an image, the best ones."""
    nms: Literal["none", "hard", "soft"] = "none"
    """Suppress stored boxes once more, before all else; soft lowers scores."""
    nms_iou: float = 0.5
    """Hard NMS: overlap (IoU) with a better box of its class above which a box goes."""
    soft_nms_sigma: float = 0.3
    """Soft NMS: scores fall by exp(-IoU^2 / (2 sigma))."""
    soft_targets: bool = False
    """Labels keep the teacher's probabilities, and the student learns these."""

    def __post_init__(self) -> None:
        for name in ("score_threshold", "target_precision", "ignore_from", "nms_iou"):
            value = getattr(self, name)
            require(value is None or 0 <= value <= 1, f"policy.{name}", "in [0, 1]", value)
        for name in ("max_per_class", "max_per_image"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"policy.{name}", "at least 1", value)
        share, size, sigma = self.balance_share, self.min_size_px, self.soft_nms_sigma
        rule = "above 0, at most 1"
        require(share is None or 0 < share <= 1, "policy.balance_share", rule, share)
        require(0 <= size < math.inf, "policy.min_size_px", "0 or more", size)
        require(0 < sigma < math.inf, "policy.soft_nms_sigma", "above 0", sigma)
        _parsed(self.class_thresholds)
        self._require_effect()

    def _require_effect(self) -> None:
        """Refuse fields that other fields leave nothing to do."""
        if self.target_precision is not None:
            self._require_default("balance_share", "beside policy.target_precision")
        for name in ("target_precision", "balance_share"):
            if getattr(self, name) is not None:
                self._require_default("score_threshold", f"beside policy.{name}")
        for name, needed in (("nms_iou", "hard"), ("soft_nms_sigma", "soft")):
            if self.nms != needed:
                self._require_default(name, f"unless policy.nms is {needed}")
        # Each of these may keep a box at any score from being a label.
        others = (self.balance_share, self.target_precision, self.max_per_image, self.max_per_class)
        if self.ignore_from is not None and {*others} == {None} and self.min_size_px == 0:
            highest = max(self.score_threshold, *_parsed(self.class_thresholds).values(), 0.0)
            rule = "below a threshold"
            require(self.ignore_from < highest, "policy.ignore_from", rule, self.ignore_from)

    def _require_default(self, name: str, when: str) -> None:
        default = next(field.default for field in fields(self) if field.name == name)
        value, rule = getattr(self, name), f"left out {when}"
        hint = "" if default is None else f"pass {default}"
        require(value == default, f"policy.{name}", rule, value, hint)

    def require_known(self, kind: type[Labels], classes: Sequence[str]) -> None:
        """Refuse what is nothing to this kind of labels, and names that are no class of them."""
        for name in _WITHOUT_EFFECT[kind]:
            self._require_default(name, f"for {_TASKS[kind]}")
        for name in _parsed(self.class_thresholds):
            if name not in classes:
                near = nearest(name, classes)
                move = f"did you mean {near}?" if near else f"the classes are {list(classes)}"
                raise UserError(f"policy.class_thresholds: {name!r} is no class; {move}")

    def by_class(self, classes: Sequence[str]) -> dict[int, float]:
        """Class id -> threshold, for those of `class_thresholds`."""
        ids = {name: k for k, name in enumerate(classes)}
        return {ids[name]: score for name, score in _parsed(self.class_thresholds).items()}


def _parsed(class_thresholds: Sequence[str]) -> dict[str, float]:
    """Texts such as "traffic light 0.6" -> class and score."""
    found: dict[str, float] = {}
    for text in class_thresholds:
        name, _, number = text.strip().rpartition(" ")
        try:
            score = float(number)
        except ValueError:
            score = math.nan
        is_right = name.strip() != "" and 0 <= score <= 1
        rule = "a class and a score in [0, 1], such as 'person 0.6'"
        require(is_right, "policy.class_thresholds", rule, text)
        require(name.strip() not in found, "policy.class_thresholds", "one score a class", text)
        found[name.strip()] = score
    return found
