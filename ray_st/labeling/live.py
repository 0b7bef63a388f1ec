"""Labels to learn from while the teacher still makes them.

In: a store that grows. Out: `LiveRows`, the rows of a stream: in each round of steps all that is
labelled by then. Next: `execution.py`.

Which files a round has is decided once, when it is first asked for, and written down before it is
answered. So all workers see the same images in a step, and so does a run that goes on, after
whatever died.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from ray_st.config import UserError
from ray_st.data import parquet, storage
from ray_st.data.rows import label_row
from ray_st.labeling.policy import Choice
from ray_st.labeling.recovery import complete
from ray_st.labeling.rows import OK
from ray_st.labeling.store import Store
from ray_st.labeling.stored import StoredRows, in_places
from ray_st.progress import keeper

ROUND_STEPS = 20
# Most steps in a block of images: a loader has asked for two blocks when it gives the first one's
# first step, and a round is decided when the round before the last one is over.
BLOCK_STEPS = ROUND_STEPS // 2
_ASK_S = 0.5
_EPOCHS_A_ROUND = 2**20  # more than a round can have, so that no two show an image alike


class Rounds:
    """Which files each round has; of the store, those that are complete when it is decided."""

    def __init__(self, store: str, record: str) -> None:
        """Go on with what `record`, a path or URI, holds of an earlier try."""
        self._store, self._record = Store(store), record
        self._files: dict[str, int] = {}  # labelled images in each; grows at its end only
        self._ends: list[int] = []  # of each round: how many of the files it has
        self._whole: set[str] = set()  # shards that will not change, and were looked at
        self._reached = 0
        if storage.exists(record):
            standing = json.loads(storage.read(record))
            self._files = dict(standing["files"])
            self._ends = list(standing["ends"])

    def reached(self, step: int) -> None:
        """So many steps are done."""
        self._reached = max(self._reached, step)

    def of(self, number: int) -> tuple[list[str], list[int]] | None:
        """Files of a round and the images of each; None while it is too early to say."""
        while len(self._ends) <= number:
            # One round ahead and no more: a loader that runs on would miss what is labelled then.
            if self._reached < (len(self._ends) - 1) * ROUND_STEPS:
                return None
            self._look()
            if not self.has_labels:
                return None
            self._ends.append(len(self._files))
            self._write()
        end = self._ends[number]
        return [*self._files][:end], [*self._files.values()][:end]

    @property
    def has_labels(self) -> bool:
        """Whether any image is known to be labelled."""
        return any(self._files.values())

    def num_images(self) -> int:
        """How many images the last round had."""
        return sum([*self._files.values()][: self._ends[-1]]) if self._ends else 0

    def _look(self) -> None:
        for shard in self._store.begun():
            if shard.name in self._whole:
                continue
            is_whole = shard.facts is not None  # asked first: its last files may come meanwhile
            for file in map(shard.file, complete(shard)):
                if file not in self._files:
                    status = parquet.read(file, ["status"])["status"]
                    self._files[file] = int(pc.sum(pc.equal(status, OK)).as_py() or 0)
            if is_whole:
                self._whole.add(shard.name)

    def _write(self) -> None:
        content = {"files": [*self._files.items()], "ends": self._ends}
        storage.put(self._record, (json.dumps(content) + "\n").encode())


class _Guarded(Rounds):
    """Answers as long as there is hope: a labelling that has ended will give no more."""

    def __init__(self, store: str, record: str, labelling: Sequence[Any]) -> None:
        super().__init__(store, record)
        self._labelling = [*labelling]  # a reference inside a list is not waited for

    def ask(self, number: int) -> tuple[list[str], list[int]] | None:
        ended, _ = ray.wait(self._labelling, timeout=0)
        ray.get(ended)  # raises what the labelling raised
        answer = self.of(number)
        if ended and not self.has_labels:
            raise UserError(
                "pseudo: no image of the pool was labelled; see failures.parquet, and label a pool "
                "of readable images"
            )
        return answer


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveRows:
    """`Rows` of a store that grows; positions are those of `batch_size` images a step."""

    rounds: Any  # actor handle of `_Guarded`
    choice: Choice
    batch_size: int

    @classmethod
    def begun(
        cls, store: str, record: str, labelling: Any, choice: Choice, batch_size: int
    ) -> LiveRows:
        """Begin to look at a store; `labelling` is the reference to what fills it.

        `record` is the file, path or URI, that remembers which round had what.
        """
        rounds = keeper(_Guarded, store, record, [labelling])
        return cls(rounds=rounds, choice=choice, batch_size=batch_size)

    @property
    def num_rows(self) -> int:
        """How many images there were to learn from in the last round."""
        return int(ray.get(self.rounds.num_images.remote()))

    def reached(self, step: int) -> None:
        """Say that so many steps are done; never waits."""
        self.rounds.reached.remote(step)

    def at(self, positions: np.ndarray, seed: int) -> tuple[pa.Table, np.ndarray]:
        """Pseudo labels at some positions, and the epoch of each; waits for the first labels.

        A round shuffles what there is, and begins anew: an image may come again before all have
        come.
        """
        length, epochs = ROUND_STEPS * self.batch_size, np.empty_like(positions)
        numbers, parts = positions // length, [label_row(self.choice.kind).empty_table()]
        places = [np.empty(0, np.int64)]
        for number in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == number)
            rows, found = self._round(number).at(
                positions[chosen] - number * length, seed + (number << 64)
            )
            parts.append(rows)
            places.append(chosen)
            epochs[chosen] = number * _EPOCHS_A_ROUND + found
        return in_places(parts, places), epochs

    def _round(self, number: int) -> StoredRows:
        while (answer := ray.get(self.rounds.ask.remote(number))) is None:
            time.sleep(_ASK_S)
        files, sizes = answer
        return StoredRows(
            files=pa.array(files, pa.string()),
            sizes=tuple(sizes),
            choice=self.choice,
        )

    def ended(self) -> None:
        """Let the actor go."""
        ray.kill(self.rounds)
