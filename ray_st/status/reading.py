"""A run's folder as a whole: which verb, its stages, who works on it.

In: a folder or bucket. Out: `Run`; `UserError` for a folder that is of no run. Next: `wording.py`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from pyarrow import fs

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.manifest.manifest import MANIFEST
from ray_st.selftraining.lease import holder
from ray_st.selftraining.record import SUMMARY, left_whole
from ray_st.status.files import (
    Noted,
    at_once,
    changed_at_s,
    names_in,
    read_json,
    read_noted,
    read_recipe,
)
from ray_st.status.kinds import Plan, is_part, part_of, plans, verb_of
from ray_st.status.labelling import labelling_stage
from ray_st.status.marks import DOCTOR, PLAN, mark_in, marked, rows_of
from ray_st.status.state import Run, Stage, State
from ray_st.status.training import training_stage
from ray_st.status.values import texts

_REMAINS = (DOCTOR, PLAN, MANIFEST, SUMMARY)  # what verbs without stages leave, when they are done


def read_run(uri: str) -> Run:
    """Say how far the run in a folder is. Raises `UserError` where there is none."""
    uri = storage.absolute(uri)
    names, recipe = names_in(uri), read_recipe(uri)
    place, verb = uri, verb_of(recipe)
    stages = plans(verb, recipe) if verb is not None else []
    if verb is None and (part := _part(uri)) is not None:  # of a run, which notes and holds for it
        place, verb, plan = part
        stages = [replace(plan, folder="")]
    elif verb is None:
        verb = _by_marks(uri, names)
        stages = plans(verb, {})
    # A damaged one is refused, as by the verb itself.
    has_ended = SUMMARY in names and left_whole(storage.join(uri, SUMMARY)) is not None
    by = holder(place)
    see = partial(_seen, uri, names, read_noted(place))
    found = [_judged(stage, held=by is not None) for stage in at_once(see, stages)]
    state = _whole(found, held=by is not None)
    if has_ended and verb in ("run", "demo") and by is None:
        state = "done"
    if place != uri:  # its run may be at work elsewhere
        state = found[0].state
        by = by if state == "running" else None
    return Run(uri=uri, verb=verb, state=state, holder=by, stages=tuple(found))


def _part(uri: str) -> tuple[str, str, Plan] | None:
    """The run's folder, the verb and the plan of the stage that this is; None for no stage."""
    body, options = storage.split_options(uri)
    body, name = posixpath.split(body.rstrip("/"))
    if not is_part(name):
        return None
    run = body + options
    part = part_of(read_recipe(run), name)
    return None if part is None else (run, *part)


def _by_marks(uri: str, names: Mapping[str, fs.FileInfo]) -> str:
    verb = marked(uri, names)
    if verb is not None:
        return verb
    got = "none of its files" if names else "nothing there"
    if name := mark_in(names):
        got = f"a {name} of something else, or a damaged one"
    raise UserError(
        f"run: {uri} must be a folder that a verb of ray-st left, got {got}; pass what its --out "
        "was"
    )


def _seen(uri: str, names: Mapping[str, fs.FileInfo], noted: Noted, plan: Plan) -> Stage:
    folder = storage.join(uri, plan.folder) if plan.folder else uri
    known = noted.get(plan.name)
    if plan.kind == "training":
        return training_stage(folder, plan.name, plan.total, known)
    if plan.kind == "labelling":
        return labelling_stage(folder, plan.name, plan.total, known)
    if plan.kind == "sweep":
        return _sweep(folder, plan)
    left = [names[name] for name in _REMAINS if name in names]
    images, ended = None, bool(left)
    if MANIFEST in names:
        rows = rows_of(read_json(storage.join(uri, MANIFEST))) or []
        images, ended = sum(rows), bool(rows)
    moved = max((changed_at_s(info) or 0.0 for info in left or names.values()), default=None)
    return Stage(
        name=plan.name,
        unit="images",
        done=images,
        total=images,
        moved_at_s=moved,
        begun=True,
        ended=ended,
    )


def _sweep(folder: str, plan: Plan) -> Stage:
    """The trials of a sweep as one stage."""
    names, noted = names_in(folder), read_noted(folder)
    summary = left_whole(storage.join(folder, SUMMARY)) if SUMMARY in names else None
    trials = [name for name in names if name.startswith(("alpha_", "plain_"))]

    def trial(name: str) -> Stage:
        return training_stage(storage.join(folder, name), name, None, noted.get(name))

    found = at_once(trial, [*{**dict.fromkeys(trials), **noted}])
    moved = [each.moved_at_s for each in found if each.moved_at_s]
    rates = [each.per_s or 0.0 for each in found]
    total = plan.total or sum(each.total or 0 for each in found) or None
    done = sum(each.done or 0 for each in found)
    left = (total - done) / sum(rates) if total and sum(rates) else None
    warnings = [f"{each.name}: {line}" for each in found for line in each.warnings]
    ended = summary is not None
    if summary is not None:
        warnings = texts(summary.get("warnings"))
        moved = [changed_at_s(names[SUMMARY]) or 0.0]
    return Stage(
        name=plan.name,
        unit="steps",
        done=total if ended else done,
        total=total,
        per_s=None if ended else sum(rates) or None,
        left_s=None if ended else left,
        note=f"trials: {len(found)}" if found else "",
        warnings=tuple(warnings),
        moved_at_s=max(moved, default=None),
        begun=bool(names or noted),
        ended=ended,
    )


def _judged(stage: Stage, *, held: bool) -> Stage:
    """Say what is up with a stage; a rate of who is dead is none."""
    if stage.ended:
        return replace(stage, state="done")
    state: State = "waiting" if not stage.begun else "running" if held else "stopped"
    if state != "running":
        stage = replace(stage, per_s=None, left_s=None)
    return replace(stage, state=state)


def _whole(stages: list[Stage], *, held: bool) -> State:
    if all(stage.state == "done" for stage in stages):
        return "done"
    if held:
        return "running"
    return "stopped" if any(stage.begun for stage in stages) else "waiting"
