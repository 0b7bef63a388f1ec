"""What a run needs to go on as if nothing had happened: the model folder plus the training state.

In: `TrainState` and the log so far. Out: a checkpoint folder, and the same read back. The
optimiser's state is read with `weights_only`: nothing is unpickled. Next: `alarms.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from ray_st.models.saved import WEIGHTS
from ray_st.training.guard import Skipped
from ray_st.training.step import TrainState
from ray_st.training.trainable import bare

STATE, LOG = "training_state.pt", "metrics.jsonl"


def save_state(folder: Path, state: TrainState) -> None:
    """Write what a step changes, besides the saved model.

    Where that holds averaged weights, those that are trained stand here.
    """
    last = {} if state.average is None else {"weights": bare(state.model).state_dict()}
    torch.save(
        {
            "step": state.step,
            "optimizer": state.optimizer.state_dict(),
            "balance": state.balance.state_dict(),
            "skipped": asdict(state.skipped),
            **last,
        },
        folder / STATE,
    )


def load_state(folder: Path, state: TrainState, model: nn.Module) -> None:
    """Put weights and state back in place, as if nothing had happened. `model` is unwrapped."""
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    saved = torch.load(folder / STATE, weights_only=True, map_location="cpu")
    if state.average is not None:
        state.average.model.load_state_dict(weights)
        weights = saved["weights"]
    model.load_state_dict(weights)
    state.optimizer.load_state_dict(saved["optimizer"])
    state.balance = state.balance.resumed(saved["balance"])
    state.skipped = Skipped(**saved["skipped"])
    state.step = saved["step"]


def finite(value: Any) -> Any:
    """JSON has no NaN: a figure that does not exist (AP of large boxes, say) becomes null."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_log(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl, one object a logged step."""
    (folder / LOG).write_text("".join(json.dumps(finite(row)) + "\n" for row in rows))


def load_log(folder: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl back."""
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
