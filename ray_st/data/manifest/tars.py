"""The images of a tar, found by its headers: no member is read.

In: a plain tar (ustar, GNU or PAX), here or in a bucket. Out: FOUND, a `slice:` of the tar for each
member that is an image by its name, in the tar's order. A tar that is compressed, cut off or
damaged is refused: its images, or half of them, would be missing in silence. Next: `lists.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.manifest.listing import found
from ray_st.data.parts import slice_uri
from ray_st.data.sources.folder import is_image

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")

_BLOCK = 512
_DIGITS = 20  # a length in a PAX header has at most
_AHEAD = 8192  # one request for a header and the small members behind it
_LONGEST_NAME = 1 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_BODILESS = b"123456"  # links, devices, folders, fifos: the size says nothing
_PLAIN = b"0\x007"


class _DamagedError(Exception):
    """Why this is no whole, plain tar."""


@dataclass(frozen=True)
class _Header:
    name: str
    size: int
    kind: bytes


def list_tar(uri: str) -> pa.Table:
    """Give the images of one tar as FOUND. Raises UserError for one that is not whole and plain."""
    uris: list[str] = []
    sizes: list[int] = []
    try:
        for name, offset, size in _members(uri):
            if is_image(name.removeprefix("./")):
                uris.append(slice_uri(offset, size, uri))
                sizes.append(size)
    except (OSError, ValueError, _DamagedError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{uri}: must be a whole, uncompressed tar, got: {reason}; "
            "make it again, or move it away"
        ) from error
    return found(uris, sizes)


class _Blocks:
    """Blocks of a file, read a few at a time."""

    def __init__(self, uri: str) -> None:
        filesystem, path = storage.locate(uri)
        self._file = filesystem.open_input_file(path)
        self.size: int = self._file.size()
        self._start, self._ahead = 0, b""

    def __enter__(self) -> _Blocks:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, offset: int, size: int) -> bytes:
        first = offset - self._start
        if not 0 <= first <= len(self._ahead) - size:
            self._start, first = offset, 0
            self._ahead = self._file.read_at(max(size, _AHEAD), offset)
        return self._ahead[first : first + size]


def _members(uri: str) -> Iterator[tuple[str, int, int]]:
    """Name, offset of the first byte, and size of each plain file in a tar."""
    with _Blocks(uri) as blocks:
        offset, said = 0, dict[str, str]()  # said: what a header said of the next one
        while offset < blocks.size:
            block = blocks.read(offset, _BLOCK)
            if not any(block):
                return
            header = _parse(block)
            size = int(said.get("size", header.size))
            if size < 0:  # which would lead back, and round for ever
                raise _DamagedError(f"a member of {size} bytes, {header.name!r}")
            body = 0 if header.kind in _BODILESS else size
            if header.kind == b"S" or any(key.startswith("GNU.sparse") for key in said):
                raise _DamagedError(f"a sparse member, {header.name!r}")
            offset += _BLOCK
            if offset + body > blocks.size:
                raise _DamagedError(f"it is cut off in {said.get('path', header.name)!r}")
            if header.kind in b"Lx":
                said |= _said(header.kind, blocks.read(offset, _short(size)))
            elif header.kind not in b"gK":  # a whole tar's own words, and the target of a link
                if header.kind in _PLAIN:
                    yield said.get("path", header.name), offset, size
                said = {}
            offset += -(-body // _BLOCK) * _BLOCK
        if not offset:
            raise _DamagedError("an empty file (0 bytes)")


def _parse(block: bytes) -> _Header:
    if len(block) < _BLOCK or not _has_its_sum(block):
        packed = next((name for magic, name in _MAGIC.items() if block.startswith(magic)), None)
        what = f"a file compressed by {packed}" if packed else "a damaged header, or no tar at all"
        raise _DamagedError(what)
    name = _text(block[:100])
    if block[257:263] == b"ustar\x00" and block[345]:
        name = f"{_text(block[345:500])}/{name}"
    kind = block[156:157]
    if kind in b"0\x00" and name.endswith("/"):
        kind = b"5"  # a folder, before there was a letter for it
    return _Header(name, _number(block[124:136]), kind)


def _has_its_sum(block: bytes) -> bool:
    try:
        # Eight spaces stand for the sum while it is taken.
        return _number(block[148:156]) == sum(block) - sum(block[148:156]) + 8 * ord(" ")
    except ValueError:
        return False


def _number(digits: bytes) -> int:
    if digits[0] == 0x80:  # GNU's form of what is too large for octal digits
        return int.from_bytes(digits[1:], "big")
    return int(digits.strip(b" \x00") or b"0", 8)


def _short(size: int) -> int:
    if size > _LONGEST_NAME:
        raise _DamagedError(f"a name of {size} bytes")
    return size


def _said(kind: bytes, body: bytes) -> dict[str, str]:
    """Read what is said of the next member: GNU's long name (L), or PAX's "LENGTH KEY=VALUE"s."""
    if kind == b"L":
        return {"path": _text(body)}
    records: dict[str, str] = {}
    at, end = 0, len(body.rstrip(b"\x00"))
    while at < end:
        space = body.find(b" ", at, at + _DIGITS)
        length = int(body[at:space]) if space > at else 0
        key, mark, value = body[space + 1 : at + length].partition(b"=")
        if length <= 0 or not mark:
            raise _DamagedError("a damaged PAX header")
        records[_text(key)] = value[:-1].decode("utf-8", "surrogateescape")
        at += length
    return records


def _text(field: bytes) -> str:
    return field.partition(b"\x00")[0].decode("utf-8", "surrogateescape")
