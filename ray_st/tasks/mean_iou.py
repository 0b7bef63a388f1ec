"""How good class maps are: intersection over union of each class, over all pixels of a set.

In: two LABEL_ROW tables, truths and predictions, matched by `image_id`; the truths say which images
count. Out: named figures. Next: `classification.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from ray_st.data.labels import IGNORE
from ray_st.data.rows import unpack


def confusion(
    truths: pa.Table, predictions: pa.Table, num_classes: int
) -> Int64[np.ndarray, "k c"]:
    """Pixels by true class (rows) and predicted class (columns); the last column is no class.

    Pixels whose truth is IGNORE do not count; an image without a prediction of its own size is all
    in the last column.
    """
    counts = np.zeros((num_classes, num_classes + 1), np.int64)
    row_of = {i: n for n, i in enumerate(predictions.column("image_id").to_pylist())}
    for n, image_id in enumerate(truths.column("image_id").to_pylist()):
        truth = unpack(truths.slice(n, 1))[0].class_map
        guess = np.full_like(truth, IGNORE)
        if image_id in row_of:
            found = unpack(predictions.slice(row_of[image_id], 1))[0].class_map
            guess = found if found.shape == truth.shape else guess
        counted = truth != IGNORE
        column = np.minimum(guess[counted], num_classes)
        pair = truth[counted].astype(np.int64) * (num_classes + 1) + column
        counts += np.bincount(pair, minlength=counts.size).reshape(counts.shape)
    return counts


def iou_figures(counts: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """IoU of each class and their mean, over classes that occur; and the share of right pixels.

    In 0..100. NaN for a class that occurs neither in truths nor in predictions.
    """
    right = np.diag(counts).astype(np.float64)
    union = counts.sum(axis=1) + counts[:, :-1].sum(axis=0) - right
    iou = np.divide(right, union, out=np.full(len(classes), np.nan), where=union > 0)
    occurs = ~np.isnan(iou)
    total = counts.sum()
    return {
        "mIoU": 100 * float(iou[occurs].mean()) if occurs.any() else float("nan"),
        "pixel_accuracy": 100 * float(right.sum() / total) if total else float("nan"),
        **{f"IoU/{name}": 100 * float(one) for name, one in zip(classes, iou, strict=True)},
    }
