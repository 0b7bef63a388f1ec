"""A folder of images, here or in a bucket, as IMAGE_ROWs.

In: a path or any URI that pyarrow.fs knows. Out: IMAGE_ROWs in the order of their relative names,
numbered from 0. Next: `coco.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyarrow import fs

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.rows import IMAGE_ROW

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp")


def list_images(uri: str) -> pa.Table:
    """List the images below a folder, in the order of `image_names`."""
    root = storage.absolute(uri)
    names = image_names(uri)
    return image_rows(range(len(names)), [storage.join(root, name) for name in names])


def image_names(uri: str) -> list[str]:
    """Names of the images below a folder; hidden files and folders (.name) are skipped.

    The order is that of the names' code points, the same on every machine and filesystem.
    """
    names = sorted(name for name in names_below(storage.absolute(uri)) if is_image(name))
    if not names:
        raise UserError(
            f"{uri}: this folder must hold images ({' '.join(IMAGE_SUFFIXES)}), got none; "
            "check the path"
        )
    return names


def image_rows(image_ids: Sequence[int], uris: Sequence[str]) -> pa.Table:
    """Make IMAGE_ROWs."""
    columns = [pa.array(image_ids, pa.int64()), pa.array(uris, pa.string())]
    return pa.table(columns, schema=IMAGE_ROW)


def names_below(root: str) -> list[str]:
    """Names of all files below a folder, relative to it, in no order."""
    try:
        filesystem, path = storage.locate(root)
        found = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{root}: images are listed from a folder or bucket that can be read, got: {reason}; "
            "check the path and your access"
        ) from error
    return [info.path[len(path) :].lstrip("/") for info in found if info.type == fs.FileType.File]


def is_image(name: str) -> bool:
    """Say whether a relative name is an image's by its suffix, and nothing in it is hidden."""
    base = name.rpartition("/")[2]
    _, dot, suffix = base.rpartition(".")
    return dot == "." and suffix.lower() in IMAGE_SUFFIXES and "/." not in f"/{name}"
