"""The data of a run, checked as a whole: train, val, the pool, pseudo-labelled images.

In: tables of rows, and the sections that say what is made of them. Out: findings, in order. Of
large sets a sample is read, and a few images are decoded at once. Next: `first_views.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_st.data import storage
from ray_st.data.labels import Detections, Labels, SegmentationMap
from ray_st.data.rows import kind_of
from ray_st.data.sources import LabeledSet
from ray_st.models import ModelConfig
from ray_st.selftraining.checkup.classes import Counts, bare_images, label_space, mended
from ray_st.selftraining.checkup.copies import MOST_COMPARED, find_copies
from ray_st.selftraining.checkup.files import (
    MANY,
    Look,
    Stat,
    chosen,
    looks,
    missing,
    other_sizes,
    readable,
    stats,
)
from ray_st.selftraining.checkup.finding import Finding
from ray_st.selftraining.checkup.objects import Fitted, crowded_images, unseen_boxes, unseen_classes
from ray_st.selftraining.checkup.pixels import ignored_pixels
from ray_st.selftraining.checkup.sizes import image_sizes
from ray_st.selftraining.checkup.twice import across, partly, within
from ray_st.tasks.detection import DetectConfig


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How much of a set is looked at."""

    images: int  # that are read
    is_all: bool

    @property
    def most(self) -> int | None:
        """Images that are read of a set; None: all."""
        return None if self.is_all else self.images

    def countable(self, rows: pa.Table) -> pa.Table:
        """Rows to count labels in: all, but some of class maps, each of which must be decoded."""
        if kind_of(rows.schema) is not SegmentationMap:
            return rows
        return rows.take(pa.array(chosen(rows.num_rows, self.most)))


def check_labels(
    train: LabeledSet, val: LabeledSet, kind: type[Labels], sampling: Sampling
) -> Iterator[Finding]:
    """Check what people labelled: classes, images without labels, what was mended."""
    named = {"data.train": train, "data.val": val}
    counts = {
        name: Counts.of(sampling.countable(one.rows), kind, one.classes)
        for name, one in named.items()
    }
    yield from label_space(counts["data.train"], counts["data.val"])
    for name, one in named.items():
        yield from bare_images(name, counts[name])
        is_boxes = kind is Detections
        labels = int(counts[name].per_class.sum()) if is_boxes else one.rows.num_rows
        yield from mended(name, one, labels)
        if kind is SegmentationMap:
            yield from ignored_pixels(name, counts[name], one.rows.num_rows)


def check_objects(
    train: LabeledSet, val: LabeledSet, fitted: Fitted, model: ModelConfig, detect: DetectConfig
) -> Iterator[Finding]:
    """Check boxes against what the detector can see and say; `fitted` are those of train."""
    of_all = unseen_boxes(fitted, model)
    yield from of_all
    if all(each.severity != "fail" for each in of_all):
        yield from unseen_classes(fitted, train.classes)
    for name, one in (("data.train", train), ("data.val", val)):
        counts = Counts.of(one.rows, Detections, one.classes)
        yield from crowded_images(name, counts, detect.max_detections)


def check_files(
    sets: Mapping[str, pa.Table],
    sides_px: Mapping[str, int],
    sampling: Sampling,
    tolerated: Mapping[str, float],
) -> Iterator[Finding]:
    """Check the files of each set, by its field, and look for images that stand in two of them.

    `sides_px`: side of each set's views. `tolerated`: the share of a set that may be unreadable,
    where it is another than usual.
    """
    found: dict[str, Stat] = {}
    for name, rows in sets.items():
        uris = rows["uri"].to_pylist()
        asked, size_px = stats(_asked_for(uris, sampling)), sides_px[name]
        found |= asked
        most = tolerated.get(name, MANY)
        yield from missing(name, asked, most)
        there = [i for i, uri in enumerate(uris) if uri not in asked or asked[uri].is_there]
        picked = [there[i] for i in chosen(len(there), sampling.most)]
        tried = rows.take(pa.array(picked, pa.int64()))
        seen = looks(tried["uri"].to_pylist(), size_px)
        if seen:
            yield from readable(name, seen, rows.num_rows, most)
            yield from _check_sizes(name, tried, rows, seen, size_px)
    names = {name: rows["uri"].to_pylist() for name, rows in sets.items()}
    copies = find_copies(names, found, None if sampling.is_all else MOST_COMPARED)
    yield from across(names, copies)
    for name, rows in sets.items():
        yield from within(name, rows, copies)
    yield from partly("data", copies)


def _asked_for(uris: list[str], sampling: Sampling) -> list[str]:
    """Which files are asked for: all here, a sample in a bucket, where each is a request."""
    if not uris or not storage.is_remote(uris[0]):
        return uris
    return [uris[i] for i in chosen(len(uris), sampling.most)]


def _check_sizes(
    name: str, tried: pa.Table, rows: pa.Table, seen: list[Look], size_px: int
) -> Iterator[Finding]:
    if kind_of(rows.schema) is Detections:
        yield from other_sizes(name, seen, _listed_hw(tried).tolist())
    yield from image_sizes(name, _known_hw(rows, seen), size_px)


def _listed_hw(rows: pa.Table) -> np.ndarray:
    return np.stack([rows[name].to_numpy() for name in ("height_px", "width_px")], axis=1)


def _known_hw(rows: pa.Table, seen: list[Look]) -> np.ndarray:
    """Sizes of all images where rows hold them, else of those that were read."""
    if "height_px" in rows.schema.names and (listed := _listed_hw(rows)).all():
        return listed
    return np.array([look.size_hw for look in seen if look.size_hw is not None]).reshape(-1, 2)
