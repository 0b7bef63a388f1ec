"""`ray-st index`: a pool of any size is listed once, into a manifest that opens in seconds.

In: a folder, a bucket, tars, Parquet or a list. Out: a folder of Parquet shards. Starts no Ray.
Next: `label.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyarrow as pa
from rich.console import Console

from ray_st.config import require
from ray_st.data.manifest.indexing import Indexed, index_images

_MAX_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class IndexVerb:
    """List a pool of any size once, so that work on it starts at once."""

    images: str
    """The pool: a folder or a glob (`DIR/**/*.jpg`) of images, here or in a bucket; `DIR/*.tar` or
    wds:GLOB, plain tars of images; parquet:GLOB, image bytes or URIs in a column; list:FILE, a path
    or URI a line; coco:FILE, masks:LIST or classes:DIR, whose labels are ignored."""
    out: str
    """Folder or URI of the manifest; running the same again adds what is new as further shards."""
    column: str | None = None
    """Column of parquet:GLOB, dotted inside a struct. None: bytes in bytes, image or image.bytes,
    else text in uri, url or path."""
    shard_rows: int = 1_000_000
    """Images a shard, the unit in which work on the pool is done, repeated or skipped."""
    file_rows: int = 10_000
    """Images a Parquet file."""
    threads: int = 32
    """Folders, or tars, that are listed at the same time."""
    dry_run: bool = False
    """List everything, say what is new, and write nothing."""

    def __post_init__(self) -> None:
        require(1 <= self.shard_rows <= 2**32, "shard_rows", "from 1 to 2**32", self.shard_rows)
        require(self.file_rows >= 1, "file_rows", "1 or more", self.file_rows)
        require(1 <= self.threads <= _MAX_THREADS, "threads", "from 1 to 1024", self.threads)


CONFIG = IndexVerb


def run(config: IndexVerb, console: Console) -> int:
    """Index, and say how many images there are."""
    # A bucket's requests wait in Arrow's own threads, 8 unless more are asked for.
    pa.set_io_thread_count(max(config.threads, pa.io_thread_count()))
    start, count = time.monotonic(), 0
    with console.status("0 images found") as status:

        def seen(rows: int) -> None:
            nonlocal count
            count += rows
            status.update(f"{count:,} images found")

        done = index_images(
            config.images,
            config.out,
            column=config.column,
            shard_rows=config.shard_rows,
            file_rows=config.file_rows,
            threads=config.threads,
            dry_run=config.dry_run,
            seen=seen,
        )
    seconds = time.monotonic() - start
    _say(done, seconds, console, is_dry=config.dry_run)
    return 0


def _say(done: Indexed, seconds: float, console: Console, *, is_dry: bool) -> None:
    counts, manifest = done.counts, done.manifest
    lines = [
        f"{'found':<11}{counts.found:,} images in {manifest.source}",
        f"{'new':<11}{counts.new:,}",
        f"{'gone':<11}{counts.gone:,}",
        f"{'time':<11}{seconds:.1f} s, {counts.found / max(seconds, 1e-9):,.0f} images/s",
    ]
    if counts.repeated:
        lines.insert(1, f"{'repeated':<11}{counts.repeated:,} rows more, each image taken once")
    if counts.gone:
        lines.append(
            f"{'warning':<11}what is gone ({counts.gone:,}) keeps its rows; "
            "each will be a recorded failure where it is read"
        )
    shards = f"{manifest.num_rows:,} images, shards: {len(manifest.shards):,}"
    lines.append(
        "# dry run: nothing was written" if is_dry else f"{'manifest':<11}{manifest.uri}: {shards}"
    )
    for line in lines:
        console.out(line, highlight=False)  # `out` breaks no long line
