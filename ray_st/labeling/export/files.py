"""Text files that are written whole or not at all, whatever their size.

In: a path. Out: a stream. Next: `names.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """Open a file under another name; it gets its own once all of it stands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    with scratch.open("w", encoding="utf-8", newline="") as stream:
        yield stream
    scratch.replace(path)
