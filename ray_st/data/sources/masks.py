"""Class maps beside images, read and mended.

In: a list of names (see `mask_lists.py`). Out: LABEL_ROWs with a class map an image, of the size
of the upright image. A map is a PNG of grey or palette values; what is wrong with one is mended and
counted. Next: `digits`, which makes such sets.
"""

from __future__ import annotations

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from PIL import Image

from ray_st.data.images import ImageError, fetch, read_size_hw
from ray_st.data.labels import IGNORE, Origin, SegmentationMap
from ray_st.data.parts import MAX_BYTES
from ray_st.data.rows import pack
from ray_st.data.sources.folder import image_rows
from ray_st.data.sources.labeled import LabeledSet
from ray_st.data.sources.mask_lists import open_list

_THREADS = 16  # reading small files is waiting, not computing
_SAME_ASPECT = 0.02


def read(uri: str, *, images: str | None = None, images_field: str | None = None) -> LabeledSet:
    """Read a list of names; `images` is the folder of the images where they stand elsewhere."""
    found = open_list(uri, images, images_field)
    classes, ignore = found.classes()
    findings: list[str] = []

    def row(image_id: int, image: str, map_uri: str | None) -> pa.Table:
        """One image; packed at once, since the open maps of a whole set would not fit."""
        size_hw = _size_or_none(image)
        values = _values(map_uri, findings)
        labels = _mended(values, size_hw, len(classes), ignore, findings)
        return pack(
            image_ids=[image_id],
            uris=[image],
            sizes_hw=[size_hw or (labels.class_map.shape[0], labels.class_map.shape[1])],
            labels=[labels],
            origin=Origin.HUMAN,
        )

    with ThreadPoolExecutor(_THREADS) as pool:
        rows = [*pool.map(row, range(len(found.images)), found.images, found.maps())]
    counts = dict(sorted(Counter(findings).items()))
    return LabeledSet(pa.concat_tables(rows).combine_chunks(), classes, uri, counts)


def read_images(uri: str) -> pa.Table:
    """Only the images of a list, as IMAGE_ROWs."""
    found = open_list(uri, None, None)
    return image_rows(range(len(found.images)), found.images)


def _size_or_none(uri: str) -> tuple[int, int] | None:
    try:
        return read_size_hw(uri)
    except ImageError:
        return None  # it will be a recorded row when it is read


def _values(uri: str | None, findings: list[str]) -> np.ndarray | None:
    """Class values (h, w); None where the file is missing, damaged or no map."""
    if uri is None:
        findings.append("maps_missing")
        return None
    try:
        with Image.open(io.BytesIO(fetch(uri, MAX_BYTES)), formats=("PNG",)) as image:
            values = np.array(image)
    except Exception:  # noqa: BLE001 - a decoder fed with arbitrary bytes raises arbitrary errors
        values = np.empty(0)
    if values.ndim == 2 and values.dtype.kind in "uib":
        return values
    findings.append("maps_unreadable")
    return None


def _mended(
    values: np.ndarray | None,
    size_hw: tuple[int, int] | None,
    num_classes: int,
    ignore: int,
    findings: list[str],
) -> SegmentationMap:
    """Class ids out of a file's values, at the size of the image where that is known."""
    if values is None:
        return SegmentationMap.unknown()
    known = (values < num_classes) & (values != ignore)
    if not (known | (values == ignore) | (values == IGNORE)).all():
        findings.append("maps_with_values_past_the_classes")
    class_map = np.where(known, values, IGNORE).astype(np.uint8)
    if size_hw is None or size_hw == class_map.shape:
        return SegmentationMap(class_map=class_map)
    aspects = size_hw[0] * class_map.shape[1] / (size_hw[1] * class_map.shape[0])
    if abs(aspects - 1) > _SAME_ASPECT:
        findings.append("maps_of_another_shape")
        return SegmentationMap.unknown()
    findings.append("maps_resized")
    resized = Image.fromarray(class_map).resize(size_hw[::-1], Image.Resampling.NEAREST)
    return SegmentationMap(class_map=np.array(resized))
