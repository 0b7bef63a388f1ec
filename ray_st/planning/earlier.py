"""Rates from runs that were: folders that `label` and `train` left.

In: a folder. Out: `LabelRates` or `TrainRates`. Next: `plan.py`.

A run tells what its stages took beside each other, on cores that were shared or not; the rates
hold for machines that are as busy.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ray_st.config import UserError, from_dict
from ray_st.data import parquet, storage
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.store import Store
from ray_st.planning.calibration import mean_bytes
from ray_st.planning.rates import LabelRates, TrainRates
from ray_st.planning.training import streams_of
from ray_st.recipe import parse_yaml
from ray_st.selftraining.folder import finished
from ray_st.selftraining.record import RECIPE
from ray_st.training.checkpoints import load_log
from ray_st.training.schedule import TrainConfig

_ASKED = 64  # files whose size is asked for
_WARM = 2  # rows of a log that are left out
_DAMAGE = (
    ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError,
)  # fmt: skip


def rates_of_run(uri: str) -> LabelRates | TrainRates:
    """Read what a folder or bucket knows; raises `UserError` for one that knows nothing."""
    try:
        return _rates(uri, finished(uri) or {})
    except UserError:
        raise
    except _DAMAGE as error:  # a file that is no longer as the run left it, or cannot be read
        said = " ".join(repr(error).split())
        raise UserError(
            f"from_runs: {uri} is damaged, or cannot be read ({said}); pass another"
        ) from error


def _rates(uri: str, summary: Mapping[str, Any]) -> LabelRates | TrainRates:
    verb = summary.get("verb")
    if verb == "label":
        return _labelling(uri, summary)
    if verb == "train":
        return _training(uri, summary)
    raise UserError(
        f"from_runs: {uri} must be a finished folder of `ray-st label` or `ray-st train` (of a "
        "whole run: its sub-folders pseudo, teacher, student); pass one of these"
    )


def _labelling(uri: str, summary: Mapping[str, Any]) -> LabelRates:
    speed, seconds = summary.get("speed") or {}, summary["seconds"]["label"]
    if not speed.get("busy"):
        raise UserError(
            f"from_runs: {uri} measured no speed, as a run without actors or with nothing left to "
            "label does; pass another"
        )
    label = _section(uri, "label", LabelConfig)
    images = speed["images_per_s"] * seconds
    teachers = speed["images_per_s"] / speed["images_per_s_per_teacher"]
    steady = seconds - (speed["first_label_s"] or 0.0)
    busy = speed["busy"]
    store = Store(storage.join(storage.absolute(uri), "raw"))
    entries = [each for shard in store.shards() for each in (shard.facts or {})["files"]]
    rows = sum(each["rows"] for each in entries)
    side = summary["views"]["sides_px"][0]
    return LabelRates(
        read_s=busy["read"] * steady * label.readers / images,
        predict_s=busy["predict"] * steady * teachers / images,
        write_s=0.0,
        start_s=speed["first_label_s"] or 0.0,
        in_bytes=mean_bytes(_uris(store)),
        out_bytes=sum(each["bytes"] for each in entries) / max(1, rows),
        view_bytes=3.0 * side**2,
        device="cuda" if label.gpus_per_actor > 0 else "cpu",
        shares_cores=False,
        source=f"{uri}, {label.readers} readers and {teachers:.3g} teachers; writing not told "
        "apart",
    )


def _uris(store: Store) -> Sequence[str]:
    for shard in store.shards():
        for file in shard.files():
            found: list[str] = parquet.read(file, ["uri"])["uri"].slice(0, _ASKED).to_pylist()
            return found
    return []


def _training(uri: str, summary: Mapping[str, Any]) -> TrainRates:
    train = _section(uri, "train", TrainConfig)
    per_s = steady_images_per_s(load_log(uri))
    if per_s is None:
        raise UserError(f"from_runs: {uri} logged no step; pass another")
    workers = max(1, train.num_workers)
    images = sum(streams_of(train, has_pseudo="student" in summary))
    return TrainRates(
        fixed_s=0.0,
        image_s=workers / per_s,
        load_s=0.0,
        gradient_bytes=0.0,
        device="cuda" if train.use_gpu else "cpu",
        source=f"{uri}, steps of {images} images on {workers} workers; loading and the exchange of "
        "gradients not told apart",
    )


def steady_images_per_s(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """What most of a log's rows were near, the first left out; None where there is none."""
    found = [row["images_per_s"] for row in rows if row.get("images_per_s")]
    return statistics.median(found[_WARM:] or found) if found else None


def _section(uri: str, name: str, schema: type) -> Any:
    """A section of the recipe beside it, or of the run that it is a stage of."""
    places = [storage.join(uri, where) for where in (RECIPE, f"../{RECIPE}")]
    path = next((each for each in places if storage.exists(each)), None)
    if path is None:
        raise UserError(f"from_runs: {uri} has no {RECIPE}; pass the folder that the run left")
    return from_dict(schema, parse_yaml(storage.read(path), path).get(name, {}), path)
