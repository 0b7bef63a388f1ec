"""Small files of a run's folder, read with patience: a run is writing them at this moment.

In: a folder or bucket. Out: JSON and YAML as plain values; what is absent, damaged or just being
replaced is empty. What cannot be reached is a `UserError`. What is put there at once, such as a
summary, is read by `left_whole`. Next: `training.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pyarrow import fs

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.recipe import parse_yaml
from ray_st.selftraining.record import PROGRESS, RECIPE
from ray_st.status.values import count, section

T = TypeVar("T")
R = TypeVar("R")

_THREADS = 16  # a bucket answers after some hundredths of a second


def names_in(uri: str) -> dict[str, fs.FileInfo]:
    """What lies in a folder, by name; nothing where there is none."""
    try:
        return {str(info.base_name): info for info in storage.listed(uri)}
    except NotADirectoryError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"run: {uri} cannot be read ({' '.join(str(error).split())}); check the path and your "
            "access"
        ) from error


def read_json(uri: str) -> dict[str, Any]:
    """An object; empty where there is none."""
    try:
        found = json.loads(storage.read(uri))
    except (OSError, ValueError, RecursionError):
        return {}
    return section(found)


def read_lines(uri: str) -> list[dict[str, Any]]:
    """Objects, one a line; those that are none are left out."""
    try:
        lines = storage.read(uri).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # cut off while it was written
        if count(section(row).get("step")) is not None:
            found.append(row)
    return found


def read_recipe(folder: str) -> dict[str, Any]:
    """The resolved recipe; empty where there is none."""
    try:
        text = storage.read(storage.join(folder, RECIPE))
    except OSError:
        return {}
    return parse_yaml(text, storage.join(folder, RECIPE))


Noted = Mapping[str, Mapping[str, Any]]
"""How far stages are, by name, as the process that works, or worked, on a run noted it."""


def read_noted(folder: str) -> Noted:
    """What a working process has noted last."""
    stages = section(read_json(storage.join(folder, PROGRESS)).get("stages"))
    return {name: each for name, each in stages.items() if isinstance(each, dict)}


def at_once(act: Callable[[T], R], things: Sequence[T]) -> list[R]:
    """What `act` makes of each, many at a time."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return [*threads.map(act, things)]


def changed_at_s(info: fs.FileInfo | None) -> float | None:
    """When a file was written."""
    nanoseconds = None if info is None else info.mtime_ns
    return None if nanoseconds is None else float(nanoseconds) / 1e9
