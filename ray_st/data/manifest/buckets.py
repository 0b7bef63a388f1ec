"""What of a listing is new, in the memory of a part of it.

In: the URIs that a manifest holds, and a new listing. Out: `Compared`, and the new rows in the
order of the listing. Both sides are dealt by a digest of the URI into files, which are compared one
after the other; so memory holds one file of each, a 128th of the images at some 100 bytes each. The
disk of TMPDIR holds the listing and 48 bytes an image. Next: `writer.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_st.data.manifest.listing import FOUND

_BUCKETS = 128  # a process may have 256 files open on some systems
_DIGEST_BYTES = 16  # of 1e9 URIs two are alike with a chance of 1e-21
_ENTRY = np.dtype([("digest", f"V{_DIGEST_BYTES}"), ("row", np.int64)])
_LISTING, _FLAGS = "listing.arrow", "is_new"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """How many images there are."""

    found: int  # different ones in the listing
    repeated: int  # rows of the listing beyond those
    new: int  # found, and not known before
    gone: int  # known before, and not found


def compare(known: Iterable[pa.Table], listing: Iterable[pa.Table], scratch: Path) -> Compared:
    """Compare a listing (FOUND) with known rows that have a `uri`; `scratch` is an empty folder."""
    _deal(known, scratch / "known")
    rows = _deal(_kept(listing, scratch / _LISTING), scratch / "found")
    is_new = np.lib.format.open_memmap(scratch / _FLAGS, "w+", np.bool_, (max(rows, 1),))
    found = new = gone = 0
    for bucket in range(_BUCKETS):
        before = pc.unique(_read(scratch / "known", bucket).column("digest"))
        here = _read(scratch / "found", bucket).group_by("digest").aggregate([("row", "min")])
        fresh = pc.invert(pc.is_in(here.column("digest"), before))
        is_new[here.column("row_min").filter(fresh).to_numpy()] = True
        found += here.num_rows
        new += pc.sum(fresh).as_py() or 0
        lost = pc.invert(pc.is_in(before, here.column("digest")))
        gone += pc.sum(lost).as_py() or 0
    is_new.flush()
    return Compared(found=found, repeated=rows - found, new=new, gone=gone)


def new_rows(scratch: Path) -> Iterator[pa.Table]:
    """Give the new rows of the listing that `compare` has seen, each once, in its order."""
    is_new = np.load(scratch / _FLAGS, mmap_mode="r")
    first = 0
    with pa.ipc.open_stream(pa.OSFile(str(scratch / _LISTING))) as batches:
        for batch in batches:
            mask = pa.array(is_new[first : first + batch.num_rows])
            first += batch.num_rows
            yield pa.Table.from_batches([batch.filter(mask)])


def _kept(listing: Iterable[pa.Table], path: Path) -> Iterator[pa.Table]:
    """Pass a listing on, and leave it in a file."""
    with pa.ipc.new_stream(str(path), FOUND) as kept:
        for table in listing:
            kept.write_table(table.combine_chunks())
            yield table


def _deal(tables: Iterable[pa.Table], folder: Path) -> int:
    """Write digests and row numbers, each to the file of its digest; returns how many."""
    folder.mkdir()
    rows = 0
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{i}").open("wb")) for i in range(_BUCKETS)]
        for table in tables:
            entries = np.empty(table.num_rows, _ENTRY)
            digests = b"".join(map(_digest, table.column("uri").to_pylist()))
            entries["digest"] = np.frombuffer(digests, entries.dtype["digest"])
            entries["row"] = np.arange(rows, rows + table.num_rows)
            rows += table.num_rows
            bucket = np.frombuffer(digests, np.uint8)[::_DIGEST_BYTES] % _BUCKETS
            order = np.argsort(bucket, kind="stable")
            ends = np.searchsorted(bucket[order], np.arange(_BUCKETS + 1))
            for i in np.unique(bucket):
                files[i].write(entries[order[ends[i] : ends[i + 1]]].tobytes())
    return rows


def _digest(uri: str) -> bytes:
    return hashlib.blake2b(
        uri.encode("utf-8", "surrogateescape"), digest_size=_DIGEST_BYTES
    ).digest()


def _read(folder: Path, bucket: int) -> pa.Table:
    entries = np.fromfile(folder / f"{bucket}", _ENTRY)
    digests = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(_DIGEST_BYTES),
        len(entries),
        [None, pa.py_buffer(np.ascontiguousarray(entries["digest"]))],
    )
    return pa.table({"digest": digests, "row": np.ascontiguousarray(entries["row"])})
