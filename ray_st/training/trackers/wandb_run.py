"""A run of Weights & Biases; where and as whom, its own environment says.

In: numbers of steps. Out: a run there, or a folder of it under `OUT/wandb` where WANDB_MODE is
offline. Next: `mlflow_run.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ray_st.data import storage
from ray_st.training.trackers.tracker import PROJECT, Tracked


class WandB:
    """Weights & Biases; it takes no step again that it has."""

    def __init__(self, run: Tracked) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.run_id,
            name=os.environ.get("WANDB_NAME", run.out),
            resume="allow",
            config=dict(run.recipe),
            dir=None if storage.is_remote(run.out) else storage.absolute(run.out),
        )

    def put(self, step: int, scalars: Mapping[str, float]) -> None:
        """Send them."""
        self._run.log(dict(scalars), step=step)

    def flush(self) -> None:
        """W&B writes as it goes."""

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()
