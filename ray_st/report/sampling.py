"""Choose a few images of a labelled set, spread over it, always the same.

In: LABEL_ROWs. Out: `Sample`: rows and pictures of what can be read. Next: `sheet.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
from PIL import Image

from ray_st.config import UserError
from ray_st.data import images
from ray_st.data.rows import unpack

MAX_UNREADABLE = 20  # with so many, something is wrong with the whole set


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A few images that could be read."""

    rows: pa.Table  # their LABEL_ROWs
    pictures: Sequence[Image.Image]  # as decoded, one a row
    unreadable: Sequence[str]  # a line for each image that was tried and left out


def sample(rows: pa.Table, count: int) -> Sample:
    """Choose up to `count` images; those with labels come first.

    Raises UserError if none can be read.
    """
    found: dict[int, Image.Image] = {}
    unreadable: list[str] = []
    for index in _in_preference(rows, count):
        uri = rows["uri"][index].as_py()
        try:
            found[index] = Image.fromarray(images.decode(images.fetch(uri)))
        except images.ImageError as error:
            unreadable.append(f"{PurePosixPath(uri).name}: {error}")
        if len(found) == count or len(unreadable) == MAX_UNREADABLE:
            break
    if not found:
        raise UserError(
            f"data.train: must hold images that can be read, got {len(unreadable)} that cannot, "
            f"first {unreadable[0]}; check the files"
        )
    kept = sorted(found)  # the order of the set
    return Sample(
        rows=rows.take(pa.array(kept)),
        pictures=[found[index] for index in kept],
        unreadable=unreadable,
    )


def _in_preference(rows: pa.Table, count: int) -> Iterator[int]:
    """Every row once, those without labels last."""
    bare = []
    for index in _spread(rows.num_rows, count):
        if unpack(rows.slice(index, 1))[0].amount() > 0:
            yield index
        else:
            bare.append(index)
    yield from bare


def _spread(total: int, count: int) -> Iterator[int]:
    """Every index once: `count` evenly spread, then twice as many, and so on."""
    given: set[int] = set()
    while len(given) < total:
        places = np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
        for index in places:
            if index not in given:
                given.add(index)
                yield index
        count *= 2
