"""The picture of `loss_scale.py`: the metric over the factor, both losses side by side.

In: rows, one a run. Out: a PNG.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ray_st.report.canvas import STYLE

Loss = Literal["normalised", "plain"]
FACTORS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
ALPHAS = (0.25, 0.5, 1.0, 2.0, 4.0)
LOSSES: dict[Loss, str] = {"normalised": "normalised loss", "plain": "plain sum"}
Row = dict[str, Any]  # task, loss, alpha, factor, figure, found, setting


def of_each(rows: Sequence[Row], task: str, loss: Loss, alpha: float) -> dict[float, float]:
    """The metric at each factor that was run, the smallest first."""
    found = {
        row["factor"]: row["found"]
        for row in rows
        if (row["task"], row["loss"], row["alpha"]) == (task, loss, alpha)
    }
    return dict(sorted(found.items()))


def draw(rows: Sequence[Row], tasks: Sequence[str], file: Path) -> None:
    """The metric over the factor: a line an alpha, a row of panels a task, a column a loss."""
    figures = {row["task"]: row["figure"] for row in rows}
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(ALPHAS)))
    with mpl.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(8, 3 * len(tasks)), layout="constrained")
        panels = figure.subplots(len(tasks), 2, sharex=True, sharey="row", squeeze=False)
        for task, loss in itertools.product(tasks, LOSSES):
            axes = panels[tasks.index(task), [*LOSSES].index(loss)]
            for alpha, colour in zip(ALPHAS, colours, strict=True):
                found = of_each(rows, task, loss, alpha)
                axes.semilogx(
                    [*found], [*found.values()], "o-", color=colour, ms=4, label=f"{alpha:g}"
                )
            axes.set_title(f"{task}, {LOSSES[loss]}", loc="left", fontsize=10)
            axes.tick_params(which="both", length=0)
        for row, task in zip(panels, tasks, strict=True):
            row[0].set_ylim(bottom=0)  # of both, when all lines are there
            row[0].set_ylabel(f"{figures[task]} of the student")
        for axes in panels[-1]:
            axes.set_xlabel("what the pseudo loss is multiplied by")
        handles, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, title="alpha", loc="outside right center", frameon=False)
        figure.savefig(file, dpi=110)
