"""Files below a folder, listed by many threads, given in one order and never held all at once.

In: a folder or prefix, and which names are wanted. Out: tables of FOUND, a run of files each. The
order is that of the relative names' code points, as `sources.folder` has it. What is held is the
folders that wait and the listings of a few: one folder's files must fit into memory (400 bytes
each, as pyarrow lists them at once), a pool's need not. Next: `tars.py`.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.manifest.ahead import workers
from ray_st.data.rows import MANIFEST_ROW

FOUND = pa.schema([each for each in MANIFEST_ROW if each.name != "image_id"])
_GATHERED_ROWS = 10_000


def found(uris: Sequence[str], sizes: Sequence[int] | None = None) -> pa.Table:
    """Make rows of FOUND. No listing of pyarrow's tells an etag, so it is null."""
    nulls = [None] * len(uris)
    columns = [
        pa.array(uris, pa.string()),
        pa.array(nulls if sizes is None else sizes, pa.int64()),
        pa.array(nulls, pa.string()),
    ]
    return pa.table(columns, schema=FOUND)


def gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables to some of ten thousand rows: folders may hold a file each."""
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        if rows >= _GATHERED_ROWS:
            yield pa.concat_tables(held).combine_chunks()
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held).combine_chunks()


@dataclass
class _Folder:
    """A folder on the way; `name` is relative with a slash behind, "" for the root."""

    name: str
    listing: Future[list[_Folder | pa.Table]] | None = None


@dataclass
class _Run:
    """Files that stand side by side in the order."""

    uris: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


def walk(
    root: str,
    threads: int,
    *,
    keeps: Callable[[str], bool],
    enters: Callable[[str], bool] = lambda _: True,
) -> Iterator[pa.Table]:
    """List the files that `keeps` wants, of folders that `enters` wants; both take relative names.

    Hidden files and folders (.name) are left out. Raises UserError for what cannot be read.
    """
    root = storage.absolute(root)
    filesystem, top = _located(root)

    def listed(name: str) -> list[_Folder | pa.Table]:
        path = posixpath.join(top, name).rstrip("/") or top
        infos = _entries(filesystem, path, root)
        return _in_order(infos, name, root, keeps, enters)

    with workers(threads) as pool:
        waiting: list[_Folder | pa.Table] = [_Folder("")]  # the next one stands last
        while waiting:
            for each in reversed(waiting[-2 * threads :]):
                if isinstance(each, _Folder) and each.listing is None:
                    each.listing = pool.submit(listed, each.name)
            first = waiting.pop()
            if isinstance(first, _Folder):
                assert first.listing is not None
                waiting += reversed(first.listing.result())
            else:
                yield first


def require_folder(uri: str) -> None:
    """Refuse a folder or prefix where nothing stands, or that cannot be read."""
    filesystem, path = _located(uri)
    try:
        kind = filesystem.get_file_info(path).type
    except (OSError, ValueError) as error:
        raise _unreadable(uri, error) from error
    if kind == fs.FileType.File:
        raise UserError(f"{uri}: must be a folder, a glob or a *.tar, got a file; check the path")
    if kind == fs.FileType.NotFound:
        raise UserError(f"{uri}: must be a folder that stands, got nothing; check the path")


def _located(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        return storage.locate(uri)
    except (OSError, ValueError) as error:
        raise _unreadable(uri, error) from error


def _entries(filesystem: fs.FileSystem, path: str, root: str) -> list[tuple[str, int | None]]:
    """Names and sizes of what stands in one folder; a folder has a slash behind, and no size."""
    try:
        # A folder that went since it was seen is an empty one.
        infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        entries: list[tuple[str, int | None]] = []
        for info in infos:
            if info.type == fs.FileType.File:
                entries.append((info.base_name, info.size))
            elif info.type == fs.FileType.Directory and not _leads_back(filesystem, info.path):
                entries.append((info.base_name + "/", None))
    except (OSError, ValueError) as error:
        raise _unreadable(root, error) from error
    # A key with // has an empty name on its way, and pyarrow could not open it.
    return [each for each in entries if each[0][:1] not in ("", ".", "/")]


def _leads_back(filesystem: fs.FileSystem, path: str) -> bool:
    """Say whether a local folder is a link to one on the way to it: that list has no end."""
    if not isinstance(filesystem, fs.LocalFileSystem) or not os.path.islink(path):  # noqa: PTH114
        return False
    return any(os.path.samefile(path, above) for above in Path(path).parents)  # noqa: PTH121


def _in_order(
    entries: list[tuple[str, int | None]],
    folder: str,
    root: str,
    keeps: Callable[[str], bool],
    enters: Callable[[str], bool],
) -> list[_Folder | pa.Table]:
    """Folders, and files in runs. With its slash, a folder sorts as the names below it do."""
    body, options = storage.split_options(root)
    before = f"{body.rstrip('/')}/{folder}"
    items: list[_Folder | _Run] = []
    for name, size in sorted(entries, key=itemgetter(0)):
        if size is None:
            if enters((folder + name)[:-1]):
                items.append(_Folder(folder + name))
        elif keeps(folder + name):
            if not items or isinstance(items[-1], _Folder):
                items.append(_Run())
            run = items[-1]
            assert isinstance(run, _Run)
            run.uris.append(f"{before}{name}{options}")
            run.sizes.append(size)
    return [found(each.uris, each.sizes) if isinstance(each, _Run) else each for each in items]


def _unreadable(uri: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(
        f"{uri}: images are listed from a folder or bucket that can be read, got: {reason}; "
        "check the path and your access"
    )
