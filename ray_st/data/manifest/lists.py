"""A text file with a path or URI a line.

In: the file. Out: FOUND, in the file's order. Next: `tables.py`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.manifest.listing import found
from ray_st.data.parts import is_part

_ROWS = 10_000  # at a time


def list_lines(uri: str) -> Iterator[pa.Table]:
    """Read a list; a relative name is meant from the list's folder. Empty lines are left out."""
    folder = storage.folder_of(uri)
    try:
        filesystem, path = storage.locate(uri)
        with filesystem.open_input_stream(path, compression=None) as stream:
            lines = io.TextIOWrapper(stream, "utf-8-sig")
            names = (stripped for line in lines if (stripped := line.strip()))
            while some := [*islice(names, _ROWS)]:
                yield found([resolved(folder, name) for name in some])
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())
        raise UserError(
            f"{uri}: a list of paths or URIs, one a line, must be readable, got: {reason}; "
            "check the path"
        ) from error


def resolved(folder: str, name: str) -> str:
    """Give the one form that rows hold of what a user's file names."""
    if storage.is_remote(name) or is_part(name):
        return name
    if name.lower().startswith("file://"):
        return storage.absolute(name)
    return storage.join(folder, name)
