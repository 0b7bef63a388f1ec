"""COCO instances JSON, as a stream.

In: LABEL_ROWs of detections. Out: instances.json, an entry a line. Next: `yolo.py`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa

from ray_st.labeling.export.boxes import BoxPart, Frame, box_parts
from ray_st.labeling.export.files import written_whole
from ray_st.labeling.export.names import Names

FILE = "instances.json"
_DIGITS_PX, _DIGITS_SCORE = 3, 6


def write(
    parts: Iterable[pa.Table], classes: Sequence[str], names: Names, out: Path
) -> Counter[str]:
    """Write all images and boxes; category ids are 1 to n, in the order of the classes."""
    counts: Counter[str] = Counter()
    info = {"description": "Pseudo labels by ray-st: boxes of a model, each with its score."}
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    # One array after the other, but images and boxes come together: the boxes wait on disk.
    with written_whole(out / FILE) as file, _spool(out) as boxes:
        file.write(f'{{"info": {json.dumps(info)},\n"categories": {json.dumps(categories)},\n')
        file.write('"images": [')
        for part in box_parts(parts):
            first = 1 + counts["boxes"] + counts["crowd_regions"]
            _append(file, [_image(each, names) for each in part.frames], is_first=not counts)
            _append(boxes, list(_annotations(part, first)), is_first=first == 1)
            counts += part.counts()
        file.write('\n],\n"annotations": [')
        boxes.seek(0)
        shutil.copyfileobj(boxes, file)
        file.write("\n]}\n")
    return counts


def _spool(out: Path) -> TextIO:
    return tempfile.TemporaryFile("w+", dir=out, encoding="utf-8", newline="")


def _append(stream: TextIO, entries: list[str], *, is_first: bool) -> None:
    if entries:
        stream.write(("\n" if is_first else ",\n") + ",\n".join(entries))


def _image(frame: Frame, names: Names) -> str:
    name = names.path(frame.uri) or names.by_id(frame.image_id, frame.uri)
    entry = {"id": frame.image_id, "file_name": name}
    return json.dumps({**entry, "height": frame.height_px, "width": frame.width_px})


def _annotations(part: BoxPart, first: int) -> Iterator[str]:
    """Entries of all boxes, as text at once: a dictionary a box would take three times as long."""
    corners = part.boxes_xyxy
    xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    image_ids = np.array([frame.image_id for frame in part.frames], np.int64)[part.row]
    columns = zip(
        image_ids.tolist(),
        (part.found.class_ids + 1).tolist(),
        xywh.round(_DIGITS_PX).tolist(),
        part.found.areas_px.astype(np.float64).round(_DIGITS_PX).tolist(),
        part.found.is_crowd.astype(int).tolist(),
        part.found.scores.astype(np.float64).round(_DIGITS_SCORE).tolist(),
        strict=True,
    )
    for number, (image, category, box, area, crowd, score) in enumerate(columns, start=first):
        yield (
            f'{{"id": {number}, "image_id": {image}, "category_id": {category}, "bbox": {box}, '
            f'"area": {area}, "iscrowd": {crowd}, "score": {score}}}'
        )
