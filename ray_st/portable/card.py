"""`export.json`: all that a program must know to use a file, so that nobody need read our code.

In: a model, its head, the results of one run. Out: values for JSON. Next: `stage.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ray_st.config import as_dict
from ray_st.data.images import PAD_RGB
from ray_st.models.saved import SavedModel, versions
from ray_st.portable.files import FILES, INPUT, Format
from ray_st.portable.heads import Head
from ray_st.tasks.detection import DetectConfig

EXPORT = "export.json"
FORMAT = 1
_PLACED = (
    "turned upright by EXIF; resized to width and height times side_px / the longer of them, each "
    "rounded and at least 1, bilinear over all pixels that a new one covers; put top left into a "
    "square of side_px, of which the rest has pad_rgb"
)
_BACK = (
    "boxes: x * image width / resized width, y * image height / resized height, clipped to the "
    "image; maps: cut to the resized size from the top left, resized by nearest pixel"
)


def described(
    saved: SavedModel,
    head: Head,
    name: Format,
    example: Mapping[str, np.ndarray],
    detect: DetectConfig | None,
    checked: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe a file; `example` is what it gives for some views."""
    side_px = saved.card.model.image_size_px
    return {
        "format": FORMAT,
        "file": FILES[name],
        "task": saved.card.task,
        "classes": list(saved.card.classes),
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["n", 3, side_px, side_px],
            "meaning": "RGB, 0..255, channels first; n is any number from 1",
        },
        "view": {
            "side_px": side_px,
            "pad_rgb": list(PAD_RGB),
            "placed": _PLACED,
            "placed_back": _BACK,
        },
        "outputs": [
            {
                "name": each,
                "dtype": str(example[each].dtype),
                "shape": ["n", *example[each].shape[1:]],
                "meaning": meaning,
            }
            for each, meaning in head.meanings.items()
        ],
        "detect": None if detect is None else as_dict(detect),
        "model_sha256": saved.digest,
        "checked": dict(checked),
        "versions": versions(),
    }
