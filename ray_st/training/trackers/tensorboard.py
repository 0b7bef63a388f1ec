"""TensorBoard's event files, in the folder of every run.

In: numbers of steps. Out: `OUT/tensorboard`; `tensorboard --logdir OUT` shows it, while the run
goes on too. Next: `wandb_run.py`.

tensorboardX has the format (and comes with Ray); its own SummaryWriter holds the last few events in
a queue that no flush reaches, so that a run that is killed would lack steps its checkpoint has.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ray_st.data import storage
from ray_st.training.trackers.tracker import Tracked

FOLDER = "tensorboard"
_FLUSH_S = 10.0  # so that one who looks on sees it


class TensorBoard:
    """A file of events a start; for a bucket it is written here, and copied there."""

    def __init__(self, run: Tracked) -> None:
        from tensorboardX.proto.event_pb2 import SessionLog
        from tensorboardX.record_writer import RecordWriter

        folder = storage.join(run.out, FOLDER)
        self._there = folder if storage.is_remote(folder) else None
        self._here = Path(tempfile.mkdtemp() if self._there else storage.absolute(folder))
        self._here.mkdir(parents=True, exist_ok=True)
        self._copying = ThreadPoolExecutor(1)  # a step never waits for a bucket
        # In the order of names, which is TensorBoard's, a later start comes later.
        second, rest = divmod(time.time_ns(), 10**9)
        name = f"events.out.tfevents.{second:010d}.{rest:09d}.{platform.node()}"
        self._records = RecordWriter(str(self._here / name))
        self._flushed_s = time.monotonic()
        self._write(file_version="brain.Event:2")
        # Steps that an earlier start did and lost are shown no more.
        self._write(step=run.begun_at + 1, session_log=SessionLog(status=SessionLog.START))

    def put(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write an event that holds all of them."""
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(step=step, summary=Summary(value=values))
        if time.monotonic() - self._flushed_s > _FLUSH_S:
            self.flush()

    def _write(self, **fields: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())

    def flush(self) -> None:
        """Bring all to the disk, and begin to copy it."""
        self._records.flush()
        self._flushed_s = time.monotonic()
        if self._there is not None:
            self._copying.submit(self._copy, self._there)

    def close(self) -> None:
        """Bring all to where it belongs."""
        self._records.flush()
        self._records.close()
        if self._there is not None:
            self._copying.submit(self._copy, self._there).result()
            shutil.rmtree(self._here)
        self._copying.shutdown()

    def _copy(self, there: str) -> None:
        for file in sorted(self._here.iterdir()):
            storage.put(storage.join(there, file.name), file.read_bytes())
