"""Prove from the files alone that every image stands exactly once, as labels or as a failure.

In: a `Store`, and what it should hold. Out: what is wrong, in words; nothing where all is well.
Next: `pace.py`. One shard's ids and names are held at a time.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from ray_st.config import some_of
from ray_st.data import parquet, storage
from ray_st.data.rows import IMAGE_ROW, kind_of
from ray_st.labeling.identity import of_other_files
from ray_st.labeling.rows import FAILED, OK, store_row
from ray_st.labeling.store import FORMAT, Shard, Store

_MOST_NAMED = 5  # ids of a kind, in one finding


def findings(store: Store, expected: Mapping[int, Iterable[pa.Table]] | None = None) -> list[str]:
    """Say what is wrong with a store; `expected` are the IMAGE_ROWs of each shard, where known."""
    card = store.card
    found = []
    if card.get("format") != FORMAT:
        found.append(f"store.json: is of format {card.get('format')}, not {FORMAT}")
    standing = {shard.number: shard for shard in store.begun()}
    wanted = {} if expected is None else dict(expected)
    for number in sorted({*standing, *wanted}):
        shard = standing.get(number)
        if shard is None or shard.facts is None:
            found.append(f"shard {number}: is not finished; run the same `label` again")
            continue
        if expected is not None and number not in wanted:
            found.append(f"shard {number}: is not of this manifest")
        rows = wanted.get(number)
        found += [f"shard {number}: {what}" for what in _wrong(shard, card, rows)]
    if not found:  # else a file may not be readable, and the ids have been complained of
        found += _overlaps([standing[number] for number in sorted(standing)])
    return found


def _wrong(
    shard: Shard, card: Mapping[str, object], expected: Iterable[pa.Table] | None
) -> Iterator[str]:
    """What is wrong with a published shard."""
    facts = shard.facts
    assert facts is not None
    stray = set(shard.standing())
    columns = IMAGE_ROW.names if expected is not None else ["image_id"]  # names only to compare
    parts = [IMAGE_ROW.empty_table().select(columns)]
    for entry in facts["files"]:
        stray.discard(entry["name"])
        file = shard.file(entry["name"])
        try:
            table = _read(file, entry)
        except (OSError, ValueError, pa.ArrowException) as error:
            yield f"{entry['name']}: {' '.join(str(error).split())}"
            continue
        yield from (f"{entry['name']}: {what}" for what in _wrong_rows(table, card))
        parts.append(table.select(columns))
    if stray:
        yield f"holds files that do not belong to it ({', '.join(sorted(stray)[:_MOST_NAMED])})"
    rows = pa.concat_tables(parts, promote_options="permissive")
    ids = np.sort(np.asarray(rows["image_id"]))
    yield from _named("stand more than once", np.unique(ids[1:][ids[1:] == ids[:-1]]))
    if expected is not None:
        listed = pa.concat_tables([IMAGE_ROW.empty_table(), *expected])
        wanted = np.asarray(listed["image_id"])
        yield from _named("are missing", np.setdiff1d(wanted, ids))
        yield from _named("are not of the manifest", np.setdiff1d(ids, wanted))
        yield from _named("are of other files than listed", of_other_files(rows, listed))


def _read(file: str, entry: Mapping[str, int]) -> pa.Table:
    """Read a whole file, its checksums compared. Raises ValueError for another size or count."""
    filesystem, path = storage.locate(file)
    size = filesystem.get_file_info(path).size
    if size != entry["bytes"]:
        has = "is gone" if size is None else f"has {size} bytes, {entry['bytes']} were written"
        raise ValueError(has)
    table = parquet.read(file)
    if table.num_rows != entry["rows"]:
        raise ValueError(f"has {table.num_rows} rows, {entry['rows']} were written")
    return table


def _wrong_rows(table: pa.Table, card: Mapping[str, object]) -> Iterator[str]:
    schema = store_row(kind_of(table.schema), exact=card.get("scores") == "float32")
    if not table.schema.equals(schema):
        yield "has other columns than this version's"
        return
    version = b"ray_st.schema_version"
    if (table.schema.metadata or {}).get(version) != (schema.metadata or {})[version]:
        yield "is of another schema version"
    teacher = (table.schema.metadata or {}).get(b"ray_st.teacher_sha256", b"").decode()
    if teacher != card["teacher_sha256"]:
        yield f"was labelled by another teacher ({teacher[:12] or 'unnamed'})"
    views = json.loads((table.schema.metadata or {}).get(b"ray_st.views", b"null"))
    if views != card.get("views"):
        yield f"was labelled from other views ({views or 'unnamed'})"
    statuses = set(table["status"].unique().to_pylist())
    if not statuses <= {OK, FAILED}:
        yield f"has rows of status {sorted(map(str, statuses - {OK, FAILED}))}"
    failures = table.filter(pa.compute.equal(table["status"], FAILED))
    if failures["stage"].null_count or failures["reason"].null_count:
        yield "has failures without stage or reason"


def _overlaps(shards: list[Shard]) -> Iterator[str]:
    """Ids that stand in two shards. Shards of a manifest have ranges of their own: a cheap look."""
    ranges = []
    for shard in shards:
        ids = shard.ids()
        if len(ids):
            ranges.append((int(ids.min()), int(ids.max()), shard))
    ranges.sort(key=lambda each: each[:2])
    for (_, last, one), (first, _, other) in itertools.pairwise(ranges):
        if first <= last:
            shared = np.intersect1d(one.ids(), other.ids())
            between = f"stand in {one.name} and in {other.name}"
            yield from _named(between, shared)


def _named(what: str, ids: np.ndarray) -> Iterator[str]:
    if len(ids):
        count = f"{len(ids)} {'image' if len(ids) == 1 else 'images'}"
        yield f"{count} {what}: {some_of(ids.tolist(), _MOST_NAMED)}"
