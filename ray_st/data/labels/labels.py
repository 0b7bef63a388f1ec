"""What is known of one image, of whatever kind: what every part of the system handles.

In: nothing. Out: `Origin`, and `Labels`, which each kind of label is. Next: `detections.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from ray_st.data.affine import Affine
from ray_st.data.placed import Placed


class Origin(IntEnum):
    """Who labelled an image; JOINT: people too, with a class, for joint training."""

    HUMAN = 0
    PSEUDO = 1
    JOINT = 2


class Labels(ABC):
    """The labels of one image: how they rest in a table, and how they follow its pixels.

    A value: every method gives another one. Coordinates are pixels, of the source image at rest and
    of the view in a batch.
    """

    FIELDS: ClassVar[pa.Schema]  # the columns that they rest in
    AMOUNT: ClassVar[str]  # what the mean of `amount` over images is called

    @classmethod
    @abstractmethod
    def unknown(cls) -> Labels:
        """Labels of an image of which nothing is known."""

    @classmethod
    @abstractmethod
    def to_columns(cls, labels: Sequence[Any]) -> list[pa.Array]:
        """Columns of `FIELDS`, an entry an image."""

    @classmethod
    @abstractmethod
    def from_columns(cls, table: pa.Table) -> list[Any]:
        """Read `to_columns` back, from a table that may hold other columns too."""

    @classmethod
    @abstractmethod
    def any_in(cls, table: pa.Table) -> bool:
        """Say whether a table holds a single label, unpacking no more than that takes."""

    @abstractmethod
    def amount(self) -> float:
        """How much is labelled: a number of boxes, a share of pixels, 1 or 0 for a class."""

    @abstractmethod
    def above(self, threshold: float) -> Labels:
        """Keep what scores at least this, 0..1."""

    def within(self, size_hw: tuple[int, int]) -> Labels:
        """Leave out what lies outside of an image of this size."""
        del size_hw
        return self

    @abstractmethod
    def mirrored(self, width_px: int) -> Labels:
        """Follow an image of this width that is mirrored left to right."""

    @abstractmethod
    def warped(self, warp: Affine, size_hw: tuple[int, int]) -> Labels:
        """Follow an image of this size that is warped in its frame; none is lost."""

    def objects_xyxy(self) -> np.ndarray:
        """Boxes (n, 4) of the single objects on it; none where labels know of no objects."""
        return np.zeros((0, 4), np.float32)

    @abstractmethod
    def in_view(self, placed: Placed, shown_hw: tuple[int, int], size_px: int) -> Labels:
        """Labels in the source image -> those in a square view of `size_px`.

        The source image fills `shown_hw` of it, top left; the rest is padding.
        """

    @abstractmethod
    def in_source(self, placed: Placed) -> Labels:
        """Labels in a frame -> those in the source image that was placed in it."""
