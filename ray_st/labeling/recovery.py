"""What is half written in a shard, by a process that died or a write that failed, is removed.

In: a `Shard`, between two executions. Out: all that stands in it is complete, and is recorded if it
is Ray's. Next: `looks.py`.

Ray notes a file's ids as pending, writes the file, and renames the note. Before an execution it
removes what is pending, but too late for who counts before, and not well where both notes stand,
for a bucket renames by copying and removing: the file would go, and the note say that it stands.
"""

from __future__ import annotations

import pyarrow as pa

from ray_st.data import parquet, storage
from ray_st.labeling.store import Shard

_NOTE, _PENDING = ".parquet", ".pending.parquet"


def notes(shard: Shard) -> str:
    """Where Ray notes the ids that are written."""
    return storage.join(shard.work, "checkpoint")


def recover(shard: Shard) -> None:
    """Remove what is half written; its images are labelled again. Raises OSError."""
    folder = notes(shard)
    names = {str(info.base_name) for info in storage.listed(folder)}
    pending = {name.removesuffix(_PENDING) for name in names if name.endswith(_PENDING)}
    written = {name.removesuffix(_NOTE) for name in names} - pending
    for name in shard.standing():
        note = name.rpartition("-")[0]
        if note in pending or (note not in written and _is_torn(shard.file(name))):
            storage.remove(shard.file(name))
    # The pending note goes last: until then the next call finds the rest.
    for note in pending:
        storage.remove(storage.join(folder, note + _NOTE))
        storage.remove(storage.join(folder, note + _PENDING))


def _is_torn(file: str) -> bool:
    """Whether its end, which is written last, is missing."""
    try:
        with parquet.opened(file):
            return False
    except pa.ArrowInvalid:
        return True
