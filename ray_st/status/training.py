"""How far a training is: its last checkpoint, and what its driver noted.

In: the folder of a training. Out: a `Stage`. Next: `labelling.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_st.data import storage
from ray_st.selftraining.record import SUMMARY
from ray_st.status.files import changed_at_s, names_in, read_json, read_lines
from ray_st.status.state import Checkpoint, Stage
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
    if SUMMARY in names:
        return _ended(folder, name, total, names)
    place, checkpoint = _last_checkpoint(folder)
    rows = read_lines(storage.join(place, LOG)) if place else []
    done = checkpoint.step if checkpoint else 0
    known = dict(noted or {})
    moved = [known.get("moved_at_s"), checkpoint.saved_at_s if checkpoint else None]
    warnings = [*known.get("warnings", ()), *ringing(rows).values()]
    return Stage(
        name=name,
        unit="steps",
        done=max(done, int(known.get("done") or 0)),
        total=known.get("total") or total,
        per_s=known.get("per_s") or None,
        left_s=known.get("left_s"),
        note=str(known.get("note") or _loss(rows)),
        checkpoint=checkpoint,
        warnings=tuple(dict.fromkeys(warnings)),
        moved_at_s=max((each for each in moved if each), default=None),
        begun=bool(names or known),
    )


def _ended(folder: str, name: str, total: int | None, names: Mapping[str, Any]) -> Stage:
    summary = read_json(storage.join(folder, SUMMARY))
    steps = summary.get("steps") or total
    return Stage(
        name=name,
        unit="steps",
        done=steps,
        total=steps,
        note=figure(summary),
        warnings=tuple(summary.get("warnings") or ()),
        moved_at_s=changed_at_s(names[SUMMARY]),
        begun=True,
        ended=True,
    )


def _last_checkpoint(folder: str) -> tuple[str | None, Checkpoint | None]:
    """Where it lies, and what it is."""
    runs = storage.join(folder, _RUNS)
    kept = read_json(storage.join(runs, _KEPT)).get("latest_checkpoint_result") or {}
    name, step = kept.get("checkpoint_dir_name"), (kept.get("metrics") or {}).get("step")
    if not isinstance(name, str) or not isinstance(step, int):
        return None, None
    place = storage.join(runs, name)
    saved = read_json(storage.join(place, _METADATA)).get(SAVED_AT_S)
    at_s = saved or changed_at_s(names_in(runs).get(_KEPT)) or 0.0
    return place, Checkpoint(step=step, saved_at_s=at_s)


def _loss(rows: Sequence[Mapping[str, Any]]) -> str:
    losses = [row["loss"] for row in rows if isinstance(row.get("loss"), float)]
    return f"loss {losses[-1]:.3f}" if losses else ""


def figure(summary: Mapping[str, Any]) -> str:
    """The figure that ranks a model, of a summary that has one."""
    name = next(iter(summary.get("figures") or ()), None)
    roles = (summary.get(role) for role in ("student", "teacher", "model"))
    found = next((each for each in roles if isinstance(each, dict)), {})
    value = found.get(name)
    return f"{name} {value:.1f}" if isinstance(value, float) else ""
