"""Which verb left a folder without a recipe, by files that nothing else writes so.

In: a folder and the names of what lies there. Out: a verb's name. Next: `reading.py`.

A name alone says nothing: web pages have a manifest.json, photographers a folder `raw`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from ray_st.data import storage
from ray_st.data.manifest.manifest import MANIFEST
from ray_st.selftraining.record import SUMMARY
from ray_st.status.files import names_in, read_json
from ray_st.status.kinds import VERBS
from ray_st.status.values import count, items, section
from ray_st.training.restarts import RAY_FOLDER

DOCTOR, PLAN = "doctor.json", "plan.json"


def marked(uri: str, names: Collection[str]) -> str | None:
    """The verb whose files these are; None where none of them is ours."""
    found = (says(uri) for name, says in _MARKS.items() if name in names)
    return next((verb for verb in found if verb is not None), None)


def mark_in(names: Collection[str]) -> str | None:
    """The first name of a folder that one of ours could have."""
    return next((name for name in _MARKS if name in names), None)


def rows_of(manifest: Mapping[str, Any]) -> list[int] | None:
    """How many images each shard of an index has; None for what is no index."""
    if not manifest.keys() >= {"format", "source", "shard_rows", "file_rows", "shards"}:
        return None
    shards = manifest["shards"]
    rows = [count(section(each).get("rows")) for each in items(shards)]
    known = [each for each in rows if each is not None]
    return known if isinstance(shards, list) and len(known) == len(rows) else None


def _named(name: str) -> Callable[[str], str | None]:
    """A file that names its verb."""

    def says(uri: str) -> str | None:
        verb = read_json(storage.join(uri, name)).get("verb")
        return next((each for each in VERBS if each == verb), None)

    return says


def _index(uri: str) -> str | None:
    return None if rows_of(read_json(storage.join(uri, MANIFEST))) is None else "index"


def _labels(uri: str) -> str | None:
    card = read_json(storage.join(uri, "raw/store.json"))
    return "label" if card.keys() >= {"format", "teacher_sha256"} else None


def _model(uri: str) -> str | None:
    card = read_json(storage.join(uri, "model.json"))
    return "train" if card.keys() >= {"format", "task", "classes", "model"} else None


def _checkpoints(uri: str) -> str | None:
    return "train" if "train" in names_in(storage.join(uri, RAY_FOLDER)) else None


_MARKS: Final[dict[str, Callable[[str], str | None]]] = {
    SUMMARY: _named(SUMMARY),
    MANIFEST: _index,
    DOCTOR: _named(DOCTOR),
    PLAN: _named(PLAN),
    "raw": _labels,
    RAY_FOLDER: _checkpoints,
    "model.json": _model,
}
