"""Text on pictures: the typeface, and what fits into a width.

In: words. Out: a Pillow font, shorter words, lines. Next: `drawing`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib as mpl
from PIL import ImageFont


@cache
def font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts", "ttf", name)), size_px)


def shortened(text: str, letters: ImageFont.FreeTypeFont, width_px: float) -> str:
    """Leave out the middle of a text that is too long: names of files differ at their ends."""
    short, kept = text, len(text)
    while kept > 2 and letters.getlength(short) > width_px:
        kept -= 1
        short = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
    return short


def wrapped(text: str, letters: ImageFont.FreeTypeFont, width_px: float) -> list[str]:
    """Break a text between words into lines; a word that is too long has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and letters.getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
