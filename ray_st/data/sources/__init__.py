"""From a URI to rows: which file holds what, and how it is opened.

In: `DataConfig`. Out: `LabeledSet` (LABEL_ROWs by humans) and IMAGE_ROWs without labels.
Start at `folder.py`, then `coco.py`; `digits` makes the demo world and is not loaded from here.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ray_st.config import UserError, require
from ray_st.data import storage
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.sources import class_folders, coco, folder, masks
from ray_st.data.sources.coco import write_coco
from ray_st.data.sources.labeled import LabeledSet

__all__ = ["DataConfig", "LabeledSet", "keep_labels", "open_images", "open_labeled", "write_coco"]

# Each has `read`, which gives a LabeledSet, and `read_images`, which gives IMAGE_ROWs.
_READERS: dict[str, Any] = {"coco": coco, "masks": masks, "classes": class_folders}
_SCHEME = re.compile(r"^([A-Za-z][\w+-]+):(?!//)")  # coco:PATH, but neither s3:// nor C:\


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images a run learns from, and which it is measured on."""

    train: str = ""
    """Human-labelled training images. Boxes: coco:FILE, or a path or URI ending in .json. Class
    maps: masks:LIST, a list of names as in PASCAL VOC. Classes: classes:DIR, a folder a class."""

    val: str = ""
    """Human-labelled images for measuring; never trained on. Same forms as train."""

    unlabeled: str | None = None
    """The pool that the teacher labels: a folder (path or URI), or a labelled set whose labels are
    ignored. None: the images of train beyond labeled_images."""

    images: str | None = None
    """Folder of the images of train and val. None: looked for beside the annotation file."""

    labeled_images: int | None = None
    """Keep the labels of only this many images of train, drawn with split_seed; the rest, without
    its labels, is the pool unless unlabeled names one. None: keep all."""

    split_seed: int = 0
    """Seed of that draw. With one seed, a larger draw holds the smaller one."""

    def __post_init__(self) -> None:
        require(
            self.labeled_images is None or self.labeled_images >= 1,
            "data.labeled_images",
            "at least 1",
            self.labeled_images,
            "leave it out to keep all labels",
        )
        require(self.split_seed >= 0, "data.split_seed", "0 or more", self.split_seed)


def open_labeled(
    uri: str, *, images: str | None = None, images_field: str | None = None
) -> LabeledSet:
    """Read human labels. `images` is the folder of the images where they stand elsewhere.

    `images_field` is the field that holds it, as the user knows it; none where there is no such.
    """
    scheme, path = _parsed(uri)
    if scheme is None:
        forms = ", ".join(f"{name}:PATH" for name in _READERS)
        raise UserError(
            f"labels are read from {forms} or a path ending in .json, got {uri!r}; "
            f"write {_guessed(uri)}"
        )
    reader = _READERS[scheme]
    labeled: LabeledSet = reader.read(path, images=images, images_field=images_field)
    return labeled


def _guessed(uri: str) -> str:
    """What a user may have meant by a path alone."""
    if uri.lower().endswith(".txt"):
        return f"masks:{uri} if this is a list of images with class maps"
    if not storage.is_remote(uri) and storage.is_folder(uri):
        return f"classes:{uri} if this is a folder of class folders"
    return f"coco:{uri} if this is a COCO file"


def open_images(uri: str) -> pa.Table:
    """List images without labels, as IMAGE_ROWs: a folder, or the images of a labelled set."""
    scheme, path = _parsed(uri)
    return folder.list_images(path) if scheme is None else _READERS[scheme].read_images(path)


def keep_labels(labeled: LabeledSet, count: int, seed: int) -> tuple[LabeledSet, pa.Table]:
    """Draw `count` labelled images; give them, and all others as IMAGE_ROWs without labels.

    Both keep the order of the set. The draws of one seed are nested: more labels only add images.
    """
    available = labeled.rows.num_rows
    require(
        1 <= count <= available,
        "data.labeled_images",
        f"from 1 to the {available} images of {labeled.uri}",
        count,
        "leave it out to keep all labels",
    )
    order = np.random.default_rng(seed).permutation(available)
    kept = labeled.rows.take(pa.array(np.sort(order[:count])))
    rest = labeled.rows.take(pa.array(np.sort(order[count:]))).select(IMAGE_ROW.names)
    return replace(labeled, rows=kept), rest.cast(IMAGE_ROW)


def _parsed(uri: str) -> tuple[str | None, str]:
    """Which reader, and the path that it takes; None for a plain folder."""
    found = _SCHEME.match(uri)
    if found is None:
        return ("coco" if uri.lower().endswith(".json") else None), uri
    scheme, path = found.group(1), uri[found.end() :]
    if scheme in _READERS:
        return scheme, path
    nearest = difflib.get_close_matches(scheme, _READERS, n=1, cutoff=0)[0]
    known = ", ".join(f"{name}:PATH" for name in _READERS)
    raise UserError(
        f"a data URI starts with one of: {known}, or is a path, got {uri!r}; "
        f"did you mean {nearest}:{path}?"
    )
