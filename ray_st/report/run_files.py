"""Read a run folder into plain values; what is not there comes back empty.

In: the folder that a verb leaves. Out: `RunFiles`, `LabelledImage`s chosen from LABEL_ROW Parquet,
and `Failures`. A damaged summary.json is refused; another damaged file is left out of the report,
with a line in the log. Next: `figures.py`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from ray_st.config import UserError
from ray_st.data.labels import Labels
from ray_st.data.rows import kind_of, label_row, unpack
from ray_st.report.palette import MODELS

logger = logging.getLogger(__name__)

CURVE_FIELDS = ("loss", "loss_human", "loss_pseudo", "mean_human", "mean_pseudo")

T = TypeVar("T")

Curve = dict[str, np.ndarray]
"""`step` and each of CURVE_FIELDS as float64 arrays of one length; NaN where nothing was logged."""


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The text and the numbers of a run folder."""

    summary: dict[str, Any]  # empty without summary.json
    recipe_yaml: str  # empty without recipe.yaml
    curves: dict[str, Curve]  # by model, only those that logged something


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """One LABEL_ROW: an image by its address, and labels in pixels of that image as decoded."""

    image_id: int
    uri: str
    labels: Labels


@dataclass(frozen=True, kw_only=True)
class Failures:
    """The images that came to nothing, and the first few of them by name."""

    total: int
    first: list[tuple[str, str, str]]  # the uri's last part, stage, reason


def stage_folder(out: Path, summary: Mapping[str, Any], stage: str) -> Path:
    """Where a stage's files are: its sub-folder, or the root where a verb ran that stage alone."""
    folder = out / stage
    return out if stage in summary and not folder.is_dir() else folder


def read_run(out: Path) -> RunFiles:
    """Read everything but the Parquet files."""
    if not out.is_dir():
        raise ValueError(f"out: must be the folder of a run, got {str(out)!r}: no such folder")
    path, recipe = out / "summary.json", out / "recipe.yaml"
    summary = json.loads(path.read_text("utf-8")) if path.exists() else {}
    require_shape(path, summary)
    folders = {model: stage_folder(out, summary, model) for model in MODELS}
    curves = {model: read_curve(folder / "metrics.jsonl") for model, folder in folders.items()}
    return RunFiles(
        summary=summary,
        recipe_yaml=recipe.read_text("utf-8", errors="replace") if recipe.exists() else "",
        curves={model: curve for model, curve in curves.items() if len(curve["step"])},
    )


def require_shape(path: Path, summary: Mapping[str, Any]) -> None:
    """Refuse a summary whose parts are of another kind than a verb writes."""
    objects = (*MODELS, "pseudo", "simclr", "seconds", "findings", "versions")
    objects += ("thresholds", "policy", "speed")
    lists = ("classes", "figures", "sweep")
    for name, kind in {**dict.fromkeys(objects, dict), **dict.fromkeys(lists, list)}.items():
        part = summary.get(name)
        if not isinstance(part, kind | None):
            word = "a list" if kind is list else "an object"
            raise _misshapen(path, name, word, part)
    for index, key in enumerate(summary.get("figures") or []):
        if not isinstance(key, str):
            raise _misshapen(path, f"figures[{index}]", "the name of a metric", key)
    for index, trial in enumerate(summary.get("sweep") or []):
        name = f"sweep[{index}]"
        if not isinstance(trial, dict):
            raise _misshapen(path, name, "an object", trial)
        if number(trial.get("alpha")) is None:
            raise _misshapen(path, f"{name}.alpha", "a number", trial.get("alpha"))
        if not isinstance(trial.get("normalised"), bool):
            raise _misshapen(path, f"{name}.normalised", "true or false", trial.get("normalised"))


def _misshapen(path: Path, name: str, rule: str, got: object) -> UserError:
    return UserError(
        f"{path}: {name}: must be {rule}, got {got!r}; remove the file and run its verb again"
    )


def number(value: Any) -> float | None:
    """A finite number as a float; everything else (null, NaN, infinity, absent) as None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_curve(path: Path) -> Curve:
    """Read a metrics.jsonl in step order; of a step logged twice (by a resumed run) the last."""
    records: dict[int, dict[str, Any]] = {}
    lines = path.read_bytes().splitlines() if path.exists() else []
    bad = []
    for index, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            step = int(record["step"])
            if "val" not in record:  # an evaluation: no point of a curve
                records[step] = record
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            bad.append(index)  # of a run that was cut off while writing, the last
    if bad:
        lost = f"line {bad[0]}" if len(bad) == 1 else f"line {bad[0]} and {len(bad) - 1} more"
        logger.warning("%s: %s: no logged step, left out of the report", path, lost)
    steps = sorted(records)
    curve = {"step": np.array(steps, np.float64)}
    for field in CURVE_FIELDS:
        values = [number(records[step].get(field)) for step in steps]
        curve[field] = np.array([np.nan if v is None else v for v in values], np.float64)
    return curve


def spread_rows(path: Path, count: int) -> list[LabelledImage]:
    """Choose `count` LABEL_ROWs evenly spread over a Parquet file or folder, always the same."""

    def read(rows: pads.Dataset) -> list[LabelledImage]:
        total = rows.count_rows()
        chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
        return _images(rows.take(pa.array(chosen))) if total else []

    return _read(path, read, [])


def rows_of(path: Path, image_ids: Sequence[int]) -> dict[int, LabelledImage]:
    """Find the LABEL_ROWs of the images named, by image id."""
    wanted = pads.field("image_id").isin(pa.array(image_ids, pa.int64()))

    def read(rows: pads.Dataset) -> dict[int, LabelledImage]:
        return {image.image_id: image for image in _images(rows.to_table(filter=wanted))}

    return _read(path, read, {})


def read_failures(out: Path, summary: Mapping[str, Any], count: int) -> Failures:
    """Read the FAILURE_ROWs that labelling or measuring left, `count` of them by name."""

    def read(rows: pads.Dataset) -> Failures:
        named = rows.head(count, columns=["uri", "stage", "reason"]).to_pylist()
        first = [(PurePosixPath(r["uri"]).name, r["stage"], r["reason"]) for r in named]
        return Failures(total=rows.count_rows(), first=first)

    folders = [stage_folder(out, summary, stage) for stage in ("pseudo", "model")]
    paths = [folder / "failures.parquet" for folder in folders]
    path = next((path for path in paths if path.exists()), paths[0])
    return _read(path, read, Failures(total=0, first=[]))


def _read(path: Path, read: Callable[[pads.Dataset], T], otherwise: T) -> T:
    """What `read` makes of a Parquet file or folder; `otherwise` where it is absent or damaged."""
    if not path.exists():
        return otherwise
    try:
        return read(pads.dataset(path, format="parquet"))
    # SyntaxError is what Pillow says of a broken PNG.
    except (pa.ArrowException, OSError, ValueError, TypeError, SyntaxError) as error:
        reason = " ".join(str(error).split())
        logger.warning("%s: is damaged, left out of the report: %s", path, reason)
        return otherwise


def _images(table: pa.Table) -> list[LabelledImage]:
    kind = kind_of(table.schema)
    schema = label_row(kind)
    if kind is None or not set(schema.names) <= set(table.schema.names):
        raise ValueError(f"must have the columns of labels, got {', '.join(table.schema.names)}")
    table = table.select(schema.names).cast(schema)
    # A null PNG is a map that is not known; nothing else may be null.
    required = [field.name for field in schema if not pa.types.is_large_binary(field.type)]
    nulls = [name for name in required if table.column(name).null_count]
    if nulls:
        raise ValueError(f"{nulls[0]} must not be null")
    columns = [table.column(name).to_pylist() for name in ("image_id", "uri")]
    return [
        LabelledImage(image_id=image_id, uri=uri, labels=labels)
        for image_id, uri, labels in zip(*columns, unpack(table), strict=True)
    ]
