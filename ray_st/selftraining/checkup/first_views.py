"""The very first views that training will see, made here and now.

In: LABEL_ROWs of one origin, and how training orders and shows them. Out: `FirstViews`, and what
augmentation leaves of the labels. Next: `start_loss.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_st.data.augment import AugmentConfig
from ray_st.data.labels import Detections, Labels, Origin, SegmentationMap
from ray_st.data.order import Rows, images_at, positions_of, stream_seed
from ray_st.data.rows import unpack
from ray_st.data.views import Views, augmented_views
from ray_st.selftraining.checkup.finding import Finding, percent
from ray_st.training.schedule import TrainConfig

ENOUGH_VIEWS = 64  # to say how much of the labels they show
MOST_STEPS = 8
_FEW_SURVIVE = 0.5  # of the boxes
_MANY_BARE = 0.3  # of the views, beyond those whose source has no label either


@dataclass(frozen=True, kw_only=True, eq=False)
class FirstViews:
    """Views of the first steps of one origin, of all workers."""

    origin: Origin
    batch_size: int  # images a step, over all workers
    sources: tuple[Labels, ...]  # of each view, as its image is labelled
    views: Views
    seconds: float  # that it took to make them

    @property
    def num_steps(self) -> int:
        """How many whole steps these are."""
        return len(self.views) // self.batch_size

    @property
    def seconds_per_view(self) -> float:
        """What one process needs to fetch, decode and vary an image."""
        return self.seconds / max(1, len(self.views))

    def of_step(self, step: int, images: int | None = None) -> Views:
        """The views of a step from 0, or the first few of them: a worker's share."""
        first = step * self.batch_size
        return self.views[first : first + (self.batch_size if images is None else images)]


def first_views(
    rows: pa.Table | Rows,
    origin: Origin,
    train: TrainConfig,
    *,
    size_px: int,
    augment: AugmentConfig,
) -> FirstViews:
    """Make the views of as many steps as it takes to have enough of them, as a loader would."""
    batch_size = train.images_of(origin)
    steps = min(MOST_STEPS, train.steps, -(-ENOUGH_VIEWS // batch_size))
    seed = stream_seed(train.seed, origin)
    positions = positions_of(
        first_step=0, num_steps=steps, batch_size=batch_size, worker=0, num_workers=1
    ).ravel()
    taken, epochs = rows_at(rows, positions, seed)
    begun = time.perf_counter()
    views = augmented_views(taken, epochs.tolist(), size_px, augment, seed)
    return FirstViews(
        origin=origin,
        batch_size=batch_size,
        sources=tuple(unpack(taken)),
        views=views,
        seconds=time.perf_counter() - begun,
    )


def rows_at(rows: pa.Table | Rows, positions: np.ndarray, seed: int) -> tuple[pa.Table, np.ndarray]:
    """The rows at some positions of a stream, held or not, and the epoch of each."""
    if not isinstance(rows, pa.Table):
        return rows.at(positions, seed)
    indices, epochs = images_at(positions, num_images=rows.num_rows, seed=seed)
    return rows.take(pa.array(indices)), epochs


def surviving_labels(first: FirstViews) -> list[Finding]:
    """Say how much of the labels the views show, and how many show none."""
    valid = first.views.is_valid
    before, after = _amounts(first.sources)[valid], _amounts(first.views.labels)[valid]
    count = len(before)
    if not count:
        return []
    survive = float(after.sum() / before.sum()) if before.sum() else 1.0
    bare, bare_before = float((after == 0).mean()), float((before == 0).mean())
    said = _words(type(first.sources[0]), float(before.mean()), float(after.mean()))
    few = isinstance(first.sources[0], Detections) and survive < _FEW_SURVIVE
    is_poor = few or bare - bare_before > _MANY_BARE
    return [
        Finding(
            severity="warn" if is_poor else "fine",
            where="augment",
            what=f"the first {count} {first.origin.name.lower()} views: {said}; "
            f"{percent(bare)} of the views have no label",
            move="narrow augment.scale_jitter: what it crops away teaches nothing"
            if is_poor
            else "",
            numbers={
                "views": count,
                "amount_in_images": float(before.mean()),
                "amount_in_views": float(after.mean()),
                "views_without_label": bare,
                "images_without_label": bare_before,
            },
        )
    ]


def _words(kind: type[Labels], before: float, after: float) -> str:
    """How much is labelled in an image, and in a view of it."""
    if kind is Detections:
        return f"{after:.2f} boxes a view, {before:.2f} in the images they show"
    if kind is SegmentationMap:
        return f"{percent(after)} of their pixels have a class, {percent(before)} in the images"
    return f"{percent(after)} have a class"


def _amounts(labels: Sequence[Labels]) -> np.ndarray:
    return np.array([one.amount() for one in labels], np.float64)
