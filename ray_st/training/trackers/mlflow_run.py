"""A run on an MLflow server, by its client; where and as whom, its own environment says.

In: numbers of steps. Out: a run there, found again by its tag. Next: `opening.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from ray_st.training.trackers.tracker import PROJECT, Tracked

_MOST_FIELDS = 100  # that a server takes at once


class MLflow:
    """MLflow, by its client; a number that it has of a step, or of a later one, is not sent."""

    def __init__(self, run: Tracked) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else self._client.create_experiment(name)
        found = self._client.search_runs([place], f"tags.ray_st_run = '{run.run_id}'")
        self._is_new = not found
        tags = {"ray_st_run": run.run_id, "mlflow.runName": run.out}
        self._run = (found[0] if found else self._client.create_run(place, tags=tags)).info.run_id
        self._last: dict[str, int] = {}
        if self._is_new:
            self._describe(run.recipe)

    def _describe(self, recipe: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        fields = [Param(key, value) for key, value in _flat(recipe).items()]
        for first in range(0, len(fields), _MOST_FIELDS):
            self._client.log_batch(self._run, params=fields[first : first + _MOST_FIELDS])

    def put(self, step: int, scalars: Mapping[str, float]) -> None:
        """Send what is new."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        named = {_name(key): value for key, value in scalars.items()}
        new = [
            Metric(key, value, now_ms, step)
            for key, value in named.items()
            if step > self._last_of(key)
        ]
        self._client.log_batch(self._run, metrics=new)
        self._last |= {metric.key: step for metric in new}

    def _last_of(self, key: str) -> int:
        if key not in self._last:
            told = [] if self._is_new else self._client.get_metric_history(self._run, key)
            self._last[key] = max((each.step for each in told), default=-1)
        return self._last[key]

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Say that the run has ended well."""
        self._client.set_terminated(self._run)


def _name(key: str) -> str:
    """A name that MLflow takes: letters, digits and _-. /"""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in key)


def _flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted names of a recipe's fields; values cut at what MLflow takes."""
    found: dict[str, str] = {}
    for name, value in recipe.items():
        is_section = isinstance(value, Mapping) and value
        part = _flat(value, f"{prefix}{name}.") if is_section else {f"{prefix}{name}": str(value)}
        found |= {key: text[:500] for key, text in part.items()}
    return found
