"""The first batches that training will see, drawn with their labels.

In: views of the first steps, one origin after the other. Out: a `Sheet`. Next: `../verbs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from PIL import Image

from ray_st.data.labels import Labels, Origin
from ray_st.data.views import Views
from ray_st.report.drawing import Drawing, Seen, Viewer, draw
from ray_st.report.sheet import Sheet, SheetRow

_COLUMNS = 8  # pictures a row
_ROWS = 2  # of each step
_SIDE_PX = 240
_VIEWERS = {
    Origin.HUMAN: Viewer(title="Human labels", colour="human"),
    Origin.PSEUDO: Viewer(title="Pseudo labels", colour="pseudo"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """Views of one origin in one step."""

    number: int  # from 1
    origin: Origin
    views: Views


def first_batches_sheet(steps: Sequence[Step], classes: Sequence[str]) -> Sheet:
    """Draw the first few views of each step as training sees them."""
    rows = [row for step in steps for row in _rows(step, classes)]
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


def _rows(step: Step, classes: Sequence[str]) -> Iterator[SheetRow]:
    shown = min(len(step.views), _COLUMNS * _ROWS)
    for first in range(0, shown, _COLUMNS):
        views = step.views[first : min(first + _COLUMNS, shown)]
        notes = [f"{step.origin.name.lower()} images", f"{first + 1} to {first + len(views)}"]
        yield SheetRow(
            title=f"Step {step.number}",
            notes=[*notes, f"of {len(step.views)}"],
            drawings=[_drawing(views, i, step.origin, classes) for i in range(len(views))],
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
