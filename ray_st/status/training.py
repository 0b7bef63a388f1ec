"""How far a training is: its last checkpoint, and what its driver noted.

In: the folder of a training. Out: a `Stage`. Next: `labelling.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_st.data import storage
from ray_st.selftraining.record import SUMMARY, left_whole
from ray_st.status.files import changed_at_s, names_in, read_json, read_lines
from ray_st.status.state import Checkpoint, Stage
from ray_st.status.values import count, number, section, texts
from ray_st.training.alarms import ringing
from ray_st.training.restarts import LOG, RAY_FOLDER, SAVED_AT_S

_RUNS = f"{RAY_FOLDER}/train"  # the only run of a folder
_KEPT = "checkpoint_manager_snapshot.json"  # Ray Train's own list of checkpoints
_METADATA = ".metadata.json"


def training_stage(
    folder: str, name: str, total: int | None, noted: Mapping[str, Any] | None
) -> Stage:
    """What stands in a training's folder; `noted` is of this stage, None where nobody noted any."""
    names = names_in(folder)
    summary = left_whole(storage.join(folder, SUMMARY)) if SUMMARY in names else None
    if summary is not None:
        return _ended(summary, name, total, names)
    place, checkpoint = _last_checkpoint(folder)
    rows = read_lines(storage.join(place, LOG)) if place else []
    rows = [row for row in rows if row.get("ratio") is None or number(row["ratio"])]
    done = checkpoint.step if checkpoint else 0
    known = dict(noted or {})
    moved = [number(known.get("moved_at_s")), checkpoint.saved_at_s if checkpoint else None]
    warnings = [*texts(known.get("warnings")), *ringing(rows).values()]
    return Stage(
        name=name,
        unit="steps",
        done=max(done, count(known.get("done")) or 0),
        total=count(known.get("total")) or total,
        per_s=number(known.get("per_s")) or None,
        left_s=number(known.get("left_s")),
        note=str(known.get("note") or _loss(rows)),
        checkpoint=checkpoint,
        warnings=tuple(dict.fromkeys(warnings)),
        moved_at_s=max((each for each in moved if each), default=None),
        begun=bool(names or known),
    )


def _ended(
    summary: Mapping[str, Any], name: str, total: int | None, names: Mapping[str, Any]
) -> Stage:
    steps = count(summary.get("steps")) or total
    return Stage(
        name=name,
        unit="steps",
        done=steps,
        total=steps,
        note=figure(summary),
        warnings=tuple(texts(summary.get("warnings"))),
        moved_at_s=changed_at_s(names[SUMMARY]),
        begun=True,
        ended=True,
    )


def _last_checkpoint(folder: str) -> tuple[str | None, Checkpoint | None]:
    """Where it lies, and what it is."""
    runs = storage.join(folder, _RUNS)
    kept = section(read_json(storage.join(runs, _KEPT)).get("latest_checkpoint_result"))
    name, step = kept.get("checkpoint_dir_name"), count(section(kept.get("metrics")).get("step"))
    if not isinstance(name, str) or step is None:
        return None, None
    place = storage.join(runs, name)
    saved = number(read_json(storage.join(place, _METADATA)).get(SAVED_AT_S))
    at_s = saved or changed_at_s(names_in(runs).get(_KEPT)) or 0.0
    return place, Checkpoint(step=step, saved_at_s=at_s)


def _loss(rows: Sequence[Mapping[str, Any]]) -> str:
    losses = [row["loss"] for row in rows if isinstance(row.get("loss"), float)]
    return f"loss {losses[-1]:.3f}" if losses else ""


def figure(summary: Mapping[str, Any]) -> str:
    """The figure that ranks a model, of a summary that has one."""
    name = next(iter(texts(summary.get("figures"))), "")
    roles = (summary.get(role) for role in ("student", "teacher", "model"))
    found = next((each for each in roles if isinstance(each, dict)), {})
    value = found.get(name)
    return f"{name} {value:.1f}" if isinstance(value, float) else ""
