"""What is to be labelled, shard by shard: rows in memory, or a manifest of any size.

In: a URI, or IMAGE_ROWs. Out: `Images`. Next: `rows.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_st.data import storage
from ray_st.data.manifest.manifest import MANIFEST, Manifest
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.sources import open_images

SHARD_IMAGES = 1_000_000  # of rows in memory; a manifest has shards of its own


@dataclass(frozen=True, kw_only=True)
class ImageShard:
    """Images that are labelled in one execution."""

    number: int
    num_rows: int
    rows: Callable[[], Iterator[pa.Table]]  # IMAGE_ROWs, some at a time
    files: tuple[str, ...] = ()  # Parquet that holds them; none where they are in memory only

    def ids(self) -> np.ndarray:
        """All image ids, in order."""
        parts = [np.asarray(table["image_id"]) for table in self.rows()]
        found: np.ndarray = np.concatenate([np.empty(0, np.int64), *parts])
        return found

    def only(self, ids: np.ndarray) -> ImageShard:
        """Some of its images, in memory."""
        wanted = pa.array(ids, pa.int64())
        chosen = [table.filter(pc.is_in(table["image_id"], wanted)) for table in self.rows()]
        rows = sum(table.num_rows for table in chosen)
        return ImageShard(number=self.number, num_rows=rows, rows=lambda: iter(chosen))


@dataclass(frozen=True)
class Images:
    """A pool; nothing of a manifest is read before it is asked for."""

    shards: tuple[ImageShard, ...]

    @property
    def num_rows(self) -> int:
        """How many images there are."""
        return sum(shard.num_rows for shard in self.shards)

    @classmethod
    def of_rows(cls, rows: pa.Table) -> Images:
        """IMAGE_ROWs in memory."""

        def shard(number: int, part: pa.Table) -> ImageShard:
            return ImageShard(number=number, num_rows=part.num_rows, rows=lambda: iter([part]))

        starts = range(0, rows.num_rows, SHARD_IMAGES)
        parts = [rows.slice(start, SHARD_IMAGES) for start in starts]
        return cls(tuple(shard(number, part) for number, part in enumerate(parts)))

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> Images:
        """The shards of a manifest."""

        def shard(number: int) -> ImageShard:
            entry = manifest.shards[number]
            return ImageShard(
                number=number,
                num_rows=entry.rows,
                rows=lambda: manifest.read_shard(number, IMAGE_ROW.names),
                files=tuple(manifest.file(number, part) for part in range(entry.files)),
            )

        return cls(tuple(shard(number) for number in range(len(manifest.shards))))


def open_pool(uri: str) -> Images:
    """Open a manifest that `ray-st index` left, or list the images of anything else."""
    if ":" not in uri.partition("://")[0] and _has_manifest(uri):
        return Images.of_manifest(Manifest.read(uri))
    return Images.of_rows(open_images(uri))


def _has_manifest(uri: str) -> bool:
    try:
        return storage.exists(storage.join(uri, MANIFEST))
    except (OSError, ValueError):  # who lists the images will meet it too, and say so
        return False
