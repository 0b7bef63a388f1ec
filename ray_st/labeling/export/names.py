"""What an image is called in another tool's files: its path below one folder, else its id.

In: URIs. Out: `Names`, and `by_id.csv` where the paths of some images cannot be their names.
Next: `boxes.py`.
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ray_st.config import UserError
from ray_st.data import parts, storage
from ray_st.labeling.export.files import written_whole

BY_ID = "by_id.csv"
_FOLDER = "by_id"
_PART = "^(slice:[0-9]+:[0-9]+:|cell:[0-9]+:[0-9]+:[^:]+:)"
_SUFFIX = re.compile(r"\.\w{1,5}")
_LONGEST_BYTES = 255  # of a file's name, on all common filesystems
# Line ends of any kind would break lists; the rest is not allowed in XML.
_UNFIT = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ufffe\uffff]")


def common_prefix(uris: Iterable[pa.ChunkedArray], images_root: str | None) -> str:
    """Give the folder that names begin below, with its slash.

    It is `images_root`, below which every image must lie, or the deepest folder of all. "" where
    there is none: images in two buckets, say. Parts of files do not count.
    """
    files = (each.filter(pc.invert(pc.match_substring_regex(each, _PART))) for each in uris)
    return _deepest(files) if images_root is None else _checked(files, images_root)


def _checked(files: Iterable[pa.ChunkedArray], images_root: str) -> str:
    prefix = storage.split_options(storage.absolute(images_root))[0].rstrip("/") + "/"
    for each in files:
        outside = each.filter(pc.invert(pc.starts_with(each, prefix)))
        if len(outside):
            raise UserError(
                f"images_root: every image must lie below {images_root}, got {outside[0]}; pass "
                "--images-root with a folder above all of them, or leave it out"
            )
    return prefix


def _deepest(files: Iterable[pa.ChunkedArray]) -> str:
    common: list[str] = []
    for each in files:
        if len(each):
            # What the first and the last in order share, all share.
            common = [posixpath.commonprefix([*common, *pc.min_max(each).as_py().values()])]
    shared = "".join(common)
    folder = shared[: shared.rfind("/") + 1]
    has_bucket = folder.count("/") > len("//")
    return folder if has_bucket or not storage.is_remote(folder) else ""


class Names:
    """Names images, one after the other, and lists those that are named by their ids."""

    def __init__(self, prefix: str, listing: Any) -> None:
        self._prefix = prefix
        self._listing = listing
        self.by_ids = 0

    def path(self, uri: str) -> str | None:
        """Path below the common folder; None where it has no such, or one that is no name."""
        if parts.is_part(uri):
            return None
        body = storage.split_options(uri)[0]
        if self._prefix:
            path = body[len(self._prefix) :]
        else:  # the bucket is the first folder
            path = body.partition("://")[2] if storage.is_remote(body) else body.lstrip("/")
        return path if _is_name(path) else None

    def by_id(self, image_id: int, uri: str) -> str:
        """A name made of the id; parts of files are called .jpg, whatever their bytes are."""
        suffix = "" if parts.is_part(uri) else posixpath.splitext(storage.split_options(uri)[0])[1]
        name = f"{_FOLDER}/{image_id}{suffix if _SUFFIX.fullmatch(suffix) else '.jpg'}"
        self._listing.writerow((image_id, name, uri))
        self.by_ids += 1
        return name


def _is_name(path: str) -> bool:
    steps = path.split("/")
    return (
        not _UNFIT.search(path)
        and path == path.strip()  # as readers of lists do
        and not {"", ".", ".."}.intersection(steps)
        and all(len(step.encode()) <= _LONGEST_BYTES for step in steps)
    )


@contextmanager
def naming(prefix: str, out: Path) -> Iterator[Names]:
    """Give `Names` that keep their list in `out`, unless it stays empty."""
    with written_whole(out / BY_ID) as stream:
        listing = csv.writer(stream, lineterminator="\n")
        listing.writerow(("image_id", "name", "uri"))
        names = Names(prefix, listing)
        yield names
    if not names.by_ids:
        (out / BY_ID).unlink()
