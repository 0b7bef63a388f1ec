"""A foreign teacher's files in a bucket: brought here for as long as they are read.

In: what stands behind `onnx:`, `hf:` or `torchvision:NAME:`. Out: the same with a path of this
machine in it; errors of who reads there name the bucket. Next: `torchvision_model.py`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pyarrow import fs

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.models.files import unreadable

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.*")


@contextmanager
def at_hand(spec: str, *, is_folder: bool) -> Iterator[str]:
    """Give a text with its URI, if it has one, replaced by a local path that stands until the end.

    A folder comes with the files that lie in it, a file with the .txt of its class names; what is
    not there is left to whoever reads. Raises `UserError` where storage cannot be asked.
    """
    found = _URI.search(spec)
    if found is None:
        yield spec
        return
    before, uri = spec[: found.start()], found.group()
    if not storage.is_remote(uri):
        yield before + storage.absolute(uri)
        return
    there = posixpath.dirname(storage.split_options(uri)[0].rstrip("/"))
    with TemporaryDirectory() as folder:
        copied = _copied_folder if is_folder else _copied_file
        try:
            here = copied(uri, Path(folder))
        except (OSError, ValueError) as error:
            raise unreadable(uri, "teacher", error) from error
        try:
            yield before + str(here)
        except UserError as error:
            raise UserError(str(error).replace(folder, there)) from error


def _copied_folder(uri: str, folder: Path) -> Path:
    """Copy what lies in it, without the folders."""
    filesystem, path = storage.locate(uri)
    here = folder / posixpath.basename(path)
    for info in storage.listed(uri):
        if info.type == fs.FileType.File:
            here.mkdir(exist_ok=True)
            _copy(filesystem, info.path, here / posixpath.basename(info.path))
    return here


def _copied_file(uri: str, folder: Path) -> Path:
    """Copy it, and the names beside it, as far as they stand."""
    filesystem, path = storage.locate(uri)
    for name in (path, str(Path(path).with_suffix(".txt"))):
        if filesystem.get_file_info(name).type == fs.FileType.File:
            _copy(filesystem, name, folder / posixpath.basename(name))
    return folder / posixpath.basename(path)


def _copy(filesystem: fs.FileSystem, path: str, here: Path) -> None:
    fs.copy_files(path, str(here), filesystem, fs.LocalFileSystem())
