"""A folder of class folders, as ImageNet is laid out: DIR/CLASS/anything.jpg.

In: a path or URI. Out: LABEL_ROWs with one class an image; classes in the order of their names.
Next: `masks.py`.
"""

from __future__ import annotations

import pyarrow as pa

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.labels import ClassLabel, Origin
from ray_st.data.rows import pack
from ray_st.data.sources.folder import image_names, list_images
from ray_st.data.sources.labeled import LabeledSet


def read(uri: str, *, images: str | None = None, images_field: str | None = None) -> LabeledSet:
    """Read the classes from the folders' names; sizes are not known before decoding (0 x 0)."""
    if images is not None:
        raise UserError(
            f"{images_field or 'images'}: must be left out where class folders hold the images "
            f"({uri}), got {images!r}; remove it"
        )
    names = image_names(uri)
    loose = next((name for name in names if "/" not in name), None)
    if loose is not None:
        raise UserError(
            f"{uri}: every image must stand in the folder of its class, got {loose!r} beside them; "
            "move it"
        )
    folders = [name.partition("/")[0] for name in names]
    classes = sorted(set(folders))
    class_id = {name: i for i, name in enumerate(classes)}
    rows = pack(
        image_ids=range(len(names)),
        uris=[storage.join(storage.absolute(uri), name) for name in names],
        sizes_hw=[(0, 0)] * len(names),
        labels=[ClassLabel.of([class_id[name]]) for name in folders],
        origin=Origin.HUMAN,
        kind=ClassLabel,
    )
    return LabeledSet(rows, tuple(classes), uri, {})


def read_images(uri: str) -> pa.Table:
    """Only the images, as IMAGE_ROWs."""
    return list_images(uri)
