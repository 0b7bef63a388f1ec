"""All trackers of a run.

In: `TrainConfig.trackers`. Out: `Trackers`, which tells each of them; or one line on why one cannot
be told. W&B and MLflow are imported only where they are asked for. Next: `trainable.py`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray_st.config import UserError
from ray_st.training.schedule import TrainConfig
from ray_st.training.trackers.mlflow_run import MLflow
from ray_st.training.trackers.tensorboard import TensorBoard
from ray_st.training.trackers.tracker import Tracked, Tracker, scalars
from ray_st.training.trackers.wandb_run import WandB

MLFLOW_URI = "MLFLOW_TRACKING_URI"


def require_trackers(config: TrainConfig) -> None:
    """Refuse a tracker that could not be told. Raises `UserError`."""
    for name in config.trackers:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"train.trackers: {name} is not installed; pip install 'ray-st[{name}]', on every "
                "node of a cluster, or leave it out"
            )
    if "mlflow" in config.trackers and not os.environ.get(MLFLOW_URI):
        raise UserError(
            f"train.trackers: mlflow must know its server; set {MLFLOW_URI}, for the workers too"
        )


class Trackers:
    """All trackers as one; none at all where nobody is told."""

    def __init__(self, told: Sequence[Tracker] = ()) -> None:
        self._told = told

    def put(self, row: Mapping[str, Any]) -> None:
        """Tell them of a row of metrics.jsonl."""
        for each in self._told:
            each.put(int(row["step"]), scalars(row))

    def flush(self) -> None:
        """Before a checkpoint, so that they know all that it knows."""
        for each in self._told:
            each.flush()

    def close(self) -> None:
        """When training has ended well: a run that broke off goes on."""
        for each in self._told:
            each.close()


def opened(config: TrainConfig, run: Tracked, others: Sequence[Tracker] = ()) -> Trackers:
    """All that are to be told of a run; `others` need no word in a recipe."""
    kinds: dict[str, Callable[[Tracked], Tracker]] = {"wandb": WandB, "mlflow": MLflow}
    return Trackers([TensorBoard(run), *others, *(kinds[name](run) for name in config.trackers)])
