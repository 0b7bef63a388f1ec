"""A label file an image, in a tree beside one of links to the images.

In: images, one after the other. Out: a name for each that no other has, and its file. Next: the
formats, `coco.py` first.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ray_st.config import UserError
from ray_st.data import parts, storage
from ray_st.labeling.export.boxes import Frame
from ray_st.labeling.export.names import Names


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """Two folders whose files have the same names, but for their suffixes."""

    names: Names
    labels: Path
    suffix: str  # of label files
    images: Path
    fits: Callable[[str], bool]  # whether the format's readers can find a file of this name

    def place(self, frame: Frame) -> tuple[str, BinaryIO]:
        """Name an image; give the name with its suffix, and its label file, open and empty.

        Which names are taken, the disk knows: memory does not grow with the pool.
        """
        name = self.names.path(frame.uri)
        file = self._created(name) if name is not None and self.fits(name) else None
        if name is None or file is None:
            name = self.names.by_id(frame.image_id, frame.uri)
            file = self._created(name)
        if file is None:
            raise UserError(
                f"pseudo: image {frame.image_id} stands twice; `ray-st verify` says where"
            )
        if not parts.is_part(frame.uri) and not storage.is_remote(frame.uri):
            link = self.images / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(frame.uri)
        return name, file

    def _created(self, name: str) -> BinaryIO | None:
        path = self.labels / (stem_of(name) + self.suffix)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")
        except (FileExistsError, NotADirectoryError):
            return None


def stem_of(name: str) -> str:
    """A name without its suffix."""
    return posixpath.splitext(name)[0]
