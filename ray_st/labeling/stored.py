"""Pseudo labels that stay in their store: read, chosen and shuffled a window at a time.

In: a `Store` and a `Choice`. Out: `StoredRows`, the rows of a stream that no machine could hold at
once. Next: `export`.

What chooses stands behind: a threshold that changes needs no other copy of a pool. Loading
processes read windows, so nothing here knows torch.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_st.data import parquet
from ray_st.data.order import WINDOW_IMAGES, windows_at
from ray_st.data.rows import label_row
from ray_st.labeling.policy.choice import Choice
from ray_st.labeling.rows import OK
from ray_st.labeling.store import Store

_WINDOWS_HELD = 2  # of a process: one that ends and one that begins
_HELD: OrderedDict[tuple[str, tuple[str, ...]], pa.Table] = OrderedDict()


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredRows:
    """`Rows` of all labelled images of a store, in the order of `data.order.windows_at`."""

    files: pa.StringArray  # paths or URIs
    sizes: tuple[int, ...]  # labelled images in each
    choice: Choice
    window_images: int = WINDOW_IMAGES

    @classmethod
    def of(cls, store: Store, choice: Choice, window_images: int = WINDOW_IMAGES) -> StoredRows:
        """All that is published; of files, what their shards tell, so that none is opened."""
        found = [
            (shard.file(entry["name"]), entry["rows"] - entry["failed"])
            for shard in store.begun()
            for entry in (shard.facts or {"files": ()})["files"]
        ]
        return cls(
            files=pa.array([file for file, _ in found], pa.string()),
            sizes=tuple(size for _, size in found),
            choice=choice,
            window_images=window_images,
        )

    @property
    def num_rows(self) -> int:
        """How many images there are."""
        return sum(self.sizes)

    def at(self, positions: np.ndarray, seed: int) -> tuple[pa.Table, np.ndarray]:
        """Pseudo labels at some positions of the endless stream, and the epoch of each."""
        places, epochs = [np.empty(0, np.int64)], np.empty_like(positions)
        parts = [label_row(self.choice.kind).empty_table()]
        windows = windows_at(
            positions, sizes=self.sizes, seed=seed, window_images=self.window_images
        )
        for window in windows:
            files = tuple(self.files.take(pa.array(window.files)).to_pylist())
            parts.append(self._window(files).take(pa.array(window.indices)))
            places.append(window.chosen)
            epochs[window.chosen] = window.epoch
        return in_places(parts, places), epochs

    def _window(self, files: tuple[str, ...]) -> pa.Table:
        """Pseudo labels of some files, by image id; a process keeps the last ones."""
        key = (self._name, files)
        if key in _HELD:
            _HELD.move_to_end(key)
            return _HELD[key]
        while len(_HELD) >= _WINDOWS_HELD:
            _HELD.popitem(last=False)
        parts = [label_row(self.choice.kind).empty_table(), *map(self._chosen, files)]
        _HELD[key] = pa.concat_tables(parts).combine_chunks().sort_by("image_id")
        return _HELD[key]

    def _chosen(self, file: str) -> pa.Table:
        raw = parquet.read(file)
        schema = label_row(self.choice.kind)
        labelled = raw.filter(pc.equal(raw["status"], OK))
        return self.choice.accepted(labelled.select(schema.names).cast(schema))

    @cached_property
    def _name(self) -> str:
        """Of what is chosen: other thresholds give other windows of the same files."""
        chosen = f"{self.choice.policy!r}".encode() + self.choice.thresholds.tobytes()
        return hashlib.sha256(chosen).hexdigest()


def in_places(parts: Sequence[pa.Table], places: Sequence[np.ndarray]) -> pa.Table:
    """Join tables, the rows of each at the places that its array names."""
    order = np.argsort(np.concatenate(places))
    return pa.concat_tables(parts).take(pa.array(order))
