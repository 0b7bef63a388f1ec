"""What a checkup shows: the first batches that training will see, and boxes that no anchor fits.

In: views of the first steps, one origin after the other; rows of images. Out: `Sheet`s. Next:
`../verbs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pyarrow as pa
from PIL import Image

from ray_st.data.labels import Labels, Origin
from ray_st.data.placed import Placed
from ray_st.data.rows import unpack
from ray_st.data.views import Views, fitted_views
from ray_st.report.drawing import Drawing, Seen, Viewer, draw
from ray_st.report.sheet import Sheet, SheetRow

_COLUMNS = 8  # pictures a row
_ROWS = 2  # of each step
_SIDE_PX = 240
_VIEWERS = {
    Origin.HUMAN: Viewer(title="Human labels", colour="human"),
    Origin.PSEUDO: Viewer(title="Pseudo labels", colour="pseudo"),
    Origin.JOINT: Viewer(title="Human classes", colour="human"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """Views of one origin in one step."""

    number: int  # from 1
    origin: Origin
    views: Views
    classes: Sequence[str]  # names of the ids in their labels


def first_batches_sheet(steps: Sequence[Step]) -> Sheet:
    """Draw the first few views of each step as training sees them."""
    rows = [row for step in steps for row in _rows(step)]
    columns = max(len(row.drawings) for row in rows)
    return Sheet(
        title="The first batches",
        notes=[
            "What training sees first, in its order: are the labels where they belong, are the "
            "classes right, is anything mirrored that must not be?",
            "Brown is padding; black could not be read; grey was covered, or left empty, by an "
            "operation.",
        ],
        columns=[""] * columns,
        rows=rows,
        side_px=_SIDE_PX,
    )


def unseen_boxes_sheet(rows: pa.Table, size_px: int, classes: Sequence[str]) -> Sheet:
    """Draw images as views show them whole, each with the boxes of its row."""
    views = fitted_views(rows, size_px)
    sizes_hw = zip(rows["height_px"].to_pylist(), rows["width_px"].to_pylist(), strict=True)
    labels = [
        one.in_view(placed, placed.resized_hw, size_px)
        for one, placed in zip(
            unpack(rows), (Placed.fitting(size_hw, size_px) for size_hw in sizes_hw), strict=True
        )
    ]
    shown = replace(views, labels=tuple(labels))
    drawings = [_drawing(shown, i, Origin.HUMAN, classes) for i in range(len(shown))]
    return Sheet(
        title="Boxes that no anchor fits",
        notes=[
            f"Images as views of {size_px} px show them whole, with only those of their boxes that "
            "have IoU below 0.5 with their best anchor: each is learned by that one, or by none."
        ],
        columns=[""] * len(drawings),
        rows=[SheetRow(title="Worst first", notes=["human labels"], drawings=drawings)],
        side_px=_SIDE_PX,
    )


def _rows(step: Step) -> Iterator[SheetRow]:
    shown = min(len(step.views), _COLUMNS * _ROWS)
    for first in range(0, shown, _COLUMNS):
        views = step.views[first : min(first + _COLUMNS, shown)]
        notes = [f"{step.origin.name.lower()} images", f"{first + 1} to {first + len(views)}"]
        yield SheetRow(
            title=f"Step {step.number}",
            notes=[*notes, f"of {len(step.views)}"],
            drawings=[_drawing(views, i, step.origin, step.classes) for i in range(len(views))],
        )


def _drawing(views: Views, index: int, origin: Origin, classes: Sequence[str]) -> Drawing:
    """One view; its caption is what its labels say, and whose image it is."""
    labels: Labels = views.labels[index]
    drawn = draw(
        Seen(
            picture=Image.fromarray(views.pixels[index]),
            labels=labels,
            truth=None,
            classes=classes,
            viewer=_VIEWERS[origin],
            side_px=_SIDE_PX,
            by_class=True,
        )
    )
    name, reason = PurePosixPath(views.uris[index]).name, views.reasons[index]
    said = drawn.caption if reason is None else "cannot be read"
    return replace(drawn, caption=f"{said}, {name}")
