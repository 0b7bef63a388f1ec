"""COCO annotations to clean labels: checked, mended, counted, grouped by image.

In: the annotations of a COCO file, up to some millions. Out: one `Detections` an image, and what
was mended. Next: `class_folders.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ray_st.config import UserError
from ray_st.data import boxes
from ray_st.data.labels import Detections

_LARGEST = 1e12  # a coordinate beyond this (or NaN, or inf) is no coordinate
_SLACK_PX = 0.01  # x + width of a float file misses the border by this much without being wrong

_Annotations = Sequence[Mapping[str, Any]]


def labels_of(
    uri: str,
    annotations: _Annotations,
    *,
    image_ids: Sequence[int],
    sizes_hw: Sequence[tuple[int, int]],
    class_of: Mapping[int, int],
) -> tuple[list[Detections], dict[str, int]]:
    """Give each image's labels in the order of `image_ids`, and the counts of what was mended."""
    position_of = {image_id: i for i, image_id in enumerate(image_ids)}
    positions = _looked_up(uri, annotations, "image_id", position_of)
    everything = Detections.of(
        _boxes_xyxy(uri, annotations),
        _looked_up(uri, annotations, "category_id", class_of),
        is_crowd=[bool(one.get("iscrowd", 0)) for one in annotations],
    )
    mended, kept, findings = _mended(everything, positions, np.asarray(sizes_hw, np.float32))
    given_px = np.array([_area_px(one) for one in annotations], np.float32)
    areas_px = np.where(given_px > 0, given_px, mended.areas_px)
    by_image = kept[np.argsort(positions[kept], kind="stable")]
    grouped = replace(mended, areas_px=areas_px.astype(np.float32))[by_image]
    ends = np.cumsum(np.bincount(positions[by_image], minlength=len(image_ids))).tolist()
    labels = [grouped[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return labels, {what: count for what, count in findings.items() if count}


def _mended(
    labels: Detections, positions: np.ndarray, sizes_hw: np.ndarray
) -> tuple[Detections, np.ndarray, dict[str, int]]:
    """Clip all boxes; give them, the indices of those that are fit for use, and the counts."""
    raw = labels.boxes_xyxy
    clipped = boxes.clip(raw, sizes_hw.reshape(-1, 2)[positions])
    had_area = (raw[:, 2:] > raw[:, :2]).all(axis=1)
    has_area = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    is_moved = (np.abs(clipped - raw) > _SLACK_PX).any(axis=1)
    mended = Detections.of(clipped, labels.class_ids, is_crowd=labels.is_crowd)
    sound = np.flatnonzero(has_area)
    kept = sound[_first_of_each(mended[sound], positions[sound])]
    findings = {
        "zero_area_boxes_dropped": int((~had_area).sum()),
        "outside_boxes_dropped": int((had_area & ~has_area).sum()),
        "boxes_clipped": int((has_area & is_moved).sum()),
        "duplicate_boxes_dropped": len(sound) - len(kept),
    }
    return mended, kept, findings


def _first_of_each(labels: Detections, positions: np.ndarray) -> np.ndarray:
    """Indices without exact repeats, in the old order."""
    keys = (*labels.boxes_xyxy.T, labels.is_crowd, labels.class_ids, positions)
    order = np.lexsort(keys)  # stable: of equal keys, the first in the file comes first
    is_new = np.ones(len(order), bool)
    is_new[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    return np.sort(order[is_new])


def _looked_up(
    uri: str, annotations: _Annotations, key: str, index_of: Mapping[int, int]
) -> np.ndarray:
    found = [_index(one.get(key), index_of) for one in annotations]
    if -1 in found:
        wrong = annotations[found.index(-1)]
        listed = "images" if key == "image_id" else "categories"
        raise UserError(
            f"{uri}: {key} must be one of the ids under {listed!r}, got {wrong.get(key)!r} in "
            f"annotation {wrong.get('id')}; correct or remove it"
        )
    return np.asarray(found, np.int64)


def _index(value: Any, index_of: Mapping[int, int]) -> int:
    # 3.0 finds 3: tools that pass through pandas write ids so. A list could not be looked up.
    return index_of.get(value, -1) if type(value) in (int, float) else -1


def _boxes_xyxy(uri: str, annotations: _Annotations) -> np.ndarray:
    for one in annotations:
        if not _is_box(one.get("bbox")):
            raise UserError(
                f"{uri}: bbox must be four finite numbers (left, top, width, height), "
                f"got {one.get('bbox')!r} in annotation {one.get('id')}; correct or remove it"
            )
    flat = np.array([one["bbox"] for one in annotations], np.float64).reshape(-1, 4)
    # Added up in float64: 497.63 + 142.37 must be 640.
    return np.concatenate([flat[:, :2], flat[:, :2] + flat[:, 2:]], axis=1).astype(np.float32)


def _is_box(value: Any) -> bool:
    if type(value) is not list or len(value) != 4:
        return False
    return all(type(side) in (int, float) and abs(side) < _LARGEST for side in value)


def _area_px(annotation: Mapping[str, Any]) -> float:
    area: Any = annotation.get("area")
    return float(area) if type(area) in (int, float) and 0 < area < _LARGEST else 0.0
