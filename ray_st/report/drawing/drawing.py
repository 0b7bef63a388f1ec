"""What a drawer is given, and what it gives.

In: a picture, labels, and whose they are. Out: `Seen`, `Drawing`. Next: `boxes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from ray_st.report.palette import MODELS

SIDE_PX: Final = 320  # the longer side of a picture in a report, small images enlarged


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Who labelled: people, the teacher for its student, or a model that is measured."""

    title: str
    colour: str  # of palette

    @property
    def is_human(self) -> bool:
        """People give no scores."""
        return self.colour == "human"

    @property
    def is_measured(self) -> bool:
        """Of a model that is measured every prediction is there, the unlikely ones too."""
        return self.colour in MODELS


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A picture, and what one viewer sees on it."""

    picture: Image.Image  # RGB, as decoded
    labels: Any  # `Labels`, in pixels of the picture
    truth: Any | None  # what people see on it, of the same kind; None where that is not known
    classes: Sequence[str]
    viewer: Viewer
    side_px: int = SIDE_PX  # the longer side in which it is shown
    by_class: bool = False  # boxes in a colour a class and with a legend, in place of tags

    def class_name(self, class_id: int) -> str:
        """The name of a class, also where the list of classes is too short or missing."""
        named = 0 <= class_id < len(self.classes)
        return self.classes[class_id] if named else f"class {class_id}"

    def enlarged(self) -> Image.Image:
        """The picture at the size in which it is shown."""
        scale = self.side_px / max(self.picture.size)
        width, height = (max(1, round(side * scale)) for side in self.picture.size)
        return self.picture.resize((width, height), Image.Resampling.BICUBIC)


@dataclass(frozen=True, order=True)
class Swatch:
    """An entry of a legend."""

    class_id: int
    name: str
    colour: str  # #rrggbb; empty for pixels that are hatched


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture with labels on it."""

    canvas: Image.Image
    caption: str  # a few words
    words: str  # all of it, for those who cannot see
    legend: tuple[Swatch, ...] = ()
    is_right: bool | None = None  # None where there is nothing to compare with
    note: str = ""  # what a reader must know of all drawings of this kind
