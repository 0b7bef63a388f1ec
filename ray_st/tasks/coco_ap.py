"""How good boxes are: COCO's AP and AR, and plain precision and recall.

In: two LABEL_ROW tables, truths and predictions, matched by `image_id`; the truths say which
images count, and an image without predictions counts. Out: named figures. Next: `soft_targets.py`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ray_st.data.labels import Detections

_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")


def box_ap(truths: pa.Table, predictions: pa.Table, classes: Sequence[str]) -> dict[str, float]:
    """COCO box AP and AR in 0..100, over all classes and as `AP/<class>`; NaN where no box counts.

    Sizes (APs, APm, APl) go by the truths' `areas_px` and the predictions' boxes; crowd regions
    are as in COCO. Class ids index `classes`.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports by printing
        truth, guess = _coco(truths, classes), _coco(predictions, classes)
        # A prediction placed in its source image may still carry its area in the view.
        for annotation in guess.anns.values():
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        evaluation = COCOeval(truth, guess, "bbox")
        evaluation.params.imgIds = sorted(set(truths.column("image_id").to_pylist()))
        evaluation.params.catIds = list(range(1, len(classes) + 1))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = dict(zip(_NAMES, map(_percent, evaluation.stats[: len(_NAMES)]), strict=True))
    # IoU, recall, class, area, detections -> all areas, 100 detections.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    for k, name in enumerate(classes):
        figures[f"AP/{name}"] = _percent(precision[:, :, k].mean())
    return figures


def _percent(value: float) -> float:
    return float("nan") if value < 0 else 100 * float(value)  # pycocotools: -1 for no such boxes


def _coco(table: pa.Table, classes: Sequence[str]) -> Any:
    index, boxes = Detections.together(table)
    image_ids = table.column("image_id").to_numpy()
    corner, size = boxes.boxes_xyxy[:, :2], boxes.boxes_xyxy[:, 2:] - boxes.boxes_xyxy[:, :2]
    columns = (
        image_ids[index].tolist(),
        (boxes.class_ids + 1).tolist(),
        np.concatenate([corner, size], axis=1).tolist(),
        boxes.areas_px.tolist(),
        boxes.is_crowd.astype(int).tolist(),
        boxes.scores.tolist(),
    )
    keys = ("image_id", "category_id", "bbox", "area", "iscrowd", "score")
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in image_ids.tolist()],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(classes)],
        # Ids from 1: pycocotools reads 0 as "not matched".
        "annotations": [
            {"id": i + 1, **dict(zip(keys, row, strict=True))}
            for i, row in enumerate(zip(*columns, strict=True))
        ],
    }
    coco.createIndex()
    return coco


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Predictions beside the true boxes of the same images."""

    guess: Detections  # on images that have a truth
    judged: Bool[np.ndarray, " g"]  # false for a wrong one in a crowd region
    right: Bool[np.ndarray, " g"]
    found: Bool[np.ndarray, " t"]
    sought: Bool[np.ndarray, " t"]  # true boxes that are no crowds


def precision_recall(
    truths: pa.Table, predictions: pa.Table, *, iou: float = 0.5
) -> tuple[float, float]:
    """Share 0..1 of predictions that are right, and of true boxes that were found; see `compare`.

    NaN where there is nothing to take a share of.
    """
    seen = compare(truths, predictions, iou=iou)
    return _share(seen.right, of=seen.judged), _share(seen.found, of=seen.sought)


def compare(truths: pa.Table, predictions: pa.Table, *, iou: float = 0.5) -> Comparison:
    """Say of each prediction whether it is right, and of each true box whether it was found.

    Best score first, each prediction takes the free true box of its class and image with the
    highest IoU, if at least `iou`: worse predictions decide nothing about better ones. True crowd
    regions are not to be found, and predictions that lie in one by that share are not judged;
    predicted ones predict nothing.
    """
    image, truth = Detections.together(truths)
    order = {i: n for n, i in enumerate(truths.column("image_id").to_pylist())}
    row, guess = Detections.together(predictions)
    row_image = np.array(
        [order.get(i, -1) for i in predictions.column("image_id").to_pylist()], np.int64
    )
    known = (row_image[row] >= 0) & ~guess.is_crowd
    guess_image, guess = row_image[row][known], guess[known]

    g, t = _same_image_and_class(guess_image, guess, image, truth)
    shared, union, own = _overlap(guess.boxes_xyxy[g], truth.boxes_xyxy[t])
    crowd = truth.is_crowd[t]
    touches = shared / np.where(crowd, own, union) >= iou
    g, t, crowd, overlap = g[touches], t[touches], crowd[touches], (shared / union)[touches]

    found, right = np.zeros(len(truth), bool), np.zeros(len(guess), bool)
    best_first = np.lexsort((-overlap, g, -guess.scores[g]))
    for n in best_first[~crowd[best_first]]:
        if not right[g[n]] and not found[t[n]]:
            right[g[n]] = found[t[n]] = True
    judged = right.copy()
    judged[np.setdiff1d(np.arange(len(guess)), g[crowd])] = True
    return Comparison(guess=guess, judged=judged, right=right, found=found, sought=~truth.is_crowd)


def _share(part: np.ndarray, *, of: np.ndarray) -> float:
    return float(part.sum() / of.sum()) if of.any() else float("nan")


def _same_image_and_class(
    guess_image: np.ndarray, guess: Detections, image: np.ndarray, truth: Detections
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of every pair of a prediction and a true box of the same image and class."""
    num_classes = max(guess.class_ids.max(initial=0), truth.class_ids.max(initial=0)) + 1
    guess_key = guess_image * num_classes + guess.class_ids
    key = image * num_classes + truth.class_ids
    by_key = np.argsort(key, kind="stable")
    start, stop = (np.searchsorted(key[by_key], guess_key, side) for side in ("left", "right"))
    counts = stop - start
    g = np.repeat(np.arange(len(guess)), counts)
    within = np.arange(len(g)) - np.repeat(np.cumsum(counts) - counts, counts)
    return g, by_key[start[g] + within]


def _overlap(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (n, 4) twice -> shared area, union area and area of `a`, each (n)."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    own = (a[:, 2:] - a[:, :2]).prod(axis=1)
    return shared, own + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared, own
