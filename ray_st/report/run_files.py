"""Read a run folder into plain values; what is not there comes back empty.

In: the folder that a verb leaves. Out: `RunFiles`, `LabelledImage`s chosen from LABEL_ROW Parquet,
and `Failures`. Next: `wording.py`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from ray_st.data.labels import Labels
from ray_st.data.rows import unpack
from ray_st.report.palette import MODELS

logger = logging.getLogger(__name__)

CURVE_FIELDS = ("loss", "loss_human", "loss_pseudo", "mean_human", "mean_pseudo")

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
    """One LABEL_ROW: an image by its address, and labels in pixels of that image."""

    image_id: int
    uri: str
    size_hw: tuple[int, int]
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
    folders = {model: stage_folder(out, summary, model) for model in MODELS}
    curves = {model: read_curve(folder / "metrics.jsonl") for model, folder in folders.items()}
    return RunFiles(
        summary=summary,
        recipe_yaml=recipe.read_text("utf-8") if recipe.exists() else "",
        curves={model: curve for model, curve in curves.items() if len(curve["step"])},
    )


def number(value: Any) -> float | None:
    """A finite number as a float; everything else (null, NaN, infinity, absent) as None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_curve(path: Path) -> Curve:
    """Read a metrics.jsonl in step order; of a step logged twice (by a resumed run) the last."""
    records: dict[int, dict[str, Any]] = {}
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    for index, line in enumerate(lines):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # a run cut off while writing
            logger.warning("%s: line %d is not JSON, left out of the report", path, index + 1)
            continue
        records[int(record["step"])] = record
    steps = sorted(records)
    curve = {"step": np.array(steps, np.float64)}
    for field in CURVE_FIELDS:
        values = [number(records[step].get(field)) for step in steps]
        curve[field] = np.array([np.nan if v is None else v for v in values], np.float64)
    return curve


def spread_rows(path: Path, count: int) -> list[LabelledImage]:
    """Choose `count` LABEL_ROWs evenly spread over a Parquet file or folder, always the same."""
    if not path.exists():
        return []
    rows = pads.dataset(path, format="parquet")
    total = rows.count_rows()
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
    return _images(rows.take(pa.array(chosen))) if total else []


def rows_of(path: Path, image_ids: Sequence[int]) -> dict[int, LabelledImage]:
    """Find the LABEL_ROWs of the images named, by image id."""
    if not path.exists():
        return {}
    wanted = pads.field("image_id").isin(pa.array(image_ids, pa.int64()))
    table = pads.dataset(path, format="parquet").to_table(filter=wanted)
    return {image.image_id: image for image in _images(table)}


def read_failures(out: Path, summary: Mapping[str, Any], count: int) -> Failures:
    """Read the FAILURE_ROWs that labelling or measuring left, `count` of them by name."""
    for stage in ("pseudo", "model"):
        path = stage_folder(out, summary, stage) / "failures.parquet"
        if path.exists():
            rows = pads.dataset(path, format="parquet")
            named = rows.head(count, columns=["uri", "stage", "reason"]).to_pylist()
            first = [(PurePosixPath(r["uri"]).name, r["stage"], r["reason"]) for r in named]
            return Failures(total=rows.count_rows(), first=first)
    return Failures(total=0, first=[])


def _images(table: pa.Table) -> list[LabelledImage]:
    names = ("image_id", "uri", "height_px", "width_px")
    columns = [table.column(name).to_pylist() for name in names]
    return [
        LabelledImage(image_id=image_id, uri=uri, size_hw=(height, width), labels=labels)
        for image_id, uri, height, width, labels in zip(*columns, unpack(table), strict=True)
    ]
