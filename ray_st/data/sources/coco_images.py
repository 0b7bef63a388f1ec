"""The image list of a COCO file: ids, where the files stand, how large they are.

In: the entries under "images". Out: ids, full paths or URIs, and sizes, in the file's order.
Next: `coco_boxes.py`.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.images import ImageError, read_size_hw
from ray_st.secrets import require_plain_uri

logger = logging.getLogger(__name__)

_HEADER_THREADS = 16  # reading headers is waiting, not computing
_TRIED = 8  # images of a set; to ask for each of 100,000 in a bucket takes an hour


def image_list(uri: str, images: list[dict[str, Any]]) -> tuple[list[int], list[str]]:
    """Give ids and file names, checked."""
    for one in images:
        name = one.get("file_name")
        if type(one.get("id")) is not int or type(name) is not str or not name:
            raise UserError(
                f"{uri}: an image must have a whole-number id and a file_name, got {one}; "
                "correct it"
            )
        _require_place(uri, name)
    image_ids = [one["id"] for one in images]
    require_unique(uri, "image id", image_ids)
    return image_ids, [one["file_name"] for one in images]


def _require_place(uri: str, name: str) -> None:
    """Refuse a name that leads out of the images' folder, or holds a credential."""
    require_plain_uri(name, uri)
    climbs = posixpath.normpath(name).split("/")[0] == ".."
    if climbs and not storage.is_remote(name):
        raise UserError(
            f"{uri}: a file_name must lie below the folder of images, got {name!r}; correct it, or "
            "write the full path"
        )


def require_unique(uri: str, what: str, values: Sequence[Any]) -> None:
    """Raise UserError where a value stands twice."""
    if len(set(values)) < len(values):
        seen: set[Any] = set()
        twice = next(value for value in values if value in seen or seen.add(value))  # type: ignore[func-returns-value]
        raise UserError(
            f"{uri}: each {what} must stand once, got {twice!r} twice; remove one or renumber it"
        )


def image_uris(
    uri: str, names: list[str], images: str | None, images_field: str | None = None
) -> list[str]:
    """Give each image's full path or URI; the folder is found by looking for a few of them.

    `images_field` is what a user sets to name that folder, where there is such a field.
    """
    beside = storage.folder_of(uri)
    stem = uri.rpartition("/")[2].split(".json")[0].removeprefix("instances_")
    folders = [beside, *(storage.join(beside, name) for name in ("images", "../images"))]
    folders.append(storage.join(beside, f"../{stem}"))
    if images is not None:
        folders = [storage.absolute(images)]
    last = len(names) - 1
    tried = [names[i] for i in sorted({i * last // (_TRIED - 1) for i in range(_TRIED)})]
    folder, missing = _fewest_missing(folders, tried)
    if len(missing) < len(tried):
        if missing:
            _warn_once(
                f"{uri}: {len(missing)} of {len(tried)} images tried are missing in {folder}, "
                f"such as {missing[0]!r}; an image that cannot be read is counted and left out"
            )
        return [storage.join(folder, name) for name in names]
    move = f"set {images_field} to their folder" if images_field else "move them there"
    raise UserError(
        f"{uri}: its images must stand in one of {', '.join(folders)}, "
        f"got none of {len(tried)} tried there, such as {tried[0]!r}; {move}"
    )


def _fewest_missing(folders: list[str], names: list[str]) -> tuple[str, list[str]]:
    """The first folder that holds all, else the one that lacks the fewest, and which it lacks."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        found[folder] = _missing(folder, names)
        if not found[folder]:
            break
    return min(found.items(), key=lambda each: len(each[1]))


@cache  # a pool's file is read twice: for its images, and for the truth of them
def _warn_once(message: str) -> None:
    logger.warning(message)


def _missing(folder: str, names: list[str]) -> list[str]:
    try:
        with ThreadPoolExecutor(_HEADER_THREADS) as threads:
            found = [*threads.map(storage.exists, [storage.join(folder, name) for name in names])]
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{folder}: images must be on a filesystem that can be read, got: {reason}; "
            "check the address and your access"
        ) from error
    return [name for name, is_there in zip(names, found, strict=True) if not is_there]


def sizes_hw_of(uri: str, images: list[dict[str, Any]], uris: list[str]) -> list[tuple[int, int]]:
    """Give each image's height and width, read from its header where the entry has none."""
    sizes = [(one.get("height"), one.get("width")) for one in images]
    unknown = [i for i, size in enumerate(sizes) if not all(_is_length(side) for side in size)]
    try:
        with ThreadPoolExecutor(_HEADER_THREADS) as threads:
            read = threads.map(read_size_hw, [uris[i] for i in unknown])
            found = dict(zip(unknown, read, strict=True))
    except ImageError as error:
        raise UserError(
            f"{uri}: an image without width and height must be readable, got {error.reason}; "
            "give its size or remove it"
        ) from error
    return [found.get(i) or (int(h or 0), int(w or 0)) for i, (h, w) in enumerate(sizes)]


def _is_length(side: Any) -> bool:
    return type(side) is int and side > 0
