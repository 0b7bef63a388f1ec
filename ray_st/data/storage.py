"""Where bytes lie: a local path or any URI that pyarrow.fs knows (s3://, gs://, hdfs://, file://).

In: what a user wrote. Out: a filesystem and the path on it; names joined and split.
A plain path is never parsed as a URI, so `#`, `%`, `=` and spaces are ordinary letters; in a remote
URI the key is taken literally too, and only a tail like `?region=eu-west-1` is an option.
Next: `parquet.py`.
"""

from __future__ import annotations

import os
import posixpath
import re
from functools import cache
from urllib.parse import unquote

from pyarrow import fs

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_OPTIONS = re.compile(r"\?\w+=[^/]*$")


def is_remote(uri: str) -> bool:
    """Say whether this is a URI with a scheme; file:// counts as local."""
    return _SCHEME.match(uri) is not None and not uri.lower().startswith("file://")


def absolute(uri: str) -> str:
    """Give the one form that rows hold: an absolute local path, or the full remote URI."""
    if is_remote(uri):
        return uri
    return str(os.path.abspath(_plain(uri)))  # noqa: PTH100 - pathlib's resolve() would follow links


def _plain(uri: str) -> str:
    """Give the path of a file URI; whatever else stays as it is."""
    if not uri.lower().startswith("file://"):
        return uri
    # Only here are %-escapes decoded: a file URI is the one local form that has them.
    return unquote(uri[len("file://") :].removeprefix("localhost"))


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """Give the filesystem of a URI, opened once a process, and the path on it.

    Raises what pyarrow raises: ValueError for an unknown scheme, OSError for an unknown bucket.
    """
    if not is_remote(uri):
        return _local(), absolute(uri)
    body, options = split_options(uri)
    scheme, _, rest = body.partition("://")
    authority, _, path = rest.partition("/")
    filesystem, root = _remote(scheme, authority, options)
    return filesystem, posixpath.join(root, path.strip("/")).rstrip("/")


def join(folder: str, name: str) -> str:
    """Put a relative name into a folder; an absolute name or a URI stays as it is."""
    if is_remote(name) or name.startswith("/"):
        return name
    body, options = split_options(folder)
    if not is_remote(folder):
        return os.path.normpath(os.path.join(_plain(folder), name))  # noqa: PTH118 - strings throughout
    scheme, _, rest = body.partition("://")
    bucket, _, key = rest.partition("/")
    path = posixpath.normpath(posixpath.join("/", key, name))  # nothing lies above a bucket
    return f"{scheme}://{bucket}{path.rstrip('/')}{options}"


def folder_of(uri: str) -> str:
    """Give the folder that a file lies in."""
    body, options = split_options(uri)
    return posixpath.dirname(body) + options


def exists(uri: str) -> bool:
    """Say whether a file (not a folder) stands there."""
    filesystem, path = locate(uri)
    return bool(filesystem.get_file_info(path).type == fs.FileType.File)


def is_folder(uri: str) -> bool:
    """Say whether a folder stands there."""
    filesystem, path = locate(uri)
    return bool(filesystem.get_file_info(path).type == fs.FileType.Directory)


def split_options(uri: str) -> tuple[str, str]:
    """Part a remote URI from a tail such as `?region=eu-west-1`; "" where there is none."""
    found = _OPTIONS.search(uri) if is_remote(uri) else None
    return (uri[: found.start()], found.group()) if found else (uri, "")


def put(uri: str, content: bytes) -> None:
    """Write a small file whole or not at all; what stands there is replaced. Raises OSError.

    A bucket shows an object once all of it is there; here a file of another name takes its place.
    """
    filesystem, path = locate(uri)
    scratch = path if is_remote(uri) else path + ".part"
    with filesystem.open_output_stream(scratch, compression=None) as stream:
        stream.write(content)
    if scratch != path:
        os.replace(scratch, path)  # noqa: PTH105 - strings throughout


def read(uri: str) -> bytes:
    """Read a small file whole. Raises OSError."""
    filesystem, path = locate(uri)
    with filesystem.open_input_stream(path, compression=None) as stream:
        return bytes(stream.read())


def listed(uri: str) -> list[fs.FileInfo]:
    """What lies in a folder, in the order of names; nothing where there is none. Raises OSError."""
    filesystem, path = locate(uri)
    found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(found, key=lambda info: str(info.base_name))


def make_folder(uri: str) -> None:
    """Make a folder and those above it; a bucket has none to make. Raises OSError."""
    if not is_remote(uri):
        _local().create_dir(absolute(uri), recursive=True)


def remove(uri: str) -> None:
    """Remove a file, or a folder with all that is in it; nothing where none stands."""
    filesystem, path = locate(uri)
    kind = filesystem.get_file_info(path).type
    if kind == fs.FileType.Directory:
        filesystem.delete_dir(path)
    elif kind == fs.FileType.File:
        filesystem.delete_file(path)


@cache
def _local() -> fs.FileSystem:
    return fs.LocalFileSystem()


@cache
def _remote(scheme: str, authority: str, options: str) -> tuple[fs.FileSystem, str]:
    # Arrow itself tries again: S3 every 0.2 s for up to 6 s on whatever AWS calls retryable
    # (its ConnectRetryStrategy), Google's client with its own backing off.
    filesystem, root = fs.FileSystem.from_uri(f"{scheme}://{authority}{options}")
    return filesystem, root
