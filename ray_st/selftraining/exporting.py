"""Pseudo labels of a pool of any size, handed to a writer a part at a time.

In: the folder that `label` or `policy` left. Out: a folder in another tool's format, with its
summary.json. Next: `stages.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_st.config import as_dict
from ray_st.data import parquet, storage
from ray_st.data.labels import Labels
from ray_st.data.rows import kind_of
from ray_st.labeling.export.formats import Format, clear, writer
from ray_st.labeling.export.names import naming
from ray_st.labeling.policy import PolicyConfig, choose
from ray_st.labeling.policy.kinds import ROWS_AT_ONCE
from ray_st.labeling.pool import raw_parts
from ray_st.models.saved import versions
from ray_st.selftraining.acceptance import (
    LABELS,
    open_labelled,
    open_store,
    require_chosen_by,
    require_holdout_used,
)
from ray_st.selftraining.folder import write_summary

Chosen = tuple[Iterator[pa.Table], list[str]]
"""LABEL_ROWs of pseudo labels, and what the policy could not do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AcceptedPool:
    """Pseudo labels that pass by in parts."""

    kind: type[Labels]
    summary: Mapping[str, Any]  # of `label` or `policy`
    origin: Mapping[str, Any]  # whose labels they are
    columns: Callable[[Sequence[str]], Iterator[pa.Table]]  # some columns of all images
    chosen: Callable[[], Chosen]

    def uris(self) -> Iterator[pa.ChunkedArray]:
        """Where the images lie."""
        return (part["uri"] for part in self.columns(["uri"]))


def open_accepted(uri: str, policy: PolicyConfig) -> AcceptedPool:
    """Open what `label` left, under `policy`, or what `policy` left, as it is."""
    summary = open_labelled(uri)
    if summary["verb"] == "policy":
        require_chosen_by(policy, uri, summary)
        file = storage.join(uri, LABELS)
        with parquet.opened(file) as opened:
            kind = kind_of(opened.schema_arrow)
        assert kind is not None, "`policy` writes labels of some kind"
        read = partial(_file_parts, file)
        return AcceptedPool(
            kind=kind,
            summary=summary,
            origin={name: summary[name] for name in ("store", "teacher_sha256", "policy")},
            columns=read,
            chosen=lambda: (read(), list(summary["warnings"])),
        )
    require_holdout_used(policy)
    store = open_store(uri, policy)

    def chosen() -> Chosen:
        raw = partial(raw_parts, store.folder)
        choice = choose(raw, store.kind, policy, summary["classes"], store.holdout)
        return map(choice.accepted, raw()), choice.warnings

    teacher = {"teacher_sha256": summary["teacher_sha256"], "policy": as_dict(policy)}
    return AcceptedPool(
        kind=store.kind,
        summary=summary,
        origin={"store": store.folder, **teacher},
        columns=partial(raw_parts, store.folder),
        chosen=chosen,
    )


def _file_parts(file: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    with parquet.opened(file) as opened:
        for batch in opened.iter_batches(ROWS_AT_ONCE, columns=columns):
            yield pa.Table.from_batches([batch])


def export_stage(pool: AcceptedPool, name: Format, prefix: str, out: Path) -> dict[str, Any]:
    """Write all pseudo labels in a format; images are named below `prefix`.

    A few thousand images are in memory at once. What an export that broke off left is removed.
    """
    begun = time.monotonic()
    clear(out)
    classes = pool.summary["classes"]
    write = writer(name, pool.kind, classes)
    rows, warnings = pool.chosen()
    with naming(prefix, out) as names:
        counts = write(rows, classes, names, out)
    if name == "yolo" and (regions := counts["crowd_regions"]):
        warnings.append(
            f"{regions} regions that are neither label nor background have no form in yolo and "
            "count as background there"
        )
    what = ("boxes", "crowd_regions") if pool.kind.AMOUNT == "boxes_per_image" else ()
    summary = {
        "verb": "export",
        "format": name,
        "exported": {
            **{each: counts[each] for each in ("images", *what, "empty")},
            "named_by_id": names.by_ids,
            "failures": pool.summary["pseudo"]["failures"],  # not exported
        },
        "warnings": warnings,
        "images_root": prefix,
        "classes": classes,
        "labels": dict(pool.origin),
        "seconds": {"export": time.monotonic() - begun},
        "versions": versions(),
    }
    write_summary(out, summary)
    return summary
