"""What a run needs to go on as if nothing had happened: the model folder plus the training state.

In: `TrainState` and the log so far. Out: a checkpoint folder, and the same read back. The
optimiser's state is read with `weights_only`: nothing is unpickled. A checkpoint holds whole
tensors, so it does not matter how many workers wrote it, nor whether each held all of the model.
Next: `alarms.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ray_st.data import storage
from ray_st.models.saved import WEIGHTS
from ray_st.training.guard import Skipped
from ray_st.training.restarts import LOG
from ray_st.training.sharding import spread, spread_state, whole
from ray_st.training.step import TrainState
from ray_st.training.trail import Trail
from ray_st.training.trainable import bare, joint_classes

STATE = "training_state.pt"


def save_state(folder: Path | None, state: TrainState) -> None:
    """Write what a step changes, besides the saved model.

    Where that holds averaged weights, those that are trained stand here. All workers take part, for
    the state may be spread over them; those without a folder keep nothing.
    """
    keep = folder is not None
    last: dict[str, Any] = {}
    if state.average is not None:
        last["weights"] = whole(bare(state.model).state_dict(), keep=keep)
    if (classes := joint_classes(state.model)) is not None:
        last["joint_classes"] = classes.state_dict()
    held = {
        "step": state.step,
        "optimizer": whole(state.optimizer.state_dict(), keep=keep),
        "balance": state.balance.state_dict(),
        "skipped": asdict(state.skipped),
        "order": state.trail.joined(),
        **last,
    }
    if folder is not None:
        torch.save(held, folder / STATE)


def load_state(folder: Path, state: TrainState) -> None:
    """Put weights and state back in place, as if nothing had happened."""
    model = bare(state.model)
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    saved = torch.load(folder / STATE, weights_only=True, map_location="cpu")
    if state.average is not None:
        state.average.model.load_state_dict(weights)
        weights = saved["weights"]
    held = model.state_dict()
    model.load_state_dict({name: spread(each, held.get(name)) for name, each in weights.items()})
    if (classes := joint_classes(state.model)) is not None:
        classes.load_state_dict(saved["joint_classes"])
    state.optimizer.load_state_dict(spread_state(saved["optimizer"], state.optimizer))
    state.balance = state.balance.resumed(saved["balance"])
    state.skipped = Skipped(**saved["skipped"])
    state.trail = Trail(total=int(saved["order"], 16))
    state.step = saved["step"]


def finite(value: Any) -> Any:
    """JSON has no NaN: a figure that does not exist (AP of large boxes, say) becomes null."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_log(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl, one object a logged step, and one an evaluation."""
    (folder / LOG).write_text(as_lines(rows))


def as_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """JSON, a line a row."""
    return "".join(json.dumps(finite(row)) + "\n" for row in rows)


def load_log(folder: str | Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl back, from a folder or a bucket."""
    text = storage.read(storage.join(str(folder), LOG)).decode()
    return [json.loads(line) for line in text.splitlines()]


def best_step(rows: Sequence[Mapping[str, Any]], figure: str) -> int | None:
    """The step whose evaluation had the highest figure, of equals the first; None without any."""
    found = [(row["val"].get(figure), row["step"]) for row in rows if "val" in row]
    known = [(value, -step) for value, step in found if value is not None]
    return -max(known)[1] if known else None
