"""How close a file's results are to the model's own, task by task.

In: arrays that a file gave for some views, the model's outputs for the same. Out: `Agreement`, or
`DisagreementError` beyond the tolerances here; docs/model_export.md says what counts as equal.
Next: `heads.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ray_st.data.labels import ClassLabel, Detections, SegmentationMap
from ray_st.models.retinanet import Outputs
from ray_st.portable.replay import Close, DisagreementError, Found, paired, replayed
from ray_st.tasks.candidates import Candidates, find_candidates
from ray_st.tasks.detection import Detection

SCORES = 1e-3  # scores, probabilities and confidences, 0..1
BOXES_SHARE = 1e-4  # of the view's side: a corner of a box
NUMBERS_SHARE = 1e-4  # of the largest number of an output that is given as it is


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What was compared, and the largest differences that were seen."""

    largest: Mapping[str, float]
    what: str  # is counted in `compared`
    compared: int
    near_ties: int = 0  # times an image agreed but for a choice between equals


def together(parts: Iterable[Agreement]) -> Agreement:
    """The same of several batches."""
    seen = list(parts)
    names = seen[0].largest
    return Agreement(
        largest={name: max(one.largest[name] for one in seen) for name in names},
        what=seen[0].what,
        compared=sum(one.compared for one in seen),
        near_ties=sum(one.near_ties for one in seen),
    )


def boxes_agree(
    got: Mapping[str, np.ndarray],
    outputs: Outputs,
    anchors: Tensor,
    side_px: int,
    task: Detection,
) -> Agreement:
    """Compare boxes as sets; where these differ, see whether near ties explain it."""
    close = Close(scores=SCORES, boxes_px=BOXES_SHARE * side_px)
    expected = [_of_labels(one) for one in task.predictions(outputs, (side_px, side_px))]
    worst, near_ties = [(0.0, 0.0)], 0
    found = _rows(got, task.detect.max_detections)
    for i, (one, wanted) in enumerate(zip(found, expected, strict=True)):
        apart = paired(one, wanted, close)
        if apart is None:
            near_ties += 1
            pool, is_extra = _pool(outputs, i, anchors, side_px, task)
            apart = replayed(one, pool, is_extra, task.detect, close)
        worst.append(apart)
    scores, boxes_px = (max(column) for column in zip(*worst, strict=True))
    return Agreement(
        largest={"scores": scores, "boxes_px": boxes_px},
        what="boxes",
        compared=sum(map(len, expected)),
        near_ties=near_ties,
    )


def _of_labels(one: Detections) -> Found:
    return Found(boxes_xyxy=one.boxes_xyxy, class_ids=one.class_ids, scores=one.scores)


def _rows(got: Mapping[str, np.ndarray], most: int) -> list[Found]:
    """The rows that count, an image; the others must be zeros."""
    boxes, scores, labels, count = (got[name] for name in ("boxes", "scores", "labels", "count"))
    is_row = np.arange(most) < count[:, None]
    if boxes[~is_row].any() or scores[~is_row].any() or labels[~is_row].any():
        raise DisagreementError("rows behind `count` are not 0")
    columns = zip(boxes, labels, scores, count, strict=True)
    return [Found(boxes_xyxy=b[:n], class_ids=k[:n], scores=s[:n]) for b, k, s, n in columns]


def _pool(
    outputs: Outputs, image: int, anchors: Tensor, side_px: int, task: Detection
) -> tuple[Found, np.ndarray]:
    """Candidates of one image, and which of them the floor and the limit alone leave out."""
    detect, one = task.detect, slice(image, image + 1)
    outputs = replace(
        outputs, class_logits=outputs.class_logits[one], box_codes=outputs.box_codes[one]
    )

    def found(floor: float, limit: int) -> Candidates:
        size_hw = (side_px, side_px)
        return find_candidates(
            outputs, anchors, size_hw, score_floor=floor, per=detect.candidates, limit=limit
        )

    strict = found(detect.score_floor, detect.max_candidates)
    every = found(max(0.0, detect.score_floor - SCORES), outputs.class_logits.numel())
    least = strict.scores.min() if len(strict) else 1.0
    wide = every[(every.scores >= least - SCORES) | (every.scores <= detect.score_floor)]
    inside = {row.tobytes() for row in _table(strict)}
    is_extra = np.array([row.tobytes() not in inside for row in _table(wide)], bool)
    columns = (x.numpy() for x in (wide.boxes_xyxy, wide.class_ids, wide.scores))
    boxes, class_ids, scores = columns
    return Found(boxes_xyxy=boxes, class_ids=class_ids, scores=scores), is_extra


def _table(found: Candidates) -> np.ndarray:
    columns = (found.boxes_xyxy, found.class_ids[:, None].float(), found.scores[:, None])
    table: np.ndarray = torch.cat(columns, dim=1).numpy()
    return table


def maps_agree(
    got: Mapping[str, np.ndarray], outputs: Tensor, expected: Sequence[SegmentationMap]
) -> Agreement:
    """Compare every pixel; another class is as good where its probability is as high."""
    worst, near_ties, pixels = 0.0, 0, 0
    for i, wanted in enumerate(expected):
        class_map, confidence = got["class_map"][i], got["confidence"][i]
        size_hw, pixels = wanted.class_map.shape, pixels + wanted.class_map.size
        full = F.interpolate(outputs[i : i + 1], size_hw, mode="bilinear", align_corners=False)
        shares = full[0].softmax(dim=0)
        best, ids = shares.amax(dim=0).numpy(), torch.from_numpy(class_map).long()
        if (class_map >= len(shares)).any():
            raise DisagreementError(f"class_map names class id {class_map.max()}, which is none")
        own = shares.gather(0, ids[None])[0].numpy()
        other = class_map != wanted.class_map
        near_ties += int(other.any())
        worst = max(worst, _within(np.abs(confidence - best), SCORES, "a pixel's confidence"))
        _within((best - own)[other], SCORES, "the class of a pixel: in probability, it")
    return Agreement(
        largest={"confidences": worst}, what="pixels", compared=pixels, near_ties=near_ties
    )


def classes_agree(got: Mapping[str, np.ndarray], expected: Sequence[ClassLabel]) -> Agreement:
    """Compare the probabilities of the likeliest classes; the others must be no likelier."""
    worst, compared = 0.0, 0
    for shares, wanted in zip(got["probabilities"], expected, strict=True):
        ids, scores = wanted.top_class_ids, wanted.top_scores
        worst = max(worst, _within(np.abs(shares[ids] - scores), SCORES, "a probability"))
        others = np.delete(shares, ids)
        _within(others - scores.min(), SCORES, "a class that is not among the likeliest: it")
        compared += len(ids)
    return Agreement(largest={"probabilities": worst}, what="probabilities", compared=compared)


def numbers_agree(got: Mapping[str, np.ndarray], expected: Mapping[str, Tensor]) -> Agreement:
    """Compare every number of every output with the largest of its output as the measure."""
    largest, compared = {}, 0
    for name, wanted in expected.items():
        reference = wanted.numpy()
        if got[name].shape != reference.shape:
            raise DisagreementError(f"{name} has shape {got[name].shape}, not {reference.shape}")
        allowed = NUMBERS_SHARE * max(1.0, float(np.abs(reference).max()))
        largest[name] = _within(np.abs(got[name] - reference), allowed, name)
        compared += reference.size
    return Agreement(largest=largest, what="numbers", compared=compared)


def _within(apart: np.ndarray, allowed: float, what: str) -> float:
    """The largest of some differences; refuses more than is allowed, and NaN."""
    largest = float(apart.max(initial=0.0))
    if not largest <= allowed:
        raise DisagreementError(f"{what} differs by {largest:.2g}, more than {allowed:.2g}")
    return largest
