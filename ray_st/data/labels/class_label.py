"""The class of one image, or the few likeliest ones.

In: class ids and scores. Out: `ClassLabel`. Next: `../rows.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int32

from ray_st.data.affine import Affine
from ray_st.data.labels.labels import Labels
from ray_st.data.labels.ragged import ragged_columns, split
from ray_st.data.placed import Placed


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassLabel(Labels):
    """Classes of one image, likeliest first: none where nothing is known, one for a hard label.

    Several are what a teacher found likely: raw predictions, and soft targets.
    """

    top_class_ids: Int32[np.ndarray, " n"]  # index into the data set's class list, from 0
    top_scores: Float32[np.ndarray, " n"]  # probability 0..1; 1 for a human label

    AMOUNT: ClassVar[str] = "labelled_share"
    FIELDS: ClassVar[pa.Schema] = pa.schema(
        [("top_class_ids", pa.list_(pa.int32())), ("top_scores", pa.list_(pa.float32()))]
    )

    @classmethod
    def of(
        cls,
        class_ids: Sequence[int] | np.ndarray = (),
        scores: Sequence[Any] | np.ndarray | None = None,
    ) -> ClassLabel:
        """Build from plain lists; scores default to 1."""
        ids = np.asarray(class_ids, np.int32).reshape(-1)
        given = np.ones(len(ids)) if scores is None else scores
        return cls(top_class_ids=ids, top_scores=np.asarray(given, np.float32))

    @classmethod
    def unknown(cls) -> ClassLabel:
        """No class."""
        return cls.of()

    @classmethod
    def to_columns(cls, labels: Sequence[ClassLabel]) -> list[pa.Array]:
        """Ragged columns."""
        return ragged_columns(labels, cls.FIELDS)

    @classmethod
    def from_columns(cls, table: pa.Table) -> list[ClassLabel]:
        """One `ClassLabel` a row, in order."""
        ids, scores = (split(table.column(name)) for name in cls.FIELDS.names)
        return [cls(top_class_ids=i, top_scores=s) for i, s in zip(ids, scores, strict=True)]

    @classmethod
    def any_in(cls, table: pa.Table) -> bool:
        """Say whether any image has a class."""
        return len(table["top_class_ids"].combine_chunks().flatten()) > 0

    @property
    def is_soft(self) -> bool:
        """Whether it has probabilities of several classes."""
        return len(self.top_class_ids) > 1

    def amount(self) -> float:
        """1 with a class, 0 without."""
        return float(len(self.top_class_ids) > 0)

    def above(self, threshold: float) -> ClassLabel:
        """Keep the likeliest class, if it scores at least this."""
        keep = self.top_scores[:1] >= threshold
        return ClassLabel(
            top_class_ids=self.top_class_ids[:1][keep], top_scores=self.top_scores[:1][keep]
        )

    def mirrored(self, width_px: int) -> ClassLabel:
        """Stay: a class has no place."""
        del width_px
        return self

    def warped(self, warp: Affine, size_hw: tuple[int, int]) -> ClassLabel:
        """Stay."""
        del warp, size_hw
        return self

    def in_view(self, placed: Placed, shown_hw: tuple[int, int], size_px: int) -> ClassLabel:
        """Stay."""
        del placed, shown_hw, size_px
        return self

    def in_source(self, placed: Placed) -> ClassLabel:
        """Stay."""
        del placed
        return self
