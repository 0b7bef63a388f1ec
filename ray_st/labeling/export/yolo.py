"""YOLO's text files, in the layout that Ultralytics' trainer takes.

In: LABEL_ROWs of detections. Out: labels/NAME.txt, links in images/, images.txt, data.yaml.
Next: `voc.py`.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from ray_st.labeling.export.boxes import BoxPart, box_parts
from ray_st.labeling.export.files import written_whole
from ray_st.labeling.export.names import Names
from ray_st.labeling.export.tree import Tree

LEFT = ("data.yaml", "images.txt", "images", "labels")
_NOTE = "# Pseudo labels by ray-st. Add `val:` with images that people labelled, to measure on.\n"


def write(
    parts: Iterable[pa.Table], classes: Sequence[str], names: Names, out: Path
) -> Counter[str]:
    """Write a file an image; crowd regions, for which there is no form, are left out."""
    counts: Counter[str] = Counter()
    tree = Tree(
        names=names, labels=out / "labels", suffix=".txt", images=out / "images", fits=_is_found
    )
    with written_whole(out / "images.txt") as listing:
        for part in box_parts(parts):
            counts += part.counts()
            for frame, lines in part.apart(_lines(part)):
                name, label = tree.place(frame)
                with label:
                    label.write("".join(lines).encode())
                listing.write(f"./images/{name}\n")  # `./`: relative to this list
    about = {"path": str(out.absolute()), "train": "images.txt", "names": dict(enumerate(classes))}
    with written_whole(out / "data.yaml") as file:
        file.write(_NOTE + yaml.safe_dump(about, sort_keys=False, allow_unicode=True))
    return counts


def _lines(part: BoxPart) -> list[str]:
    """`class cx cy w h` of each box, as shares of the image's sides; none of crowd regions."""
    sides = np.array([(each.width_px, each.height_px) for each in part.frames], np.float64)
    low, high = part.boxes_xyxy[:, :2], part.boxes_xyxy[:, 2:]
    of = sides.reshape(-1, 2)[part.row]
    values = np.concatenate([(low + high) / 2 / of, (high - low) / of], axis=1).tolist()
    columns = zip(part.found.class_ids.tolist(), values, part.found.is_crowd.tolist(), strict=True)
    return [
        "" if is_crowd else f"{class_id} {x:.8f} {y:.8f} {w:.8f} {h:.8f}\n"
        for class_id, (x, y, w, h), is_crowd in columns
    ]


def _is_found(name: str) -> bool:
    """Whether Ultralytics finds the label of this image.

    It looks behind the last folder called `images`, cuts off the last suffix, and takes every `./`
    of a line for the list's folder.
    """
    folders, has_suffix = name.split("/")[:-1], posixpath.splitext(name)[1] != ""
    return has_suffix and not any(each == "images" or each.endswith(".") for each in folders)
