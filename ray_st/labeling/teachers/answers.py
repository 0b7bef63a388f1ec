"""What a class from outside returned: turned into labels, or one line that says what is wrong.

In: the answer for one image, its size. Out: `Labels`, or `PredictionError`. Next:
`python_class.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ray_st.data.labels import IGNORE, ClassLabel, Detections, Labels, SegmentationMap
from ray_st.labeling.teacher import PredictionError

_FIELDS: dict[type[Labels], tuple[str, ...]] = {
    Detections: ("boxes_xyxy", "scores", "class_ids"),
    SegmentationMap: ("class_map", "confidence"),
    ClassLabel: ("class_ids", "scores"),
}


def labels_of(
    answer: object, kind: type[Labels], size_hw: tuple[int, int], num_classes: int
) -> Labels:
    """Check an answer and give it the form of labels; plain dicts and labels are alike.

    Boxes are clipped to the image, and left out where nothing of them is on it; both orders of
    corners are not: a box whose right lies left of its left is refused.
    """
    found = {name: _array(value, name) for name, value in _fields(answer, kind).items()}
    if kind is SegmentationMap:
        return _map(found, size_hw, num_classes)
    scores, ids = found["scores"], found["class_ids"]
    _require(scores.ndim == 1, "scores", "of shape (n,)", scores.shape)
    _require(ids.shape == scores.shape, "class_ids", f"of shape {scores.shape}", ids.shape)
    _require_ids(ids, "class_ids", num_classes)
    _require_shares(scores, "scores")
    order = np.argsort(-scores, kind="stable")
    if kind is ClassLabel:
        _require(len(np.unique(ids)) == len(ids), "class_ids", "each class once", ids.tolist())
        return ClassLabel.of(ids[order], scores[order])
    boxes = found["boxes_xyxy"]
    _require(boxes.shape == (len(ids), 4), "boxes_xyxy", f"of shape ({len(ids)}, 4)", boxes.shape)
    _require_numbers(boxes, "boxes_xyxy")
    turned = boxes[(boxes[:, 2:] < boxes[:, :2]).any(axis=1)]
    rule = "left, top, right, bottom"
    _require(not len(turned), "boxes_xyxy", rule, turned[:1].tolist())
    return Detections.of(boxes, ids, scores=scores)[order].within(size_hw)


def _fields(answer: object, kind: type[Labels]) -> dict[str, object]:
    wanted = _FIELDS[kind]
    if isinstance(answer, ClassLabel):
        answer = {"class_ids": answer.top_class_ids, "scores": answer.top_scores}
    elif isinstance(answer, Labels):
        answer = {name: getattr(answer, name) for name in wanted if hasattr(answer, name)}
    _require(isinstance(answer, Mapping), "it", f"a dict of {_words(wanted)}", type(answer))
    assert isinstance(answer, Mapping)
    given = {k: v for k, v in answer.items() if v is not None}
    needed = [name for name in wanted if name != "confidence"]
    is_right = {*needed} <= {*given} <= {*wanted}
    _require(is_right, "it", f"a dict of {_words(wanted)}", sorted(map(str, given)))
    return {name: given[name] for name in wanted if name in given}


def _array(value: object, name: str) -> np.ndarray:
    """Lists, arrays and tensors alike; an empty list has the shape of no box."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PredictionError(f"{name} must be an array, got {error}") from error
    if name == "boxes_xyxy" and array.size == 0:
        array = array.reshape(0, 4)
    is_number = array.dtype.kind in "iuf" or array.size == 0
    _require(is_number, name, "numbers", array.dtype)
    return array


def _map(found: Mapping[str, np.ndarray], size_hw: tuple[int, int], num_classes: int) -> Labels:
    class_map, confidence = found["class_map"], found.get("confidence")
    _require(class_map.shape == size_hw, "class_map", f"of shape {size_hw}", class_map.shape)
    _require_ids(class_map[class_map != IGNORE], "class_map", num_classes, f" or {IGNORE}")
    if confidence is not None:
        shape = confidence.shape
        _require(shape == size_hw, "confidence", f"of shape {size_hw}", shape)
        if confidence.dtype != np.uint8:
            _require_shares(confidence, "confidence")
            confidence = (confidence * 255).astype(np.uint8)
    return SegmentationMap(class_map=class_map.astype(np.uint8), confidence=confidence)


def _require_ids(ids: np.ndarray, name: str, num_classes: int, other: str = "") -> None:
    is_whole = ids.dtype.kind in "iu" or ids.size == 0
    _require(is_whole, name, "of whole numbers", ids.dtype)
    wrong = ids[(ids < 0) | (ids >= num_classes)]
    _require(not wrong.size, name, f"0..{num_classes - 1}{other}", wrong[:1].tolist())


def _require_shares(values: np.ndarray, name: str) -> None:
    _require_numbers(values, name)
    wrong = values[(values < 0) | (values > 1)]
    _require(not wrong.size, name, "in 0..1", wrong[:1].tolist())


def _require_numbers(values: np.ndarray, name: str) -> None:
    _require(bool(np.isfinite(values).all()), name, "finite numbers", "NaN or infinity")


def _require(condition: bool, name: str, rule: str, got: object) -> None:  # noqa: FBT001 - as `require`
    if not condition:
        raise PredictionError(f"{name} must be {rule}, got {got}")


def _words(names: tuple[str, ...]) -> str:
    return ", ".join(names)
