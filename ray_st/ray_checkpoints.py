"""Ray Data under its own row checkpoints, and a hand on its scheduler while it runs.

In: where a checkpoint lies, what to call at each step. Out: a context for Ray Data to execute in.
Next: `metrics.py`.

| what | why | seen in 2.60 |
|---|---|---|
| `ray.data.checkpoint` | row checkpoints with a two-phase commit; beta. Loading them is ours: its
  plug-in point takes a class | ids as int64 |
| `use_datasource_v2` | which reader of Parquet; young | the old starts four times as soon |
| execution callbacks | the only way to end an execution from outside; private | instantiated bare |
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.dataset
import ray
import ray.data
from pyarrow import fs
from ray.data.checkpoint import CheckpointConfig, IdColumnCheckpointManager
from ray.util.annotations import RayDeprecationWarning


@contextmanager
def checkpointed(
    id_column: str,
    filesystem: fs.FileSystem,
    path: str,
    *,
    lost_blocks: int,
    each_step: Callable[[], None],
) -> Iterator[Callable[[], int]]:
    """Execute Ray Data under row checkpoints at a path.

    Args:
        id_column: int64, unique, in every row from source to sink.
        filesystem: where the checkpoint lies.
        path: on that filesystem.
        lost_blocks: blocks that may be lost to dying processes before the execution fails.
        each_step: called many times a second by the scheduler; what it raises ends the execution.

    Yields:
        Says how many files could not be written, once an execution has ended.
    """
    name, watch = uuid.uuid4().hex, _Watch(each_step, [])
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    # The new one starts 32 processes to read the footers of a few small files, for each execution.
    context.use_datasource_v2 = False
    context.max_errored_blocks = lost_blocks
    config = CheckpointConfig(
        id_column=id_column,
        checkpoint_path=path,
        override_filesystem=filesystem,
        delete_checkpoint_on_success=False,
        checkpoint_manager_cls=_IdsAtOnce,
    )
    # Ray would add up to ten processes to look up ids; one filters millions of them a second.
    config.checkpoint_actor_pool_max_size = 1
    context.checkpoint_config = config
    context.custom_execution_callback_classes = [
        *context.custom_execution_callback_classes,
        _calling(name),
    ]
    with ray.data.DataContext.current(context), warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)
        _watches[name] = watch
        try:
            yield lambda: sum(watch.unwritten)
        finally:
            del _watches[name]


class _IdsAtOnce(IdColumnCheckpointManager):  # type: ignore[misc]
    """Reads the ids where it stands: Ray runs a dataset of its own to do so, for a minute."""

    def load_checkpoint(
        self,
        data_file_dir: str | None = None,
        data_file_filesystem: fs.FileSystem | None = None,
    ) -> tuple[Any, int]:
        """Sorted ids in the object store, and their size in bytes; (None, 0) without any.

        Pending notes are the caller's to remove, beforehand.
        """
        del data_file_dir, data_file_filesystem
        selector = fs.FileSelector(self.checkpoint_path_unwrapped, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        paths = [info.path for info in infos if info.type == fs.FileType.File]
        if not paths:
            return None, 0
        found = pyarrow.dataset.dataset(paths, filesystem=self.filesystem, format="parquet")
        ids = np.sort(np.asarray(found.to_table(columns=[self.id_column])[self.id_column]))
        return ray.put(ids), ids.nbytes


@dataclass(frozen=True)
class _Watch:
    """What an execution of this process is to call, and where it counts files not written."""

    each_step: Callable[[], None]
    unwritten: list[int]


_watches: dict[str, _Watch] = {}


def _calling(name: str) -> type[Any]:
    """An execution callback; Ray makes its instance, and passes nothing.

    Ray sends the class with every task. It holds a name alone: what a watch reaches would bring
    torch into each process that reads or writes: seconds, and hundreds of megabytes.
    """
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class EachStep(ExecutionCallback):  # type: ignore[misc]
        def on_execution_step(self, executor: object) -> None:
            del executor
            if (watch := _watch(name)) is not None:
                watch.each_step()

        def after_execution_succeeds(self, executor: Any) -> None:
            writes = (op for op in executor._topology if op.name == "Write")
            if (watch := _watch(name)) is not None:
                watch.unwritten.extend(op.metrics.num_tasks_failed for op in writes)

    return EachStep


def _watch(name: str) -> _Watch | None:
    """What stands under a name; a function, so that the class above names it and holds nothing.

    None once the block that executed is over: Ray may end an executor when memory is tidied.
    """
    return _watches.get(name)
