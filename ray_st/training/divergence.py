"""How a run ends whose numbers went bad: with an account for the user, not with a traceback.

In: the last step's report and batch. Out: `Divergence`, which workers return (what they raised
would be tried again, `train.max_failures` times, and end the same way); `DivergedError`, one line
for the user, who finds the rest in bad_step.json. Next: `saving.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.batches import Batch
from ray_st.data.labels import Origin
from ray_st.training.checkpoints import as_lines
from ray_st.training.restarts import LOG
from ray_st.training.step import StepReport

BAD_STEP = "bad_step.json"


class DivergedError(UserError):
    """A training that ended because its numbers went bad and stayed so."""


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """What the workers know of the end."""

    row: dict[str, Any]  # of the last step, as metrics.jsonl would have it
    in_a_row: int  # steps that changed nothing
    image_ids: dict[str, list[int]]  # of the last step, over all workers, by origin
    log: Sequence[dict[str, Any]]

    @classmethod
    def of(cls, report: StepReport, batch: Batch, log: Sequence[dict[str, Any]]) -> Divergence:
        """Gather it; all workers must call this at the same step."""
        return cls(
            row=report.as_row(),
            in_a_row=report.skipped.in_a_row,
            image_ids=_image_ids(batch),
            log=log,
        )

    def left_in(self, place: str) -> DivergedError:
        """Write bad_step.json, and the log so far, into a folder or bucket; what to raise."""
        storage.put(storage.join(place, LOG), as_lines(self.log).encode())
        text = json.dumps(_told({**self.row, "image_ids": self.image_ids}), indent=2)
        bad_step = storage.join(place, BAD_STEP)
        storage.put(bad_step, f"{text}\n".encode())
        return DivergedError(
            f"train.max_skipped_steps: the loss or gradient of {self.in_a_row} steps in a row, up "
            f"to step {self.row['step']}, was no finite number; {bad_step} holds the last "
            "one's losses and image ids: look at these images, or pass a lower train.lr and "
            "another --out"
        )


def _image_ids(batch: Batch) -> dict[str, list[int]]:
    """Image ids of the step over all workers, in the order of their ranks."""
    mine = {
        origin.name.lower(): batch.image_ids[batch.origins == int(origin)].tolist()
        for origin in Origin
        if origin is not Origin.JOINT or batch.joint_pixels is not None
    }
    gathered = [mine]
    if dist.is_available() and dist.is_initialized():
        gathered = [mine] * dist.get_world_size()
        dist.all_gather_object(gathered, mine)
    return {name: [image for each in gathered for image in each[name]] for name in mine}


def _told(value: Any) -> Any:
    """JSON has no NaN and no infinity, and here they are the point: as text."""
    if isinstance(value, dict):
        return {key: _told(each) for key, each in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
