"""The paper that plots are drawn on: one style, and SVG in the page's colours, light or dark.

In: nothing. Out: `Plot`, `STYLE`, an empty canvas, and a drawn one as SVG. Next: `plots.py`.
matplotlib draws with the light palette; `svg_of` turns each of its colours into a CSS variable.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ray_st.report.palette import LIGHT

SIZE_INCHES = (5.0, 3.3)  # narrow: the text stays readable on a phone

STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ray_st",
    "font.size": 10,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["line"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.7,
    "xtick.color": LIGHT["line"],
    "ytick.color": LIGHT["line"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure for the page."""

    title: str
    note: str
    alt: str
    svg: str  # an <svg> element without its own title; safe to place as it is


def new_canvas(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """An empty figure with its axes named; draw on it under `STYLE`."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.tick_params(length=0)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def add_legend(axes: Axes) -> None:
    """Name the lines above the plot, where they hide nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2)


def svg_of(figure: Figure, name: str) -> str:
    """Save as an element for the page: its colours become variables, its ids are made unique."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows them
    svg = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg aria-hidden="true" \1>', svg, count=1
    )
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, value in LIGHT.items():
        svg = svg.replace(value, f"var(--{colour})")
    return svg
