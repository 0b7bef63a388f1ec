"""Class maps beside images: a list of names, a folder of images, and a folder of PNGs.

In: the list, as in PASCAL VOC (VOC2012/ImageSets/Segmentation/train.txt) or any folder with
`images`, `labels` and `train.txt`. Out: LABEL_ROWs with a class map an image. What is wrong with a
map is mended and counted. Next: `digits.py`.

`classes.json` beside the list, or above it, names the classes and the value that means "not
labelled": {"classes": [...], "ignore_index": 255}. PASCAL VOC's own need none.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.images import ImageError, fetch, read_size_hw
from ray_st.data.labels import IGNORE, Origin, SegmentationMap
from ray_st.data.rows import pack
from ray_st.data.sources.folder import IMAGE_SUFFIXES, image_rows, names_below
from ray_st.data.sources.labeled import LabeledSet

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
_LAYOUTS = (("images", "labels"), ("JPEGImages", "SegmentationClass"), ("images", "masks"))
_READERS = 16  # reading small files is waiting, not computing
_SAME_ASPECT = 0.02


@dataclass(frozen=True, kw_only=True)
class _Set:
    """Where one set's files stand."""

    uri: str  # of the list
    names: tuple[str, ...]  # without suffix
    images: tuple[str, ...]
    maps_folder: str


def read(uri: str, *, images: str | None = None, images_field: str | None = None) -> LabeledSet:
    """Read a list of names; `images` is the folder of the images where they stand elsewhere."""
    found = _open(uri, images, images_field)
    classes, ignore = _classes(found)
    with ThreadPoolExecutor(_READERS) as pool:
        read_maps = [*pool.map(lambda name: _read_map(found, name), found.names)]
        sizes = [*pool.map(_size_or_none, found.images)]
    findings: Counter[str] = Counter()
    labels = [
        _mended(one, size, len(classes), ignore, findings)
        for one, size in zip(read_maps, sizes, strict=True)
    ]
    rows = pack(
        image_ids=range(len(found.names)),
        uris=found.images,
        sizes_hw=[size or one.class_map.shape for size, one in zip(sizes, labels, strict=True)],
        labels=labels,
        origin=Origin.HUMAN,
        kind=SegmentationMap,
    )
    return LabeledSet(rows, classes, uri, dict(findings))


def read_images(uri: str) -> pa.Table:
    """Only the images of a list, as IMAGE_ROWs."""
    found = _open(uri, None, None)
    return image_rows(range(len(found.images)), found.images)


def _open(uri: str, images: str | None, images_field: str | None) -> _Set:
    """Find the folders: the first layout that stands at or above the list."""
    path = storage.absolute(uri)
    names = _names(path)
    above = [storage.folder_of(path)]
    above += [storage.join(above[0], up) for up in ("..", "../..")]
    for folder in above:
        for images_name, maps_name in _LAYOUTS:
            folders = (storage.join(folder, images_name), storage.join(folder, maps_name))
            if all(storage.is_folder(one) for one in folders):
                image_folder = folders[0] if images is None else storage.absolute(images)
                return _Set(
                    uri=path,
                    names=names,
                    images=_image_uris(path, image_folder, names, images_field),
                    maps_folder=folders[1],
                )
    pairs = " or ".join(f"{one}/ and {other}/" for one, other in _LAYOUTS)
    raise UserError(f"{uri}: folders {pairs} must stand at or above the list; check the path")


def _names(path: str) -> tuple[str, ...]:
    try:
        text = fetch(path).decode("utf-8")
    except (ImageError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: a list of image names, one a line, must be readable, got {error}; "
            "check the path"
        ) from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names:
        raise UserError(f"{path}: must name images, one a line, got none; check the path")
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise UserError(f"{path}: each name must stand once, got {twice!r} twice; remove one")
    return names


def _image_uris(
    path: str, folder: str, names: Sequence[str], images_field: str | None
) -> tuple[str, ...]:
    file_of = {}
    for file in names_below(folder):
        stem, _, suffix = file.rpartition(".")
        if suffix.lower() in IMAGE_SUFFIXES:
            file_of[stem] = file
    missing = [name for name in names if name not in file_of]
    if missing:
        move = f"correct the list or set {images_field}" if images_field else "correct the list"
        raise UserError(
            f"{path}: images must stand in {folder}, got no {missing[0]!r} ({len(missing)} of "
            f"{len(names)} missing); {move}"
        )
    return tuple(storage.join(folder, file_of[name]) for name in names)


def _classes(found: _Set) -> tuple[tuple[str, ...], int]:
    """Class names, and the value of pixels without a label."""
    folder = storage.folder_of(found.uri)
    for place in (folder, storage.join(folder, ".."), storage.join(folder, "../..")):
        file = storage.join(place, "classes.json")
        if storage.exists(file):
            return _read_classes(file)
    if found.maps_folder.endswith("SegmentationClass"):
        return VOC_CLASSES, IGNORE
    raise UserError(
        f"{found.uri}: classes.json must stand beside or above it, got none; write "
        '{"classes": ["sky", ...], "ignore_index": 255}'
    )


def _read_classes(file: str) -> tuple[tuple[str, ...], int]:
    try:
        document = json.loads(fetch(file))
        names, ignore = document["classes"], document.get("ignore_index", IGNORE)
    except (ImageError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{file}: must be {{"classes": [names]}}, got {error!r}') from error
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or not 0 < len(set(names)) == len(names) < IGNORE or type(ignore) is not int:
        raise UserError(
            f"{file}: must hold 1 to {IGNORE - 1} different class names and a whole-number "
            f"ignore_index, got {names!r:.80} and {ignore!r}; correct it"
        )
    return tuple(names), ignore


def _read_map(found: _Set, name: str) -> np.ndarray | None:
    """Class values (h, w); None where the file is missing, damaged or no map."""
    try:
        with Image.open(io.BytesIO(fetch(storage.join(found.maps_folder, f"{name}.png")))) as image:
            values = np.array(image)
    except Exception:  # noqa: BLE001 - a decoder fed with arbitrary bytes raises arbitrary errors
        return None
    return values if values.ndim == 2 and values.dtype.kind in "ui" else None


def _size_or_none(uri: str) -> tuple[int, int] | None:
    try:
        return read_size_hw(uri)
    except ImageError:
        return None  # it will be a recorded row when it is read


def _mended(
    values: np.ndarray | None,
    size_hw: tuple[int, int] | None,
    num_classes: int,
    ignore: int,
    findings: Counter[str],
) -> SegmentationMap:
    if values is None:
        findings["maps_unreadable"] += 1
        return SegmentationMap.unknown()
    known = (values >= 0) & (values < num_classes) & (values != ignore)
    if not (known | (values == ignore) | (values == IGNORE)).all():
        findings["maps_with_values_past_the_classes"] += 1
    class_map = np.where(known, values, IGNORE).astype(np.uint8)
    if size_hw is None or size_hw == class_map.shape:
        return SegmentationMap(class_map=class_map)
    aspects = size_hw[0] * class_map.shape[1] / (size_hw[1] * class_map.shape[0])
    if abs(aspects - 1) > _SAME_ASPECT:
        findings["maps_of_another_shape"] += 1
        return SegmentationMap.unknown()
    findings["maps_resized"] += 1
    resized = Image.fromarray(class_map).resize(size_hw[::-1], Image.Resampling.NEAREST)
    return SegmentationMap(class_map=np.array(resized))
