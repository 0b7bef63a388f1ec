"""Images that stand twice: under one URI in two sets, or as the same bytes under two names.

In: the URIs of each set, and the sizes of their files. Out: `Copies`. Files of one size are
compared by their first bytes, and only those that agree there as a whole. Next: `twice.py`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ray_st.data import storage
from ray_st.selftraining.checkup.files import THREADS, Stat

MOST_COMPARED = 5000  # files, unless all are asked for: seconds here, a minute in a bucket
_HEAD_BYTES = 4096  # past the headers that one camera writes alike
_CHUNK_BYTES = 1 << 20

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
