"""Images that stand twice: under one URI in two sets, or as the same bytes under two names.

In: the URIs of each set, and the sizes of their files. Out: `Copies`, and findings. Files of one
size are compared by their first bytes, and only those that agree there as a whole. Next:
`classes.py`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa

from ray_st.data import storage
from ray_st.data.labels import ClassLabel, Detections, SegmentationMap
from ray_st.data.rows import kind_of, unpack
from ray_st.selftraining.checkup.files import THREADS, Stat, shortly
from ray_st.selftraining.checkup.finding import Finding, Severity, graded

MOST_COMPARED = 5000  # files, unless all are asked for: seconds here, a minute in a bucket
_HEAD_BYTES = 4096  # past the headers that one camera writes alike
_CHUNK_BYTES = 1 << 20
_MOST_LEAKED = 0.5  # of the images to measure on
_MUCH_LEAKED = 0.1

Groups = list[list[str]]


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Which files hold the same bytes."""

    same: Mapping[str, str]  # URI -> the first URI with these bytes, where there are several
    candidates: int  # files that share their size with another
    compared: int  # of these

    def content(self, uri: str) -> str:
        """One name for one content."""
        return self.same.get(uri, uri)


def find_copies(
    sets: Mapping[str, Sequence[str]], stats: Mapping[str, Stat], most: int | None = MOST_COMPARED
) -> Copies:
    """Compare files of one size; at most `most` of them, those of the first set before others.

    `stats` may lack some of the URIs: these are not compared.
    """
    by_size: dict[int, list[str]] = defaultdict(list)
    for uri in dict.fromkeys(uri for uris in sets.values() for uri in uris):
        size = stats[uri].size_bytes if uri in stats else None
        if size:  # files of 0 bytes are no images
            by_size[size].append(uri)
    groups = [uris for uris in by_size.values() if len(uris) > 1]
    first = set(next(iter(sets.values()), ()))
    groups.sort(key=lambda uris: first.isdisjoint(uris))  # stable: the order of the sets stays
    taken = compared = groups[: _count(groups, most)]
    with ThreadPoolExecutor(THREADS) as threads:
        for digest in (_head, _whole):
            taken = _parted(taken, threads.map, digest)
    return Copies(
        same={uri: uris[0] for uris in taken for uri in uris},
        candidates=sum(map(len, groups)),
        compared=sum(map(len, compared)),
    )


def _count(groups: Groups, most: int | None) -> int:
    """How many groups hold `most` files at most, all together."""
    if most is None:
        return len(groups)
    return int(np.searchsorted(np.cumsum([len(uris) for uris in groups]), most, side="right"))


def _parted(
    groups: Groups, many: Callable[..., Iterable[bytes | None]], digest: Callable[[str], Any]
) -> Groups:
    """Part each group by what `digest` says of its files; a file alone, or unread, goes."""
    flat = [(number, uri) for number, uris in enumerate(groups) for uri in uris]
    parts: dict[tuple[int, bytes], list[str]] = defaultdict(list)
    for (number, uri), found in zip(flat, many(digest, [uri for _, uri in flat]), strict=True):
        if found is not None:
            parts[number, found].append(uri)
    return [uris for uris in parts.values() if len(uris) > 1]


def _head(uri: str) -> bytes | None:
    try:
        with _opened(uri) as file:
            return bytes(file.read(_HEAD_BYTES))
    except (OSError, ValueError):
        return None  # reading it says why


def _whole(uri: str) -> bytes | None:
    found = hashlib.blake2b(digest_size=16)
    try:
        with _opened(uri) as file:
            while chunk := file.read(_CHUNK_BYTES):
                found.update(chunk)
    except (OSError, ValueError):
        return None
    return found.digest()


def _opened(uri: str) -> IO[bytes]:
    if not storage.is_remote(uri):
        return Path(storage.absolute(uri)).open("rb")
    filesystem, path = storage.locate(uri)
    stream: IO[bytes] = filesystem.open_input_stream(path, compression=None)
    return stream


def across(sets: Mapping[str, Sequence[str]], copies: Copies) -> list[Finding]:
    """Say which images of one set are in another too. `sets`: by their fields, data.val first."""
    names, found = [*sets], []
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            found += _shared(one, sets[one], other, sets[other], copies)
    return found


def _shared(
    one: str, uris: Sequence[str], other: str, others: Sequence[str], copies: Copies
) -> list[Finding]:
    there, contents = set(others), {copies.content(uri) for uri in others}
    both = [uri for uri in uris if uri in there]
    under_names = [uri for uri in uris if uri not in there and copies.content(uri) in contents]
    count = len(both) + len(under_names)
    if not count:
        return []
    twin = {copies.content(uri): uri for uri in others}
    example = f", such as {both[0]}" if both else ""
    if under_names:
        first = under_names[0]
        example = (
            f", {len(under_names)} as copies under other names such as {first} = "
            f"{twin[copies.content(first)]}"
        )
    severity, move = _judged(one, other, count / len(uris), count / max(1, len(others)))
    return [
        Finding(
            severity=severity,
            where=one,
            what=f"{count} of its {len(uris)} images are in {other} too{example}",
            move=move,
            numbers={
                "same_uri": len(both),
                "copies": len(under_names),
                "of": len(uris),
                "with": other,
                "examples": [[uri, twin[copies.content(uri)]] for uri in under_names[:20]],
            },
        )
    ]


def _judged(one: str, other: str, share: float, of_other: float) -> tuple[Severity, str]:
    if one == "data.val":
        move = "name other images in data.val: the figures say nothing of new ones"
        worst = _MOST_LEAKED if other == "data.train" else float("inf")  # its labels are not used
        return graded(share, warn=0, fail=worst), move
    move = f"take them out of {other}: they teach nothing new, and are labelled twice"
    return graded(of_other, warn=_MUCH_LEAKED), move


def within(where: str, rows: pa.Table, copies: Copies) -> list[Finding]:
    """Say which images stand in one set twice, and which of them are labelled differently."""
    uris = rows["uri"].to_pylist()
    places: dict[str, list[int]] = defaultdict(list)
    for place, uri in enumerate(uris):
        places[copies.content(uri)].append(place)
    twice = [each for each in places.values() if len(each) > 1]
    if not twice:
        return []
    apart = [each for each in twice if _disagree(rows, each)] if kind_of(rows.schema) else []
    spare = sum(len(each) - 1 for each in twice)
    example = [uris[place] for place in (apart or twice)[0]]
    said = f", and {len(apart)} of these are labelled in two ways" if apart else ""
    return [
        Finding(
            severity="warn",
            where=where,
            what=f"{spare} of {len(uris)} images are copies of others{said}, such as "
            f"{shortly(example)}",
            move="keep one of each, with the right labels",
            numbers={"copies": spare, "of": len(uris), "contradicting": len(apart),
                     "examples": [[uris[place] for place in each] for each in twice[:20]]},
        )
    ]  # fmt: skip


def _disagree(rows: pa.Table, places: Sequence[int]) -> bool:
    labels = unpack(rows.take(pa.array(places)))
    return len({_ESSENCE[type(one)](one) for one in labels}) > 1


# What two labellings of one image must have in common to be the same.
_ESSENCE: Final[Mapping[type, Callable[[Any], Any]]] = {
    Detections: lambda one: tuple(
        sorted((*box, k) for box, k in zip(one.boxes_xyxy.tolist(), one.class_ids, strict=True))
    ),
    SegmentationMap: lambda one: (one.class_map.shape, one.class_map.tobytes()),
    ClassLabel: lambda one: tuple(one.top_class_ids.tolist()),
}


def partly(where: str, copies: Copies) -> list[Finding]:
    """Say that not all files were compared."""
    left = copies.candidates - copies.compared
    if not left:
        return []
    return [
        Finding(
            severity="fine",
            where=where,
            what=f"{left} of {copies.candidates} files that share their size with another were not "
            "compared; --all compares them",
            numbers={"candidates": copies.candidates, "compared": copies.compared},
        )
    ]
