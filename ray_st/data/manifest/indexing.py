"""A pool becomes a manifest; a pool that grew adds shards to it.

In: what a user wrote. Out: a folder of shards, and `Indexed`, the counts. Nothing that stands is
touched: what a run that broke off left has no entry in manifest.json, and the next one removes it.
Next: `ray_st.data.views`.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.manifest import buckets
from ray_st.data.manifest.buckets import Compared
from ray_st.data.manifest.listing import gathered
from ray_st.data.manifest.manifest import MANIFEST, Manifest
from ray_st.data.manifest.pools import Pool, open_pool
from ray_st.data.manifest.writer import write_shards

_SHARD = re.compile(r"shard-(\d{5,})")


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """What a run found, and what stands after it (a dry run: what would be added to)."""

    counts: Compared
    manifest: Manifest


def index_images(
    images: str,
    out: str,
    *,
    column: str | None,
    shard_rows: int,
    file_rows: int,
    threads: int,
    dry_run: bool,
    seen: Callable[[int], None],
) -> Indexed:
    """Index a pool, or add what is new in it. Raises UserError for what cannot be done.

    `seen` is told how many images each piece of the listing had.
    """
    pool = open_pool(images, column)
    standing = _standing(
        Manifest(
            source=pool.uri,
            column=column,
            shard_rows=shard_rows,
            file_rows=file_rows,
            uri=storage.absolute(out),
        )
    )
    _require_apart(pool, standing.uri)
    listing = gathered(_told(pool.tables(threads), seen))
    if standing.shards or pool.may_repeat:
        return _add(pool, standing, listing, dry_run=dry_run)
    return _make(pool, standing, listing, dry_run=dry_run)


def _make(pool: Pool, empty: Manifest, listing: Iterator[pa.Table], *, dry_run: bool) -> Indexed:
    """Write a listing as it comes: nothing is known, and nothing stands in it twice."""
    first = next(listing, None)
    if first is None:
        raise _no_images(pool)
    rows = chain([first], listing)
    if dry_run:
        count, manifest = sum(table.num_rows for table in rows), empty
    else:
        manifest = _written(empty, rows)
        count = manifest.num_rows
    return Indexed(counts=Compared(found=count, repeated=0, new=count, gone=0), manifest=manifest)


def _add(pool: Pool, standing: Manifest, listing: Iterator[pa.Table], *, dry_run: bool) -> Indexed:
    """Write what of a listing is not known yet."""
    shards = range(len(standing.shards))
    known = (table for shard in shards for table in standing.read_shard(shard, ["uri"]))
    with tempfile.TemporaryDirectory(prefix="ray-st-index-") as scratch:
        try:
            counts = buckets.compare(known, listing, Path(scratch))
        except OSError as error:  # what is listed and known has errors of its own
            reason = " ".join(str(error).split())
            raise UserError(
                f"{scratch}: a rerun needs room for some 150 bytes an image, got: {reason}; "
                "set TMPDIR to a larger disk"
            ) from error
        if not counts.found:
            raise _no_images(pool)
        rows = buckets.new_rows(Path(scratch))
        is_more = counts.new and not dry_run
        manifest = _written(standing, rows) if is_more else standing
    return Indexed(counts=counts, manifest=manifest)


def _written(standing: Manifest, rows: Iterator[pa.Table]) -> Manifest:
    """Add shards, then say that they count."""
    try:
        filesystem, path = storage.locate(standing.uri)
        filesystem.create_dir(path)
        if not standing.shards:
            standing.write()  # from here on the folder is ours, and what stands in it unlisted too
        _remove_unfinished(standing)
        manifest = write_shards(standing, rows)
        manifest.write()
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"out: {standing.uri} must be a folder or bucket that can be written, got: {reason}; "
            "pass --out with another one"
        ) from error
    return manifest


def _remove_unfinished(standing: Manifest) -> None:
    """Remove the shards of a run that broke off."""
    filesystem, path = storage.locate(standing.uri)
    for name in sorted(_names(standing.uri)):
        shard = _SHARD.fullmatch(name)
        if shard and int(shard[1]) >= len(standing.shards):
            filesystem.delete_dir(f"{path}/{name}")


def _standing(wanted: Manifest) -> Manifest:
    """The manifest to go on with; refuses a folder that holds another, or other things."""
    names = _names(wanted.uri)
    if MANIFEST not in names:
        if names - {f"{MANIFEST}.part"}:
            raise UserError(
                f"out: {wanted.uri} holds other files; pass --out with the name of a new folder"
            )
        return wanted
    stands = Manifest.standing(wanted.uri)
    if not stands.shards:  # a first run broke off: nothing in it to protect
        return wanted
    for name in ("source", "column", "shard_rows", "file_rows"):
        theirs, ours = getattr(stands, name), getattr(wanted, name)
        if theirs != ours:
            flag = "images" if name == "source" else name.replace("_", "-")
            raise UserError(
                f"out: {wanted.uri} holds an index with --{flag} {theirs}, got {ours}; "
                "pass another --out, or the flags of that index to add what is new"
            )
    return stands


def _names(uri: str) -> set[str]:
    """What stands in a folder; nothing where it does not stand."""
    try:
        filesystem, path = storage.locate(uri)
        if filesystem.get_file_info(path).type == fs.FileType.File:
            raise UserError(f"out: {uri} is a file; pass --out with the name of a new folder")
        infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"out: {uri} must be a folder or bucket that can be read, got: {reason}; "
            "check the path and your access"
        ) from error
    return {info.base_name for info in infos}


def _require_apart(pool: Pool, out: str) -> None:
    """Refuse a manifest that would stand among the images."""
    if pool.pattern is None:
        return
    root, folder = (storage.split_options(uri)[0] for uri in (pool.pattern.root, out))
    if not storage.is_remote(root) and not storage.is_remote(folder):
        root, folder = os.path.realpath(root), os.path.realpath(folder)
    root, folder = root.rstrip("/") + "/", folder.rstrip("/") + "/"
    name = folder.removeprefix(root).rstrip("/")
    if folder.startswith(root) and (not name or pool.pattern.enters(name)):
        raise UserError(
            f"out: must stand outside of the images ({pool.pattern.root}), got {out}; "
            "pass another --out"
        )


def _told(listing: Iterator[pa.Table], seen: Callable[[int], None]) -> Iterator[pa.Table]:
    for table in listing:
        seen(table.num_rows)
        if table.num_rows:
            yield table


def _no_images(pool: Pool) -> UserError:
    return UserError(f"images: {pool.uri} must hold {pool.wants}, got none; check the path")
