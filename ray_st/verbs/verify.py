"""`ray-st verify DIR`: from the files alone, does every image stand exactly once?

In: a folder that `label` left, and what it should hold. Out: what is wrong, a line each, and status
1; or one line of counts. Starts no Ray. Next: `status.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
from rich.console import Console

from ray_st.data import storage
from ray_st.labeling.images import open_pool
from ray_st.labeling.store import Store
from ray_st.labeling.verify import findings


@dataclass(frozen=True, kw_only=True)
class VerifyVerb:
    """Check a labelled pool."""

    store: str
    """Folder that `ray-st label` left; may be given without the flag."""
    images: str | None = None
    """What it should hold, as `label --images` took it. None: only what its files say is checked,
    and a shard that was never begun is not missed."""


CONFIG = VerifyVerb
POSITIONAL = "store"


def run(config: VerifyVerb, console: Console) -> int:
    """Say what is wrong."""
    inside = storage.join(config.store, "raw")
    store = Store(inside if storage.is_folder(inside) else config.store)
    expected: Mapping[int, Iterable[pa.Table]] | None = None
    if config.images is not None:
        expected = {shard.number: shard.rows() for shard in open_pool(config.images).shards}
    wrong = findings(store, expected)
    stderr = Console(stderr=True)
    for each in wrong:
        stderr.out(f"ray-st verify: {each}", highlight=False)
    if not wrong:
        facts = [shard.facts or {} for shard in store.shards()]
        rows, failed = (sum(each[name] for each in facts) for name in ("rows", "failed"))
        console.out(
            f"verify     {rows} images, each once: {rows - failed} labelled, {failed} failures, in "
            f"{len(facts)} {'shard' if len(facts) == 1 else 'shards'}; {_against(config)}",
            highlight=False,
        )
    return 1 if wrong else 0


def _against(config: VerifyVerb) -> str:
    if config.images is None:
        return "pass --images to compare with the pool"
    return f"as in {config.images}"
