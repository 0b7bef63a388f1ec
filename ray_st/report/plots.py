"""Draw the loss curves and the alpha chart as inline SVG that follows the page's colours.

In: `Curve`s and the sweep of a summary. Out: `Plot`s, drawn without a display.
Next: `histogram.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from ray_st.report.canvas import STYLE, Plot, add_legend, new_canvas, svg_of
from ray_st.report.figures import figure, keys, measured, points, ranking, value
from ray_st.report.palette import LIGHT, MODELS, colour_name
from ray_st.report.run_files import Curve, number
from ray_st.report.wording import loss_name

MAX_POINTS = 500  # a line; more cannot be seen at this size
LOG_RATIO = 20.0  # largest over smallest loss from which the y axis is logarithmic


def student_loss_plot(curve: Curve) -> Plot | None:
    """Both losses of the student, each step faint and the moving average strong."""
    lines = [
        (curve, f"loss_{origin}", f"mean_{origin}", f"{origin} labels", origin)
        for origin in ("human", "pseudo")
    ]
    return _loss_plot(
        "student",
        "Student: loss on human and on pseudo labels",
        "The gap between the strong lines is what the normalised loss evens out.",
        lines,
    )


def reference_loss_plot(curves: Mapping[str, Curve]) -> Plot | None:
    """The losses of the models that learned from human labels alone."""
    lines = [
        (curves[model], "loss_human", "mean_human", MODELS[model].lower(), colour_name(model))
        for model in ("teacher", "human_only")
        if model in curves
    ]
    both = len(lines) > 1
    title = f"{' and '.join(line[3] for line in lines).capitalize()}: loss"
    note = f"{'Both' if both else 'It'} saw no pseudo label."
    return _loss_plot("reference", title, note, lines)


_Line = tuple[
    Curve, str, str, str, str
]  # curve, field drawn faint, field drawn strong, label, colour


def _loss_plot(name: str, title: str, note: str, lines: Sequence[_Line]) -> Plot | None:
    with mpl.rc_context(STYLE):
        canvas, axes = new_canvas("step", "loss")
        said = [_draw_loss(axes, line) for line in lines]
        if not any(said):
            return None
        drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
        drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
        if len(drawn) and drawn.max() / drawn.min() > LOG_RATIO:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylabel("loss (logarithmic)")
        else:
            axes.set_ylim(bottom=0)
        add_legend(axes)
        alt = f"{title}. {' '.join(filter(None, said))}"
        note = f"Faint: each step. Strong: moving average. {note}"
        return Plot(title=title, note=note, alt=alt, svg=svg_of(canvas, name))


def _draw_loss(axes: Axes, line: _Line) -> str:
    """Draw what was logged of one loss; say its first and last value, or nothing."""
    curve, raw, mean, label, colour = line
    raw = raw if np.isfinite(curve[raw]).any() else "loss" if colour != "pseudo" else raw
    said = ""
    for field, is_mean in ((raw, False), (mean, True)):
        kept = np.flatnonzero(np.isfinite(curve[field]))
        if not len(kept):
            continue
        kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), MAX_POINTS)).astype(int)]
        steps, losses = curve["step"][kept], curve[field][kept]
        width, opacity = (2.0, 1.0) if is_mean else (0.8, 0.4)
        dashes = "--" if is_mean and colour == "pseudo" else "-"
        axes.plot(steps, losses, dashes, color=LIGHT[colour], lw=width, alpha=opacity)
        said = f"{label}: from {losses[0]:.3g} to {losses[-1]:.3g}."
    if said:
        axes.plot([], [], "--" if colour == "pseudo" else "-", color=LIGHT[colour], label=label)
    return said


def alpha_plot(summary: Mapping[str, Any]) -> Plot | None:
    """The ranking figure over alpha: both losses, with the other models as horizontal lines."""
    sweep, key = summary.get("sweep") or [], keys(summary)[0]
    if not sweep:
        return None
    alphas = sorted({float(trial["alpha"]) for trial in sweep})
    with mpl.rc_context(STYLE):
        canvas, axes = new_canvas(
            "alpha: weight of the pseudo labels", f"{ranking(summary).name} of the student"
        )
        axes.set_xticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
        axes.set_xlim(-0.4, len(alphas) - 0.6)
        axes.margins(y=0.2)  # room at the foot for the runs that diverged
        _references(axes, summary)
        said = [_draw_sweep(axes, sweep, alphas, key, normalised=flag) for flag in (True, False)]
        diverged = [trial for trial in sweep if measured(trial, key) is None]
        _draw_diverged(axes, diverged, alphas, key)
        add_legend(axes)
        title = f"{ranking(summary).title} over alpha"
        alt = f"{title}. {' '.join(filter(None, said))} {len(diverged)} diverged."
        return Plot(
            title=title, note=_alpha_note(sweep, diverged), alt=alt, svg=svg_of(canvas, "alpha")
        )


def _references(axes: Axes, summary: Mapping[str, Any]) -> None:
    for model, dashes in (("teacher", "--"), ("human_only", ":")):
        height = value(summary, model)
        if height is not None:
            label = f"{MODELS[model].lower()} {points(height)}"
            axes.axhline(height, ls=dashes, lw=1.6, color=LIGHT[colour_name(model)], label=label)


def _draw_sweep(
    axes: Axes, sweep: Sequence[Mapping[str, Any]], alphas: list[float], key: str, *,
    normalised: bool,
) -> str:  # fmt: skip
    trials = [trial for trial in sweep if bool(trial["normalised"]) == normalised]
    found = [(float(trial["alpha"]), measured(trial, key)) for trial in trials]
    by_alpha = sorted((alpha, height) for alpha, height in found if height is not None)
    if not by_alpha:
        return ""
    places = [alphas.index(alpha) for alpha, _ in by_alpha]
    heights = [height for _, height in by_alpha]
    name = loss_name(trials[0])
    colour = LIGHT["student"]
    marker, fill = ("o-", colour) if normalised else ("D", LIGHT["paper"])
    axes.plot(places, heights, marker, color=colour, mfc=fill, lw=2, ms=6, mew=1.6, label=name)
    if not normalised:
        for place, (alpha, height) in zip(places, by_alpha, strict=True):
            rivals = [measured(t, key) for t in sweep if t["normalised"] and t["alpha"] == alpha]
            above = any(rival is not None and rival < height for rival in rivals)
            _label(axes, f"{name} {points(height)}", (place, height), alphas, above=above)
    said = (f"{points(height)} at alpha {alpha:g}" for alpha, height in by_alpha)
    return f"{name}: {', '.join(said)}."


def _draw_diverged(
    axes: Axes, diverged: Sequence[Mapping[str, Any]], alphas: list[float], key: str
) -> None:
    places = [alphas.index(float(trial["alpha"])) for trial in diverged]
    if not places:
        return
    at_foot = axes.get_xaxis_transform()
    axes.plot(places, [0.05] * len(places), "x", color=LIGHT["ink"], ms=7, mew=1.8,
              transform=at_foot, label=f"diverged, no {figure(key).name}")  # fmt: skip
    for place, trial in zip(places, diverged, strict=True):
        if not trial["normalised"]:
            text = f"{loss_name(trial)}: diverged"
            _label(axes, text, (place, 0.05), alphas, above=True, coords=at_foot)


def _label(
    axes: Axes, text: str, at: tuple[float, float], alphas: list[float], *, above: bool,
    coords: Any = "data",
) -> None:  # fmt: skip
    """Write beside a point, on the paper's colour, and inside the right edge."""
    last = len(alphas) > 1 and at[0] == len(alphas) - 1
    axes.annotate(
        text, at, xycoords=coords, xytext=(10 if last else 0, 8 if above else -8),
        textcoords="offset points", ha="right" if last else "center",
        va="bottom" if above else "top", color=LIGHT["ink"], weight="bold",
        bbox={"facecolor": LIGHT["paper"], "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip


def _alpha_note(sweep: Sequence[Mapping[str, Any]], diverged: Sequence[Mapping[str, Any]]) -> str:
    note = "Filled circles: normalised loss. Open diamonds: plain sum."
    if steps := number(sweep[0].get("steps")):
        note += f" One run of {steps:,.0f} steps each, which may be fewer than the lines had."
    names = [f"{loss_name(trial)} at alpha {trial['alpha']:g}" for trial in diverged]
    return f"{note} Diverged: {', '.join(names)}." if names else note
