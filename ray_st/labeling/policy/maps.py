"""Class maps to choose pixels from, one image open at a time.

In: LABEL_ROWs of class maps. Out: `MapPredictions`. Next: `classes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa

from ray_st.data.labels import IGNORE, SegmentationMap
from ray_st.data.rows import label_row, unpack
from ray_st.labeling.policy.config import PolicyConfig
from ray_st.labeling.policy.tally import Judged, Tally, pseudo_rows

_LEVELS = 256  # of confidence, and of class ids
_NEVER = 256  # a confidence that no pixel has


@dataclass(frozen=True, kw_only=True, eq=False)
class MapPredictions:
    """The `Predictions` of segmentation; a key is the confidence of a pixel."""

    rows: pa.Table

    KEY_BITS: ClassVar[int] = 8

    @classmethod
    def of(cls, rows: pa.Table, policy: PolicyConfig) -> Self:
        """Take LABEL_ROWs; maps are opened when they are needed."""
        del policy  # nothing goes before thresholds
        return cls(rows=rows)

    @classmethod
    def judged(cls, truths: pa.Table, predictions: pa.Table, policy: PolicyConfig) -> Judged:
        """Compare pixel by pixel; maps of another size than their truth do not count."""
        del policy
        every, right = np.zeros((2, _LEVELS, _LEVELS), np.int64)
        row_of = {i: n for n, i in enumerate(predictions.column("image_id").to_pylist())}
        for n, image_id in enumerate(truths.column("image_id").to_pylist()):
            if image_id not in row_of:
                continue
            truth = unpack(truths.slice(n, 1))[0].class_map
            guess = unpack(predictions.slice(row_of[image_id], 1))[0]
            if guess.class_map.shape == truth.shape:
                counts = truth != IGNORE
                every += _histogram(guess, counts)
                right += _histogram(guess, counts & (guess.class_map == truth))
        tally = _tally(every)
        return Judged(tally=tally, right=right[tally.class_ids, tally.keys])

    @staticmethod
    def scores_of(keys: np.ndarray) -> np.ndarray:
        """Confidences rest as probability * 255, rounded down."""
        scores: np.ndarray = keys / 255
        return scores

    @staticmethod
    def counted(rows: pa.Table, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Share of each image's pixels that have a class, and how many pixels each class has."""
        amounts, pixels = np.zeros(rows.num_rows), np.zeros(_LEVELS, np.int64)
        for i, one in enumerate(_opened(rows)):
            amounts[i] = one.amount()
            pixels += np.bincount(one.class_map.ravel(), minlength=_LEVELS)
        return amounts, pixels[:num_classes]

    def tally(self) -> Tally:
        """Count all pixels."""
        found = np.zeros((_LEVELS, _LEVELS), np.int64)
        for one in _opened(self.rows):
            found += _histogram(one, one.class_map != IGNORE)
        return _tally(found)

    def accepted(self, thresholds: np.ndarray, policy: PolicyConfig) -> pa.Table:
        """Set pixels below their class's threshold to IGNORE.

        Confidences are dropped, unless they are soft targets.
        """
        least = np.full(_LEVELS, _NEVER, np.uint16)
        least[: len(thresholds)] = np.minimum(np.ceil(thresholds * 255), _NEVER)
        columns: list[list[pa.Array]] = [
            SegmentationMap.to_columns([_cut(one, least, soft=policy.soft_targets)])
            for one in _opened(self.rows)
        ]
        fields = range(len(SegmentationMap.FIELDS))
        none = pa.array([], pa.large_binary())
        joined = [pa.concat_arrays([none, *(each[f] for each in columns)]) for f in fields]
        return pseudo_rows(self.rows, joined, label_row(SegmentationMap))


def _opened(rows: pa.Table) -> Iterator[SegmentationMap]:
    return (unpack(rows.slice(i, 1))[0] for i in range(rows.num_rows))


def _confidence(one: SegmentationMap) -> np.ndarray:
    return np.full_like(one.class_map, 255) if one.confidence is None else one.confidence


def _cut(one: SegmentationMap, least: np.ndarray, *, soft: bool) -> SegmentationMap:
    kept = _confidence(one) >= least[one.class_map]
    return SegmentationMap(
        class_map=np.where(kept, one.class_map, np.uint8(IGNORE)),
        confidence=one.confidence if soft else None,
    )


def _histogram(one: SegmentationMap, where: np.ndarray) -> np.ndarray:
    """Pixels by class (rows) and confidence."""
    pairs = one.class_map[where].astype(np.int64) * _LEVELS + _confidence(one)[where]
    return np.bincount(pairs, minlength=_LEVELS**2).reshape(_LEVELS, _LEVELS)


def _tally(histogram: np.ndarray) -> Tally:
    class_ids, keys = np.nonzero(histogram)
    return Tally(class_ids=class_ids, keys=keys, counts=histogram[class_ids, keys])
