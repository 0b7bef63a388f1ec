"""How often a gang was started, and what that cost.

In: what the first worker of each start notes beside the checkpoints. Out: the number of starts, and
the seconds between the last step that was kept and the first step after it. Next: `trackers`.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from ray_st.data import storage

RAY_FOLDER = "ray_train"  # in the run's folder: checkpoints, and what Ray Train notes of them
LOG = "metrics.jsonl"  # in a checkpoint, and in the run's folder in the end
SAVED_AT_S = "saved_at_s"  # of a checkpoint: when it was taken, in seconds of the epoch
_STARTS = "starts.json"


@dataclass(frozen=True, kw_only=True)
class GangStart:
    """One start of the gang; times are seconds of the epoch."""

    step: int  # steps done, in the checkpoint that it went on from
    saved_at_s: float | None  # when that checkpoint was taken; None without one
    moved_at_s: float | None = None  # when its own first step was done; None if it never came to it


@dataclass(kw_only=True)
class Journal:
    """The starts of one run, kept in a small file."""

    uri: str
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)  # the run's name for trackers
    starts: list[GangStart] = field(default_factory=list)

    @classmethod
    def opened(cls, out: str) -> Journal:
        """Read what earlier starts of the run in `out` have noted; empty where there was none."""
        uri = storage.join(out, f"{RAY_FOLDER}/{_STARTS}")
        if not storage.exists(uri):
            return cls(uri=uri)
        noted = json.loads(storage.read(uri))
        starts = [GangStart(**each) for each in noted["starts"]]
        return cls(uri=uri, run_id=noted["run_id"], starts=starts)

    def begin(self, step: int, saved_at_s: float | None) -> None:
        """Note a start."""
        self.starts.append(GangStart(step=step, saved_at_s=saved_at_s))
        self._write()

    def move(self) -> None:
        """Note that this start has done its first step."""
        if self.starts[-1].moved_at_s is None:
            self.starts[-1] = replace(self.starts[-1], moved_at_s=time.time())
            self._write()

    def _write(self) -> None:
        noted = {"run_id": self.run_id, "starts": [asdict(each) for each in self.starts]}
        storage.put(self.uri, json.dumps(noted).encode())


def lost_s(starts: Sequence[GangStart]) -> float:
    """Seconds without progress: from each checkpoint that was gone on from to the step after it.

    Steps that were done again count as lost. Of several starts from one checkpoint the last counts,
    and from none at all the time since the very first step.
    """
    lost = 0.0
    for step in {each.step for each in starts}:
        same = [each for each in starts if each.step == step]
        moved = [each.moved_at_s for each in same if each.moved_at_s is not None]
        since = same[0].saved_at_s if same[0].saved_at_s is not None else min(moved, default=None)
        if moved and since is not None:
            lost += max(0.0, max(moved) - since)
    return lost
