"""Scored predictions in brief: what thresholds are chosen from.

In: classes and keys. Out: `Tally`. A key is a whole number that grows with the score: exact, and
its digits can be counted. Next: `suppression.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int64

from ray_st.data.labels import Origin
from ray_st.labeling.policy.config import PolicyConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """How many predictions there are of a class and a key; the same pair may stand repeatedly."""

    class_ids: Int64[np.ndarray, " n"]
    keys: Int64[np.ndarray, " n"]  # 0 or more
    counts: Int64[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Predictions on images whose truth is known."""

    tally: Tally
    right: Int64[np.ndarray, " n"]  # how many of `tally.counts` are right


SCORE_BITS = 30
_BITS_OF_ONE = 0x3F800000  # from 0 to 1, bits of float32 as whole numbers order as scores do


def tally_of(class_ids: np.ndarray, scores: np.ndarray) -> Tally:
    """Count predictions one by one; their keys are the bits of their scores in float32."""
    bits = np.ascontiguousarray(scores, np.float32).view(np.int32).astype(np.int64)
    return Tally(
        class_ids=class_ids.astype(np.int64),
        keys=bits.clip(0, _BITS_OF_ONE),
        counts=np.ones(len(scores), np.int64),
    )


def scores_of(keys: np.ndarray) -> Float[np.ndarray, " n"]:
    """Read the scores back out of the keys of `tally_of`."""
    return keys.astype(np.int32).view(np.float32).astype(np.float64)


class Predictions(Protocol):
    """Raw predictions of some images, of one kind, ready to be chosen from."""

    KEY_BITS: ClassVar[int]  # a key is below 2**KEY_BITS

    @classmethod
    def of(cls, rows: pa.Table, policy: PolicyConfig) -> Self:
        """Read LABEL_ROWs; what goes before thresholds (NMS) is done."""

    @classmethod
    def judged(cls, truths: pa.Table, predictions: pa.Table, policy: PolicyConfig) -> Judged:
        """Compare predictions with the truth of the same images."""

    @staticmethod
    def scores_of(keys: np.ndarray) -> Float[np.ndarray, " n"]:
        """Keys -> scores 0..1, in float64, which as thresholds hold exactly these keys."""

    @staticmethod
    def counted(rows: pa.Table, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Amount of labels of each image (see `Labels.amount`), and how many of each class."""

    def tally(self) -> Tally:
        """Give all that may become labels."""

    def accepted(self, thresholds: Float[np.ndarray, " k"], policy: PolicyConfig) -> pa.Table:
        """LABEL_ROWs of the same images with what reaches its class's threshold."""


def pseudo_rows(rows: pa.Table, columns: Sequence[pa.Array], schema: pa.Schema) -> pa.Table:
    """Give rows other labels, which no person has made; `schema` is their LABEL_ROW."""
    frame = [rows.column(name) for name in ("image_id", "uri", "height_px", "width_px")]
    origin = pa.array(np.full(rows.num_rows, int(Origin.PSEUDO), np.int8))
    return pa.table([*frame, origin, *columns], schema=schema)
