"""Where the files of a list of class maps stand, and what its classes are called.

In: the list, as in PASCAL VOC (VOC2012/ImageSets/Segmentation/train.txt) or any folder with
`images`, `labels` and `train.txt`. Out: `MaskList`. Next: `masks.py`, which reads the maps.

`classes.json` beside the list, or above it, names the classes and the value that means "not
labelled": {"classes": [...], "ignore_index": 255}. PASCAL VOC's own need none.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.images import ImageError, fetch
from ray_st.data.labels import IGNORE
from ray_st.data.sources.folder import IMAGE_SUFFIXES, names_below

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
_LAYOUTS = (("images", "labels"), ("JPEGImages", "SegmentationClass"), ("images", "masks"))


@dataclass(frozen=True, kw_only=True)
class MaskList:
    """Where the images and the maps of a list stand."""

    path: str  # of the list: absolute, or a URI
    names: tuple[str, ...]  # without suffix, which the list may have
    images: tuple[str, ...]
    maps_folder: str

    def maps(self) -> list[str | None]:
        """The map of each image; None where there is none."""
        files = _files(self.path, self.maps_folder, self.names, ("png",))
        return [files.get(name) for name in self.names]

    def classes(self) -> tuple[tuple[str, ...], int]:
        """Class names, and the value of pixels without a label."""
        for folder in _at_and_above(self.path):
            file = storage.join(folder, "classes.json")
            if storage.exists(file):
                return _read_classes(file)
        if self.maps_folder.endswith("SegmentationClass"):
            return VOC_CLASSES, IGNORE
        raise UserError(
            f"{self.path}: classes.json must stand beside or above it, got none; write "
            '{"classes": ["sky", ...], "ignore_index": 255}'
        )


def open_list(uri: str, images: str | None, images_field: str | None) -> MaskList:
    """Find the folders: the first layout that stands at or above the list.

    `images` is the folder of the images where they stand elsewhere, and `images_field` what a user
    sets to name it.
    """
    path = storage.absolute(uri)
    names = _names(path)
    for folder in _at_and_above(path):
        for image_folder, maps_folder in _LAYOUTS:
            maps = storage.join(folder, maps_folder)
            beside = storage.join(folder, image_folder)
            if storage.is_folder(maps) and (images is not None or storage.is_folder(beside)):
                return MaskList(
                    path=path,
                    names=names,
                    images=_image_uris(path, images or beside, names, images_field),
                    maps_folder=maps,
                )
    pairs = " or ".join(f"{one}/ and {other}/" for one, other in _LAYOUTS)
    raise UserError(f"{uri}: folders {pairs} must stand at or above the list; check the path")


def _at_and_above(path: str) -> list[str]:
    """The folder of a file and the two above it, as far as there are any."""
    folders = [storage.folder_of(path)]
    while len(folders) < 3:
        above = storage.folder_of(folders[-1])
        if above == folders[-1] or storage.is_remote(above) != storage.is_remote(path):
            break  # the root, or the bucket
        folders.append(above)
    return folders


def _names(path: str) -> tuple[str, ...]:
    try:
        text = fetch(path).decode("utf-8-sig")
    except (ImageError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: a list of image names, one a line, must be readable, got {error}; "
            "check the path"
        ) from error
    names = tuple(_without_suffix(line.strip()) for line in text.splitlines() if line.strip())
    if not names:
        raise UserError(f"{path}: must name images, one a line, got none; check the path")
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise UserError(f"{path}: each name must stand once, got {twice!r} twice; remove one")
    return names


def _without_suffix(name: str) -> str:
    """Some lists name files; an image and its map may differ in their suffix."""
    stem, _, suffix = name.rpartition(".")
    return stem if stem and suffix.lower() in IMAGE_SUFFIXES else name


def _image_uris(
    path: str, images: str, names: Sequence[str], images_field: str | None
) -> tuple[str, ...]:
    folder = storage.absolute(images)
    files = _files(path, folder, names, IMAGE_SUFFIXES)
    missing = [name for name in names if name not in files]
    if missing:
        move = f"correct the list or set {images_field}" if images_field else "correct the list"
        raise UserError(
            f"{path}: images must stand in {folder} under the names listed, got no "
            f"{missing[0]!r} ({len(missing)} of {len(names)} missing); {move}"
        )
    return tuple(files[name] for name in names)


def _files(path: str, folder: str, names: Sequence[str], suffixes: Sequence[str]) -> dict[str, str]:
    """The file of each name, where there is one; refuses a name that has two."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in names_below(folder):
        stem, _, suffix = file.rpartition(".")
        if suffix.lower() in suffixes:
            found[stem].append(file)
    for name in names:
        if len(found.get(name, ())) > 1:
            raise UserError(
                f"{path}: each name must be of one file in {folder}, got "
                f"{' and '.join(sorted(found[name]))}; remove one"
            )
    return {stem: storage.join(folder, files[0]) for stem, files in found.items()}


def _read_classes(file: str) -> tuple[tuple[str, ...], int]:
    try:
        document = json.loads(fetch(file))
        names, ignore = document["classes"], document.get("ignore_index", IGNORE)
    except (
        ImageError, ValueError, RecursionError, KeyError, TypeError, AttributeError
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())
        raise UserError(
            f'{file}: must be JSON such as {{"classes": ["sky", "road"]}}, got '
            f"{type(error).__name__}: {reason}; correct it"
        ) from error
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or not 0 < len(set(names)) == len(names) < IGNORE or type(ignore) is not int:
        raise UserError(
            f"{file}: must hold 1 to {IGNORE - 1} different class names and a whole-number "
            f"ignore_index, got {names!r:.80} and {ignore!r}; correct it"
        )
    return tuple(names), ignore
