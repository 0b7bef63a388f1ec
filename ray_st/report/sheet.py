"""A contact sheet: drawn pictures in rows and columns, titles beside them and names above.

In: `SheetRow`s of `Drawing`s. Out: one picture. It reads and chooses nothing. Next: `augmented.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

from ray_st.report.drawing import Drawing
from ray_st.report.lettering import font, shortened, wrapped
from ray_st.report.palette import LIGHT

MARGIN_PX: Final = 24
TITLES_PX: Final = 190  # width of the column of titles
GAP_PX: Final = 12  # between pictures
LINE_PX: Final = 20
_SMALL, _PLAIN, _LARGE = 14, 17, 26  # heights of letters
_SWATCH_PX = 14
_NAME_PX = _SWATCH_PX + 6  # from a swatch's left edge to its name's


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """What stands beside one row, and its pictures."""

    title: str
    notes: Sequence[str]  # short lines below the title
    drawings: Sequence[Drawing]  # one a column

    @property
    def height_px(self) -> int:
        """Down to the captions, or to the last note."""
        tallest_px = max(drawing.canvas.height for drawing in self.drawings)
        return LINE_PX + max(tallest_px, LINE_PX * len(self.notes))


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """All that is shown and written."""

    title: str
    notes: Sequence[str]  # broken into lines where they are too long
    columns: Sequence[str]  # a name each
    rows: Sequence[SheetRow]
    side_px: int  # width of a column; no picture is wider

    @property
    def width_px(self) -> int:
        """Of the whole picture."""
        return self.column_px(len(self.columns)) - GAP_PX + MARGIN_PX

    def column_px(self, column: int) -> int:
        """Left edge of a column."""
        return MARGIN_PX + TITLES_PX + column * (self.side_px + GAP_PX)

    def picture(self) -> Image.Image:
        """Draw it all."""
        head = self._head(Image.new("RGB", (self.width_px, 1)))  # once to measure
        height = head + sum(row.height_px + GAP_PX for row in self.rows) - GAP_PX + MARGIN_PX
        canvas = Image.new("RGB", (self.width_px, height), LIGHT["paper"])
        top = self._head(canvas)
        for row in self.rows:
            self._row(canvas, row, top)
            top += row.height_px + GAP_PX
        return canvas

    def _head(self, canvas: Image.Image) -> int:
        """Write title, notes, legend and the columns' names; returns where the rows begin."""
        draw, room_px, top = ImageDraw.Draw(canvas), self.width_px - 2 * MARGIN_PX, MARGIN_PX
        title = shortened(self.title, font(_LARGE, bold=True), room_px)
        draw.text((MARGIN_PX, top), title, fill=LIGHT["ink"], font=font(_LARGE, bold=True))
        top += 2 * LINE_PX
        for line in (line for note in self.notes for line in wrapped(note, font(_SMALL), room_px)):
            _write(draw, (MARGIN_PX, top), line, "muted")
            top += LINE_PX
        top = self._legend(draw, top + LINE_PX // 2)
        for column, name in enumerate(self.columns):
            name = shortened(name, font(_SMALL), self.side_px)
            _write(draw, (self.column_px(column), top), name, "ink")
        return top + LINE_PX + 2

    def _legend(self, draw: ImageDraw.ImageDraw, top: int) -> int:
        """Say what the colours mean, in the order of class ids; returns what is below."""
        swatches = sorted({s for row in self.rows for each in row.drawings for s in each.legend})
        left, limit = MARGIN_PX, self.width_px - MARGIN_PX
        for swatch in swatches:
            room_px = limit - MARGIN_PX - _NAME_PX
            name = shortened(swatch.name, font(_SMALL), room_px)
            needed = _NAME_PX + round(font(_SMALL).getlength(name))
            if left > MARGIN_PX and left + needed > limit:
                left, top = MARGIN_PX, top + LINE_PX
            _draw_swatch(draw, (left, top), swatch.colour)
            _write(draw, (left + _NAME_PX, top - 2), name, "ink")
            left += needed + GAP_PX
        return top + (LINE_PX + LINE_PX // 2 if swatches else 0)

    def _row(self, canvas: Image.Image, row: SheetRow, top: int) -> None:
        draw, room_px = ImageDraw.Draw(canvas), TITLES_PX - GAP_PX
        title = shortened(row.title, font(_PLAIN, bold=True), room_px)
        draw.text((MARGIN_PX, top), title, fill=LIGHT["ink"], font=font(_PLAIN, bold=True))
        for line, note in enumerate(row.notes, start=1):
            note = shortened(note, font(_SMALL), room_px)
            _write(draw, (MARGIN_PX, top + 5 + line * LINE_PX), note, "muted")
        for column, drawing in enumerate(row.drawings):
            left = self.column_px(column)
            canvas.paste(drawing.canvas, (left, top))
            caption = shortened(drawing.caption, font(_SMALL), self.side_px)
            _write(draw, (left, top + drawing.canvas.height + 2), caption, "muted")


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: str) -> None:
    draw.text(at, text, fill=LIGHT[colour], font=font(_SMALL))


def _draw_swatch(draw: ImageDraw.ImageDraw, at: tuple[int, int], colour: str) -> None:
    """A patch of the legend; what is hatched on the pictures has no colour, and is crossed."""
    left, top = at
    right, bottom = left + _SWATCH_PX, top + _SWATCH_PX
    fill = colour or LIGHT["paper"]
    draw.rectangle((left, top, right, bottom), fill=fill, outline=LIGHT["muted"])
    if not colour:
        draw.line((left, bottom, right, top), fill=LIGHT["muted"])
