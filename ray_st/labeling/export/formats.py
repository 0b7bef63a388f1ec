"""Which format takes which labels, and one line of refusal for the rest.

In: a format's name and a kind of labels. Out: what writes it. Next: `../pool.py`.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa

from ray_st.config import UserError
from ray_st.data.labels import ClassLabel, Detections, Labels, SegmentationMap
from ray_st.labeling.export import coco, voc, yolo
from ray_st.labeling.export.names import BY_ID, Names

Format = Literal["coco", "yolo", "voc"]
Write = Callable[[Iterable[pa.Table], Sequence[str], Names, Path], Counter[str]]

_WRITERS: dict[tuple[str, type[Labels]], Write] = {
    ("coco", Detections): coco.write,
    ("yolo", Detections): yolo.write,
    ("voc", Detections): voc.write_boxes,
    ("voc", SegmentationMap): voc.write_maps,
}
_REFUSALS: dict[type[Labels], str] = {
    SegmentationMap: "class maps have no form in {}; pass --format voc",
    ClassLabel: "the class of a whole image has no form in {}; its labels.parquet is a table of "
    "uri, top_class_ids and top_scores that any Parquet reader takes",
}
_LEFT = (coco.FILE, BY_ID, *yolo.LEFT, *voc.LEFT)


def writer(name: Format, kind: type[Labels], classes: Sequence[str]) -> Write:
    """What writes labels of this kind. Raises `UserError` where the format has no form for them."""
    if (name, kind) not in _WRITERS:
        raise UserError(f"format: {_REFUSALS[kind].format(name)}")
    odd = next((each for each in classes if re.search("[\x00-\x1f\x7f]", each)), None)
    if name == "voc" and odd is not None:
        raise UserError(
            f"format: voc holds class names of one line, got {odd!r}; rename it, or pass another"
        )
    return _WRITERS[name, kind]


def clear(out: Path) -> None:
    """Remove what an export that broke off left; links are removed, what they name stays."""
    for name in _LEFT:
        for path in (out / name, out / f"{name}.part"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
