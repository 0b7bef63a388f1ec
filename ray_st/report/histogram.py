"""Draw how sure the teacher was, and from where on that was enough.

In: the raw scores of a summary, counted in equal bins from 0 to 1, and its thresholds. Out: a
`Plot`. Next: `class_colours.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from ray_st.report.canvas import STYLE, Plot, add_legend, new_canvas, svg_of
from ray_st.report.palette import LIGHT
from ray_st.report.plots import LOG_RATIO
from ray_st.report.pseudo import score_counts, span, thresholds


def score_plot(summary: Mapping[str, Any]) -> Plot | None:
    """All raw scores as bars, the thresholds as lines; None where there is no score."""
    counts = np.array(score_counts(summary), np.float64)
    if not counts.sum():
        return None
    marks = thresholds(summary)
    with mpl.rc_context(STYLE):
        canvas, axes = new_canvas("score", "predictions")
        edges = np.linspace(0, 1, len(counts) + 1)
        axes.bar(edges[:-1], counts, np.diff(edges) * 0.88, align="edge", color=LIGHT["pseudo"])
        axes.set_axisbelow(True)
        axes.set_xlim(0, 1)
        _scale(axes, counts)
        _mark(axes, marks)
        title = "Scores of all predictions"
        alt = f"{title}. {_most(counts, edges)} {_marked(marks)}"
        note = f"Before the policy. {_marked(marks)}".rstrip()
        return Plot(title=title, note=note, alt=alt.rstrip(), svg=svg_of(canvas, "scores"))


def _scale(axes: Axes, counts: np.ndarray) -> None:
    """Whole numbers; logarithmic where small bars would not be seen."""
    axes.yaxis.set_major_formatter("{x:,.0f}")
    if counts.max() / counts[counts > 0].min() > LOG_RATIO:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylabel("predictions (logarithmic)")


def _mark(axes: Axes, marks: list[float]) -> None:
    """One line, or the lowest and the highest with the band between them."""
    if not marks:
        return
    label = f"threshold{'s' if len(marks) > 1 else ''} {span(marks)}"
    for mark in {marks[0], marks[-1]}:
        axes.axvline(mark, ls="--", lw=1.6, color=LIGHT["ink"], label=label)
        label = ""
    if len(marks) > 1:
        axes.axvspan(marks[0], marks[-1], color=LIGHT["line"], alpha=0.5, lw=0, zorder=0)
    add_legend(axes)


def _most(counts: np.ndarray, edges: np.ndarray) -> str:
    at = int(counts.argmax())
    share = counts[at] / counts.sum()
    return f"Most, {share:.0%}, lie between {edges[at]:.2g} and {edges[at + 1]:.2g}."


def _marked(marks: list[float]) -> str:
    """What the lines are."""
    if not marks:
        return ""
    if len(marks) == 1:
        return f"What reaches the dashed line, {span(marks)}, can be a label."
    return f"Each class has its own threshold: from {span(marks)}, between the dashed lines."
