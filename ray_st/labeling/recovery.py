"""What is half written in a shard, by a process that died or a write that failed, is removed.

In: a `Shard`, between two executions. Out: all that stands in it is complete, and is recorded if it
is Ray's; or, while one goes on, which files are. Next: `looks.py`.

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
    folder, (written, pending) = notes(shard), _noted(shard)
    for name in shard.standing():
        note = name.rpartition("-")[0]
        if note in pending or (note not in written and _is_torn(shard.file(name))):
            storage.remove(shard.file(name))
    # The pending note goes last: until then the next call finds the rest.
    for note in pending:
        storage.remove(storage.join(folder, note + _NOTE))
        storage.remove(storage.join(folder, note + _PENDING))


def complete(shard: Shard) -> list[str]:
    """Names of the files that nobody will write to or remove, while a shard is being labelled."""
    if (facts := shard.facts) is not None:
        return [str(entry["name"]) for entry in facts["files"]]
    written, _ = _noted(shard)
    return [name for name in shard.standing() if name.rpartition("-")[0] in written]


def _noted(shard: Shard) -> tuple[set[str], set[str]]:
    """What Ray notes as written, and as being written; the beginnings of the files' names."""
    names = {str(info.base_name) for info in storage.listed(notes(shard))}
    pending = {name.removesuffix(_PENDING) for name in names if name.endswith(_PENDING)}
    return {name.removesuffix(_NOTE) for name in names} - pending, pending


def _is_torn(file: str) -> bool:
    """Whether its end, which is written last, is missing."""
    try:
        with parquet.opened(file):
            return False
    except pa.ArrowInvalid:
        return True
