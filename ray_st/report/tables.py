"""The figures as tables: of models, of classes, of the sweep.

In: `summary.json`. Out: `Table`s of text. Next: `pseudo.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_st.report.figures import class_keys, figure, keys, measured, points, value
from ray_st.report.palette import MODELS, colour_name
from ray_st.report.wording import loss_name

NUM_SWEEP_FIGURES = 2  # columns of the sweep's table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    name: str
    meaning: str = ""
    cells: Sequence[tuple[str, bool]]  # text, and whether it is the best


@dataclass(frozen=True, kw_only=True)
class Table:
    """Text in rows and columns."""

    title: str
    first: str  # over the names of the rows
    heads: list[tuple[str, str]]  # of each column: text, and a colour of the palette or nothing
    rows: list[Row]


def figure_table(summary: Mapping[str, Any]) -> Table:
    """A row a figure that any model has, a column a model."""
    known = [k for k in keys(summary) if any(value(summary, m, k) is not None for m in MODELS)]
    rows = [
        Row(name=figure(k).name, meaning=figure(k).meaning, cells=_cells(summary, k)) for k in known
    ]
    return Table(title="Metrics", first="Metric", heads=_heads(summary), rows=rows)


def class_tables(summary: Mapping[str, Any]) -> list[Table]:
    """For each figure that is known by class, a row a class and a column a model."""
    tables = []
    for name, of in class_keys(summary).items():
        rows = [Row(name=key.removeprefix(f"{name}/"), cells=_cells(summary, key)) for key in of]
        title = f"{figure(name).title} of each class"
        tables.append(Table(title=title, first="Class", heads=_heads(summary), rows=rows))
    return tables


def sweep_table(summary: Mapping[str, Any]) -> Table:
    """A row a trial: alpha, how the losses were joined, figures."""
    sweep = summary.get("sweep") or []
    known = [k for k in keys(summary)[:NUM_SWEEP_FIGURES] if any(k in trial for trial in sweep)]
    columns = [[(loss_name(trial), False) for trial in sweep]]
    columns += [_best_marked([measured(trial, key) for trial in sweep]) for key in known]
    names = [f"{trial['alpha']:g}" for trial in sweep]
    return Table(
        title="Sweep over alpha",
        first="Alpha",
        heads=[("Loss", ""), *((figure(key).title, "") for key in known)],
        rows=[
            Row(name=name, cells=cells)
            for name, cells in zip(names, zip(*columns, strict=True), strict=True)
        ],
    )


def _models(summary: Mapping[str, Any]) -> list[str]:
    return [model for model in MODELS if summary.get(model)]


def _heads(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(MODELS[model], colour_name(model)) for model in _models(summary)]


def _cells(summary: Mapping[str, Any], key: str) -> list[tuple[str, bool]]:
    return _best_marked([value(summary, model, key) for model in _models(summary)])


def _best_marked(values: Sequence[float | None]) -> list[tuple[str, bool]]:
    """Text and is-best of each; one alone is not the best of anything."""
    shown = [points(value) for value in values]
    best = max((float(text) for text in shown if text != "–"), default=None)
    return [(text, len(shown) > 1 and text != "–" and float(text) == best) for text in shown]
