"""The files of images: which are there, and what those that were read are like.

In: URIs, and the sizes that labels were made for. Out: `Stat`s, `Look`s and findings about them.
Pixels are let go at once: a few are decoded side by side, whatever the size of a set. Next:
`copies.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import numpy as np
from pyarrow import fs

from ray_st.data import storage
from ray_st.data.images import ImageError, Source, fetch
from ray_st.data.parts import is_part
from ray_st.selftraining.checkup.finding import Finding, graded, named, percent

THREADS = 16  # asking is waiting
_AT_ONCE = 100  # files that a thread asks for
_DECODERS = 8  # images in memory at once
MANY = 0.1  # of a set's images: something is wrong with the whole of it


@dataclass(frozen=True, kw_only=True)
class Stat:
    """What a filesystem says of a file without reading it."""

    is_there: bool
    size_bytes: int | None  # None where that is not known: of a part of a file, or of no file


@dataclass(frozen=True, kw_only=True)
class Look:
    """What reading an image showed."""

    uri: str
    size_hw: tuple[int, int] | None = None  # upright, pixels; None: it cannot be read
    kind: str = ""  # format and mode of the file, such as "JPEG RGB"
    error: str | None = None


def chosen(count: int, most: int | None) -> list[int]:
    """Up to `most` of the numbers below `count`, evenly spread, always the same; None: all."""
    if most is None or count <= most:
        return [*range(count)]
    places: list[int] = np.linspace(0, count - 1, most).round().astype(int).tolist()
    return sorted({*places})


def stats(uris: Sequence[str]) -> dict[str, Stat]:
    """Ask for the size of each file, some at a time."""
    parts = [uris[first : first + _AT_ONCE] for first in range(0, len(uris), _AT_ONCE)]
    with ThreadPoolExecutor(THREADS) as threads:
        found = [each for part in threads.map(_stats, parts) for each in part]
    return dict(zip(uris, found, strict=True))


def _stats(uris: Sequence[str]) -> list[Stat]:
    return [_stat(uri) for uri in uris]


def _stat(uri: str) -> Stat:
    if is_part(uri):
        return Stat(is_there=True, size_bytes=None)
    try:
        filesystem, path = storage.locate(uri)
        found = filesystem.get_file_info(path)
    except (OSError, ValueError):  # why there is no access is said by whoever reads it
        return Stat(is_there=True, size_bytes=None)
    is_file = found.type == fs.FileType.File
    return Stat(is_there=is_file, size_bytes=found.size if is_file else None)


def looks(uris: Sequence[str], size_px: int) -> list[Look]:
    """Decode each image as training in views of `size_px` would, some at a time."""
    with ThreadPoolExecutor(_DECODERS) as threads:
        return [*threads.map(partial(_look, size_px=size_px), uris)]


def _look(uri: str, *, size_px: int) -> Look:
    try:
        source = Source(fetch(uri))
        source.read(size_px)
    except ImageError as error:
        return Look(uri=uri, error=str(error))
    return Look(uri=uri, size_hw=source.size_hw, kind=source.kind)


def missing(where: str, found: Mapping[str, Stat], most: float = MANY) -> list[Finding]:
    """Say which files are listed and are not there, of those that were asked for."""
    gone = [uri for uri, stat in found.items() if not stat.is_there]
    if not gone:
        return []
    return [
        Finding(
            severity=graded(len(gone) / len(found), warn=0, fail=most),
            where=where,
            what=f"{len(gone)} of {len(found)} image files are not there, such as {gone[0]}",
            move="bring them, or take them off the list: they count for nothing",
            numbers={"missing": len(gone), "of": len(found), "examples": gone[:20]},
        )
    ]


def readable(where: str, seen: Sequence[Look], total: int, most: float = MANY) -> list[Finding]:
    """Say what of the images that were tried cannot be read, and what the others are.

    More than the share `most` is a failure.
    """
    bad = [look for look in seen if look.error is not None]
    kinds = Counter(look.kind for look in seen if look.error is None)
    tried = f"{len(seen)}" if len(seen) == total else f"{len(seen)} of {total}"
    numbers = {
        "images": total,
        "tried": len(seen),
        "unreadable": len(bad),
        "kinds": dict(kinds.most_common()),
        "examples": {look.uri: look.error for look in bad[:20]},
    }
    if bad:
        first = f"{PurePosixPath(bad[0].uri).name}: {bad[0].error}"
        return [
            Finding(
                severity=graded(len(bad) / len(seen), warn=0, fail=most),
                where=where,
                what=f"{len(bad)} of the images tried ({tried}) cannot be read, such as {first}",
                move="mend or remove them: they count for nothing",
                numbers=numbers,
            )
        ]
    what = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
    return [
        Finding(
            severity="fine",
            where=where,
            what=f"all images tried ({tried}) can be read: {what or 'none'}",
            numbers=numbers,
        )
    ]


def other_sizes(
    where: str, seen: Sequence[Look], listed_hw: Iterable[tuple[int, int]]
) -> list[Finding]:
    """Say which images are not of the size that their boxes were listed for."""
    pairs = [
        (look, (int(size_hw[0]), int(size_hw[1])))
        for look, size_hw in zip(seen, listed_hw, strict=True)
        if look.size_hw is not None and min(size_hw) > 0
    ]
    wrong = [(look, listed) for look, listed in pairs if look.size_hw != listed]
    if not wrong:
        return []
    lying = [look.uri for look, listed in wrong if look.size_hw == listed[::-1]]
    (look, listed), share = wrong[0], len(wrong) / len(pairs)
    assert look.size_hw is not None, "only those are compared"
    turned = f", {len(lying)} of them with height and width swapped" if lying else ""
    why = (
        "images are taken upright, as their EXIF says: give their boxes and sizes so, or remove "
        "the orientation from the files"
        if lying
        else "name the images that the boxes were drawn on, or list their true sizes"
    )
    return [
        Finding(
            severity=graded(share, warn=0, fail=MANY),
            where=where,
            what=f"{len(wrong)} of {len(pairs)} images ({percent(share)}) are of another size than "
            f"is listed{turned}, such as {PurePosixPath(look.uri).name}: "
            f"{wide(look.size_hw)}, listed {wide(listed)}, and so their boxes lie elsewhere",
            move=why,
            numbers={
                "other_size": len(wrong),
                "swapped": len(lying),
                "of": len(pairs),
                "examples": [one.uri for one, _ in wrong[:20]],
            },
        )
    ]


def wide(size_hw: tuple[int, int]) -> str:
    """A size as people say it: width first."""
    return f"{size_hw[1]}x{size_hw[0]}"


def shortly(uris: Sequence[str]) -> str:
    """Names of a few files."""
    return named([PurePosixPath(uri).name for uri in uris])
