"""COCO instances JSON, read and written.

In: a JSON of images, annotations and categories. Out: LABEL_ROWs with boxes in source pixels and
classes counted from 0 in the order of category ids. Dirt that real sets hold is mended and counted;
what cannot be meant is a UserError. Next: `coco_images.py`,
which finds the images, and `coco_boxes.py`, which mends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.images import ImageError, fetch
from ray_st.data.labels import Detections, Origin
from ray_st.data.rows import pack, unpack
from ray_st.data.sources.coco_boxes import labels_of
from ray_st.data.sources.coco_images import (
    image_list,
    image_uris,
    require_unique,
    sizes_hw_of,
)
from ray_st.data.sources.folder import image_rows
from ray_st.data.sources.labeled import LabeledSet

_PLAIN = ["image_id", "uri", "height_px", "width_px", "origin"]  # what is no list


def read(uri: str, *, images: str | None = None, images_field: str | None = None) -> LabeledSet:
    """Read a COCO file; its images are looked for beside it, or in the folder `images`."""
    uri = storage.absolute(uri)
    document = _load(uri, ("images", "annotations", "categories"))
    class_of = _classes(uri, document["categories"])
    image_ids, names = image_list(uri, document["images"])
    uris = image_uris(uri, names, images, images_field)
    sizes_hw = sizes_hw_of(uri, document["images"], uris)
    labels, findings = labels_of(
        uri, document["annotations"], image_ids=image_ids, sizes_hw=sizes_hw, class_of=class_of
    )
    rows = pack(
        image_ids=image_ids,
        uris=uris,
        sizes_hw=sizes_hw,
        labels=labels,
        origin=Origin.HUMAN,
        kind=Detections,
    )
    by_id = {one["id"]: str(one["name"]) for one in document["categories"]}
    return LabeledSet(rows, tuple(by_id[i] for i in class_of), uri, findings)


def read_images(uri: str) -> pa.Table:
    """Read only the image list of a COCO file, as IMAGE_ROWs with the file's ids."""
    uri = storage.absolute(uri)
    image_ids, names = image_list(uri, _load(uri, ("images",))["images"])
    return image_rows(image_ids, image_uris(uri, names, None))


def write_coco(path: Path | str, *, rows: pa.Table, classes: Sequence[str]) -> None:
    """Write LABEL_ROWs as a COCO instances JSON on this machine; category ids count from 1.

    Images below the file's folder are named relative to it, so that the folder can be moved;
    others by their full path or URI. Pseudo labels keep their scores.
    """
    here = Path(storage.absolute(str(path)))
    ids = rows.column("image_id").to_pylist()
    assert len(set(ids)) == len(ids), "an image stands twice in these rows"
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row, labels in zip(rows.select(_PLAIN).to_pylist(), unpack(rows), strict=True):
        entry = {"id": row["image_id"], "file_name": _relative(row["uri"], here.parent)}
        images.append({**entry, "height": row["height_px"], "width": row["width_px"]})
        is_pseudo = row["origin"] == Origin.PSEUDO
        for one in _annotations(labels, with_scores=is_pseudo):
            annotations.append({"id": len(annotations) + 1, "image_id": row["image_id"], **one})
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    here.parent.mkdir(parents=True, exist_ok=True)
    here.write_text(json.dumps(document), encoding="utf-8")


def _annotations(labels: Detections, *, with_scores: bool) -> Iterator[dict[str, Any]]:
    for i, (left, top, right, bottom) in enumerate(labels.boxes_xyxy.tolist()):
        one = {
            "category_id": int(labels.class_ids[i]) + 1,
            "bbox": [left, top, right - left, bottom - top],
            "area": float(labels.areas_px[i]),
            "iscrowd": int(labels.is_crowd[i]),
        }
        yield {**one, "score": float(labels.scores[i])} if with_scores else one


def _relative(uri: str, folder: Path) -> str:
    path = Path(uri)
    is_below = not storage.is_remote(uri) and path.is_relative_to(folder)
    return path.relative_to(folder).as_posix() if is_below else uri


def _load(uri: str, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        document = json.loads(fetch(uri))
    except ImageError as error:
        raise UserError(
            f"{uri}: a COCO file must be readable, got {error.reason}; check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{uri}: a COCO file must be JSON, got {error}; export it as COCO instances again"
        ) from error
    lists = document if isinstance(document, dict) else {}
    for key in keys:
        entries = lists.get(key)
        if not isinstance(entries, list) or not all(type(one) is dict for one in entries):
            raise UserError(
                f"{uri}: a COCO file must have a list of objects {key!r}, "
                f"got {type(entries).__name__}; export it as COCO instances again"
            )
        if not entries and key != "annotations":
            raise UserError(f"{uri}: {key!r} must not be empty, got []; check the export")
    return lists


def _classes(uri: str, categories: list[dict[str, Any]]) -> dict[int, int]:
    for one in categories:
        if type(one.get("id")) is not int or type(one.get("name")) is not str:
            raise UserError(
                f"{uri}: a category must have a whole-number id and a name, got {one}; correct it"
            )
    for key in ("id", "name"):
        require_unique(uri, f"category {key}", [one[key] for one in categories])
    return {key: index for index, key in enumerate(sorted(one["id"] for one in categories))}
