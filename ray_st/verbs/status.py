"""`ray-st status DIR`: how far a run is, from its folder alone, live or dead, here or in a bucket.

In: the folder that a verb left, or is writing. Out: lines, or one JSON object. Starts and joins no
Ray, and writes nothing. Next: `report.py`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from rich.console import Console

from ray_st.status.reading import read_run
from ray_st.status.wording import as_value, lines


@dataclass(frozen=True, kw_only=True)
class StatusVerb:
    """Say how far a run is."""

    run: str
    """Folder or bucket that a verb has as its --out; may be given without the flag."""
    json: bool = False
    """Print one JSON object."""


CONFIG = StatusVerb
POSITIONAL = "run"


def run(config: StatusVerb, console: Console) -> None:
    """Look once."""
    found, now_s = read_run(config.run), time.time()
    if config.json:
        console.out(json.dumps(as_value(found, now_s)), highlight=False)
        return
    for line in lines(found, now_s):
        console.out(line, highlight=False)
