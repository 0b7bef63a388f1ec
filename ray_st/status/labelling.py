"""How far a labelling is: shards that are whole, and the files of those that are not.

In: the folder that a labelling writes to. Out: a `Stage`. Of a whole shard one small file is read,
of one that is being labelled the ends of its files and which of their images failed. Next:
`kinds.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from ray_st.config import UserError, require
from ray_st.data import parquet, storage
from ray_st.labeling.concerns import concerns
from ray_st.labeling.recovery import complete
from ray_st.labeling.rows import FAILED
from ray_st.labeling.store import SHARD, Shard, Store
from ray_st.selftraining.record import SUMMARY, left_whole
from ray_st.status.files import at_once, changed_at_s, names_in
from ray_st.status.state import Stage
from ray_st.status.training import figure
from ray_st.status.values import count, number, section, texts


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What stands in a shard."""

    rows: int
    failed: int
    is_whole: bool
    at_s: float | None  # of its newest file


def labelling_stage(
    folder: str, name: str, total: int | None, noted: Mapping[str, Any] | None
) -> Stage:
    """What stands in a labelling's folder; `noted` is of this stage, None where there is none."""
    names, known = names_in(folder), dict(noted or {})
    summary = left_whole(storage.join(folder, SUMMARY)) if SUMMARY in names else None
    if summary is not None:
        return _ended(storage.join(folder, SUMMARY), summary, name, names)
    has_raw = "raw" in names and names["raw"].type == fs.FileType.Directory
    shards = Store(storage.join(folder, "raw")).begun() if has_raw else []
    written = at_once(_written, shards)
    whole = sum(each.is_whole for each in written)
    moved = [number(known.get("moved_at_s")), *(each.at_s for each in written)]
    return Stage(
        name=name,
        unit="images",
        done=max(sum(each.rows for each in written), count(known.get("done")) or 0),
        total=count(known.get("total")) or total,
        # Files are behind what is told, and what is told begins anew with each start.
        failed=max(sum(each.failed for each in written), count(known.get("failed")) or 0),
        per_s=number(known.get("per_s")) or None,
        left_s=number(known.get("left_s")),
        note=f"shards: {whole} whole, {len(shards) - whole} begun" if shards else "",
        warnings=tuple(texts(known.get("warnings"))),
        moved_at_s=max((each for each in moved if each), default=None),
        begun=bool(names or known),
    )


def _ended(path: str, summary: Mapping[str, Any], name: str, names: Mapping[str, Any]) -> Stage:
    facts = section(summary.get("pseudo"))
    failed = count(facts.get("failures", summary.get("failures")))
    labelled = count(facts.get("images", summary.get("images")))  # of an eval: all of them
    done = labelled
    if facts and labelled is not None and failed is not None:
        done = labelled + failed
    return Stage(
        name=name,
        unit="images",
        done=done,
        total=done,
        failed=failed,
        per_s=number(section(summary.get("speed")).get("images_per_s")),
        note=figure(summary),
        warnings=(*texts(summary.get("warnings")), *_concerns(path, summary)),
        moved_at_s=changed_at_s(names[SUMMARY]),
        begun=True,
        ended=True,
    )


def _concerns(path: str, summary: Mapping[str, Any]) -> list[str]:
    """What would worry us; its figures are of many forms, and any of them may have been changed."""
    try:
        return concerns(summary)
    except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError) as error:
        raise UserError(
            f"{path}: must be as its verb left it, got other values ({error}); remove it and run "
            "its verb again"
        ) from error


def _written(shard: Shard) -> _Written:
    names = names_in(shard.folder)
    at_s = max((changed_at_s(info) or 0.0 for info in names.values()), default=None)
    facts = left_whole(shard.file(SHARD)) if SHARD in names else None
    if facts is not None:
        rows, failed = count(facts.get("rows")), count(facts.get("failed"))
        move = "remove it and run its verb again"
        require(rows is not None, f"{shard.file(SHARD)}: rows", "a count", facts.get("rows"), move)
        return _Written(rows=rows or 0, failed=failed or 0, is_whole=True, at_s=at_s)
    counts = at_once(_counted, [shard.file(name) for name in complete(shard)])
    rows, failed = (sum(each[i] for each in counts) for i in (0, 1))
    return _Written(rows=rows, failed=failed, is_whole=False, at_s=at_s)


def _counted(file: str) -> tuple[int, int]:
    """Rows and failures of a file; none of one that is gone by now."""
    try:
        status = parquet.read(file, ["status"])["status"]
    except (OSError, pa.ArrowInvalid):
        return 0, 0
    return len(status), int(pc.sum(pc.equal(status, FAILED)).as_py() or 0)
