"""From what a user wrote to a stream of FOUND: which kind of pool it is, and who lists it.

In: `--images`: a folder, a glob, wds:GLOB, parquet:GLOB, list:FILE, coco:FILE, masks:LIST or
classes:DIR. Out: `Pool`. Next: `buckets.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ray_st.config import UserError, nearest
from ray_st.data import storage
from ray_st.data.manifest.ahead import ahead
from ray_st.data.manifest.listing import found, require_folder, walk
from ray_st.data.manifest.lists import list_lines
from ray_st.data.manifest.patterns import Pattern, below, has_wildcards, parse
from ray_st.data.manifest.tables import find_column, list_cells, list_uris, read_footer
from ray_st.data.manifest.tars import COMPRESSED, list_tar
from ray_st.data.sources import coco, masks
from ray_st.data.sources.folder import IMAGE_SUFFIXES, is_image
from ray_st.secrets import require_plain_uri

_SCHEME = re.compile(r"^([A-Za-z][\w+-]+):(?!//)")  # wds:GLOB, but neither s3:// nor C:\
_ROWS = 10_000  # at a time


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Where images are said to be."""

    uri: str
    """What was asked for, with its full path: one text for one pool."""
    tables: Callable[[int], Iterator[pa.Table]]
    """FOUND, listed by so many threads, in the same order every time. Raises UserError."""
    wants: str
    """What must be there."""
    pattern: Pattern | None = None
    """Which folders are listed, if any are."""
    may_repeat: bool = False
    """Whether an image can be listed twice."""


def open_pool(images: str, column: str | None = None) -> Pool:
    """Say what kind of pool this is; only the place is looked at. Raises UserError."""
    scheme, path = _parsed(images)
    if column is not None and scheme != "parquet":
        raise UserError(
            f"column: must be left out where images are no Parquet, got {column!r}; "
            "remove it, or write parquet:GLOB"
        )
    return _parquet(path, column) if scheme == "parquet" else _KINDS[scheme](path)


def _folder(path: str) -> Pool:
    """A folder of any depth, or a glob of images."""
    pattern = parse(path) if _is_glob(path) else below(path, "*")
    require_folder(pattern.root)

    def keeps(name: str) -> bool:
        return is_image(name) and pattern.keeps(name)

    return Pool(
        uri=path,
        tables=lambda threads: walk(pattern.root, threads, keeps=keeps, enters=pattern.enters),
        wants=f"images ({' '.join(IMAGE_SUFFIXES)})",
        pattern=pattern,
    )


def _tars(path: str) -> Pool:
    """WebDataset's shards, or any tars of images."""
    pattern = _pattern(path, "*.t*")  # compressed ones are to be seen, and refused

    def is_tar(name: str) -> bool:
        if name.lower().endswith(COMPRESSED):
            raise UserError(
                f"{path}: must be plain tars, whose members can be read in place, got {name}; "
                "uncompress it, or move it away"
            )
        return name.lower().endswith(".tar")

    def tables(threads: int) -> Iterator[pa.Table]:
        return ahead(list_tar, _files(path, pattern, threads, is_tar), threads)

    return Pool(uri=f"wds:{path}", tables=tables, wants="tars of images", pattern=pattern)


def _parquet(path: str, column: str | None) -> Pool:
    """Parquet files with bytes or URIs; the first file says which column."""
    pattern = _pattern(path, "*.parquet")

    def is_table(name: str) -> bool:  # _SUCCESS and its kind are none
        return name.rpartition("/")[2][0] not in "._"

    def tables(threads: int) -> Iterator[pa.Table]:
        said = None
        for footer in ahead(read_footer, _files(path, pattern, threads, is_table), threads):
            said = said or find_column(footer, column)
            yield from (list_cells if said.holds_bytes else list_uris)(footer, said)

    return Pool(
        uri=f"parquet:{path}",
        tables=lambda threads: _openable(path, tables(threads)),
        wants="Parquet files with rows",
        pattern=pattern,
        may_repeat=True,
    )


def _list(path: str) -> Pool:
    return Pool(
        uri=f"list:{path}",
        tables=lambda _: _openable(path, list_lines(path)),
        wants="a path or URI a line",
        may_repeat=True,
    )


def _labelled(scheme: str, reader: Any) -> Callable[[str], Pool]:
    """The images of a labelled set, whose list its reader holds whole."""

    def tables(path: str) -> Iterator[pa.Table]:
        for batch in reader.read_images(path).to_batches(_ROWS):
            yield found(batch.column("uri").to_pylist())

    def pool(path: str) -> Pool:
        uri = f"{scheme}:{path}"
        return Pool(uri=uri, tables=lambda _: tables(path), wants="images", may_repeat=True)

    return pool


def _classes(path: str) -> Pool:
    """Class folders: as a folder."""
    require_folder(path)
    return _folder(path)


_KINDS: dict[str, Callable[[str], Pool]] = {
    "folder": _folder,
    "wds": _tars,
    "parquet": lambda path: _parquet(path, None),
    "list": _list,
    "coco": _labelled("coco", coco),
    "masks": _labelled("masks", masks),
    "classes": _classes,
}


def _parsed(images: str) -> tuple[str, str]:
    """Which kind, and its full path."""
    match = _SCHEME.match(images)
    if match is None:
        path = _full(images)
        lower = storage.split_options(path)[0].lower()
        if lower.endswith((*COMPRESSED, ".tar")):
            return "wds", path
        return "coco" if lower.endswith(".json") else "folder", path
    scheme, path = match.group(1), images[match.end() :]
    forms = [name for name in _KINDS if name != "folder"]
    if scheme not in forms:
        near = nearest(scheme, forms) or forms[0]
        raise UserError(
            f"images: must be a folder, a glob or one of {', '.join(f'{each}:' for each in forms)} "
            f"with a path, got {images!r}; did you mean {near}:{path}?"
        )
    return scheme, _full(path)


def _full(path: str) -> str:
    """One text for one place: a manifest remembers it."""
    body, options = storage.split_options(storage.absolute(path))
    return (body.rstrip("/") or "/") + options


def _is_glob(path: str) -> bool:
    """A folder that stands is one, whatever its name."""
    return has_wildcards(path) and (storage.is_remote(path) or not storage.is_folder(path))


def _pattern(path: str, last: str) -> Pattern | None:
    """Files of a glob, or at any depth of a folder; None where this is one file."""
    if not _is_glob(path) and storage.exists(path):
        return None
    pattern = parse(path) if _is_glob(path) else below(path, last)
    require_folder(pattern.root)
    return pattern


def _files(
    path: str, pattern: Pattern | None, threads: int, is_wanted: Callable[[str], bool]
) -> Iterator[str]:
    if pattern is None:
        yield from filter(is_wanted, [path])
        return

    def keeps(name: str) -> bool:
        return pattern.keeps(name) and "/." not in f"/{name}" and is_wanted(name)

    for table in walk(pattern.root, threads, keeps=keeps, enters=pattern.enters):
        yield from table.column("uri").to_pylist()


def _openable(path: str, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Pass tables on; refuses a URI that no filesystem opens, such as https://."""
    known: set[str] = set()
    for table in tables:
        for uri in filter(storage.is_remote, table.column("uri").to_pylist()):
            require_plain_uri(uri, path)
            scheme = uri.partition("://")[0]
            try:
                if scheme not in known:
                    storage.locate(uri)
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise UserError(
                    f"{path}: must name images on filesystems that can be opened, got {uri} "
                    f"({reason}); what is on the web must be downloaded first"
                ) from error
            known.add(scheme)
        yield table
