"""Work under the eyes of all: bars or lines for who asked, a small file for who comes by.

In: how much there is to do, a console, a run's folder. Out: counters to hand out. Next:
`folder.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from ray_st.progress import Counter, shown
from ray_st.selftraining.record import Record


@contextmanager
def watched(
    totals: dict[str, int], console: Console, out: str | Path
) -> Iterator[dict[str, Counter]]:
    """Show and note how far each name is while the block runs; give it the counters."""
    record = Record(str(out), totals)
    with shown(totals, console, tell=record.take) as counters:
        yield counters
    record.end()
