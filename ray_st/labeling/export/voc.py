"""PASCAL VOC: boxes as XML, class maps as palette PNGs.

In: LABEL_ROWs. Out: Annotations/NAME.xml or SegmentationClass/NAME.png, a list of names in
ImageSets, links in JPEGImages. Next: `formats.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pyarrow as pa
from PIL import Image

from ray_st.data.labels import IGNORE, SegmentationMap
from ray_st.data.rows import unpack
from ray_st.data.sources.folder import IMAGE_SUFFIXES
from ray_st.labeling.export.boxes import BoxPart, Frame, box_parts, frames_of
from ray_st.labeling.export.files import written_whole
from ray_st.labeling.export.names import Names
from ray_st.labeling.export.tree import Tree, stem_of

LEFT = ("Annotations", "ImageSets", "JPEGImages", "SegmentationClass", "labels.txt", "classes.json")
_IMAGES, _LIST = "JPEGImages", "pseudo.txt"


def write_boxes(
    parts: Iterable[pa.Table], classes: Sequence[str], names: Names, out: Path
) -> Counter[str]:
    """Write an XML an image; crowd regions are `difficult`."""
    counts: Counter[str] = Counter()
    tree = _tree(names, out, "Annotations", ".xml")
    with written_whole(out / "ImageSets" / "Main" / _LIST) as listing:
        for part in box_parts(parts):
            counts += part.counts()
            for frame, objects in part.apart(_objects(part, classes)):
                name, label = tree.place(frame)
                with label:
                    label.write(_xml(frame, name, objects).encode())
                listing.write(f"{stem_of(name)}\n")
    with written_whole(out / "labels.txt") as file:
        file.writelines(f"{name}\n" for name in classes)
    return counts


def write_maps(
    parts: Iterable[pa.Table], classes: Sequence[str], names: Names, out: Path
) -> Counter[str]:
    """Write a PNG an image, of its size; a pixel without a label is 255."""
    counts: Counter[str] = Counter()
    tree = _tree(names, out, "SegmentationClass", ".png")
    with written_whole(out / "ImageSets" / "Segmentation" / _LIST) as listing:
        for part in parts:
            for i, frame in enumerate(frames_of(part)):  # one map is open at a time
                one: SegmentationMap = unpack(part.slice(i, 1))[0]
                name, label = tree.place(frame)
                with label:
                    _png(one, frame).save(label, "PNG")
                listing.write(f"{stem_of(name)}\n")
                counts += Counter(images=1, empty=int(one.amount() == 0))
    with written_whole(out / "classes.json") as file:
        json.dump({"classes": list(classes), "ignore_index": IGNORE}, file)
    return counts


def _tree(names: Names, out: Path, folder: str, suffix: str) -> Tree:
    return Tree(
        names=names, labels=out / folder, suffix=suffix, images=out / _IMAGES, fits=_is_found
    )


def _is_found(name: str) -> bool:
    """Whether a reader of lists that may name files takes the stem for what it is."""
    return stem_of(name).rpartition(".")[2].lower() not in IMAGE_SUFFIXES


def _objects(part: BoxPart, classes: Sequence[str]) -> list[str]:
    columns = zip(
        part.found.class_ids.tolist(),
        part.found.is_crowd.astype(int).tolist(),
        _pixels(part.boxes_xyxy).tolist(),
        strict=True,
    )
    escaped = [escape(name) for name in classes]
    return [
        f"\t<object>\n\t\t<name>{escaped[class_id]}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>0</truncated>\n\t\t<difficult>{difficult}</difficult>\n"
        f"\t\t<bndbox>\n\t\t\t<xmin>{left}</xmin>\n\t\t\t<ymin>{top}</ymin>\n"
        f"\t\t\t<xmax>{right}</xmax>\n\t\t\t<ymax>{bottom}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for class_id, difficult, (left, top, right, bottom) in columns
    ]


def _pixels(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Number of the first and the last pixel inside, from 1: a whole image is 1, 1, W, H.

    Borders go to the nearest edge of a pixel; one pixel stays of a box that has less.
    """
    edges = np.rint(boxes_xyxy).astype(np.int64)
    low = np.minimum(edges[:, :2], np.ceil(boxes_xyxy[:, 2:]).astype(np.int64) - 1).clip(0)
    return np.concatenate([low + 1, np.maximum(edges[:, 2:], low + 1)], axis=1)


def _xml(frame: Frame, name: str, objects: list[str]) -> str:
    return (
        f"<annotation>\n\t<folder>{_IMAGES}</folder>\n\t<filename>{escape(name)}</filename>\n"
        "\t<source>\n\t\t<database>pseudo labels by ray-st</database>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{frame.width_px}</width>\n\t\t<height>{frame.height_px}</height>\n"
        "\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n"
        f"{''.join(objects)}</annotation>\n"
    )


def _png(one: SegmentationMap, frame: Frame) -> Image.Image:
    shape = (frame.height_px, frame.width_px)
    values = one.class_map if one.class_map.size else np.full(shape, IGNORE, np.uint8)
    image = Image.fromarray(values)
    image.putpalette(_palette())
    return image


def _palette() -> bytes:
    """VOC's colours: the bits of an index, three at a time, are the high bits of R, G and B."""
    index = np.arange(256)[:, None]
    channels = [sum(((index >> (3 * k + c)) & 1) << (7 - k) for k in range(3)) for c in range(3)]
    return np.concatenate(channels, axis=1).astype(np.uint8).tobytes()
