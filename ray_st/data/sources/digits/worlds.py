"""Scenes as data sets: one form for each kind of labels, as its reader expects it.

In: a folder, `DigitsConfig` and a kind of labels. Out: files, and the `DataConfig` that names them.
Next: `../../views.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ray_st.config import require
from ray_st.data.labels import IGNORE, ClassLabel, Detections, Labels, Origin, SegmentationMap
from ray_st.data.rows import pack
from ray_st.data.sources import DataConfig
from ray_st.data.sources.coco import write_coco
from ray_st.data.sources.digits.config import DigitsConfig
from ray_st.data.sources.digits.handwriting import Digits, by_class, split_digits
from ray_st.data.sources.digits.scene import Scene, draw

_SPLITS = ("train", "val", "pool")
_JPEG_QUALITY = 92


def write_world(out: Path, config: DigitsConfig, kind: type[Labels]) -> DataConfig:
    """Write the scenes as a data set with labels of this kind; a world that stood there goes."""
    check_world(config, kind)
    _WORLDS[kind].write(out.absolute(), config)
    return world_data(out, kind)


def world_data(out: Path, kind: type[Labels]) -> DataConfig:
    """Name the three parts of a world that was written there."""
    train, val, pool = (_WORLDS[kind].uri(out.absolute(), split) for split in _SPLITS)
    return DataConfig(train=train, val=val, unlabeled=pool)


def classes_of(config: DigitsConfig, kind: type[Labels]) -> tuple[str, ...]:
    """Class names by class id, as they are read from such a world."""
    return _WORLDS[kind].classes(tuple(str(digit) for digit in config.classes))


def check_world(config: DigitsConfig, kind: type[Labels]) -> None:
    """Raise UserError for a world that cannot be written, before anything is."""
    split_digits(config)
    least = len(config.classes) if kind is ClassLabel else 1
    for field in ("labeled_scenes", "val_scenes", "pool_scenes"):
        value = getattr(config, field)
        require(value >= least, f"digits.{field}", "one a class or more", value)


def _write_boxes(out: Path, config: DigitsConfig) -> None:
    """`images/SPLIT/*.jpg` and `instances_SPLIT.json`."""
    for split, scenes in _splits(config):
        _clear(out / "images" / split)
        uris, labels = [], []
        for i, scene in enumerate(scenes):
            uris.append(_save(scene.pixels, out / "images" / split / f"{i:06d}.jpg"))
            labels.append(scene.boxes())
        rows = pack(
            image_ids=range(len(uris)),
            uris=uris,
            sizes_hw=[(config.scene_px, config.scene_px)] * len(uris),
            labels=labels,
            origin=Origin.HUMAN,
        )
        write_coco(
            out / f"instances_{split}.json", rows=rows, classes=classes_of(config, Detections)
        )


def _write_maps(out: Path, config: DigitsConfig) -> None:
    """`images/SPLIT/*.jpg`, `labels/SPLIT/*.png`, `SPLIT.txt` and `classes.json`."""
    for split, scenes in _splits(config):
        names = []
        for folder in ("images", "labels"):
            _clear(out / folder / split)
        for i, scene in enumerate(scenes):
            names.append(f"{split}/{i:06d}")
            _save(scene.pixels, out / "images" / f"{names[-1]}.jpg")
            _save(scene.class_map(), out / "labels" / f"{names[-1]}.png")
        (out / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    document = {"classes": classes_of(config, SegmentationMap), "ignore_index": IGNORE}
    (out / "classes.json").write_text(json.dumps(document), encoding="utf-8")


def _write_classes(out: Path, config: DigitsConfig) -> None:
    """`SPLIT/CLASS/*.jpg`: one digit a scene, each class as often as the others."""
    for split, scenes in _splits(replace(config, digits_per_scene=(1, 1)), in_turn=True):
        for digit in range(10):  # of other classes too: a world with those may have stood here
            _clear(out / split / str(digit))
        for i, scene in enumerate(scenes):
            digit = config.classes[scene.drawn[0].class_id]
            _save(scene.pixels, out / split / str(digit) / f"{i:06d}.jpg")


def _splits(
    config: DigitsConfig, *, in_turn: bool = False
) -> Iterator[tuple[str, Iterator[Scene]]]:
    """The scenes of each part; `in_turn`, each holds digits of one class, the next of the next."""
    counts = (config.labeled_scenes, config.val_scenes, config.pool_scenes)
    parts = split_digits(config)
    for number, (split, count, digits) in enumerate(zip(_SPLITS, counts, parts, strict=True)):
        yield split, _scenes(by_class(digits) if in_turn else [digits], count, number, config)


def _scenes(digits: list[Digits], count: int, number: int, config: DigitsConfig) -> Iterator[Scene]:
    for i in range(count):
        rng = np.random.default_rng([config.seed, number, i])
        yield draw(digits[i % len(digits)], config, rng)


def _clear(folder: Path) -> None:
    """Remove the scenes of a larger world written here before."""
    for stale in folder.glob("[0-9]" * 6 + ".*"):
        stale.unlink()


def _save(pixels: np.ndarray, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=_JPEG_QUALITY)  # a PNG takes no notice
    return str(path)


@dataclass(frozen=True, kw_only=True)
class _World:
    """How a world is written and read."""

    write: Callable[[Path, DigitsConfig], None]
    uri: Callable[[Path, str], str]  # folder and part -> what the reader takes
    classes: Callable[[tuple[str, ...]], tuple[str, ...]]  # the digits' names -> class names


_WORLDS: dict[type[Labels], _World] = {
    Detections: _World(
        write=_write_boxes,
        uri=lambda out, split: f"coco:{out}/instances_{split}.json",
        classes=lambda digits: digits,
    ),
    SegmentationMap: _World(
        write=_write_maps,
        uri=lambda out, split: f"masks:{out}/{split}.txt",
        classes=lambda digits: ("ground", *digits),
    ),
    ClassLabel: _World(
        write=_write_classes,
        uri=lambda out, split: f"classes:{out}/{split}",
        classes=lambda digits: tuple(sorted(digits)),
    ),
}
