"""How far a run is, in words for people, and as one object for machines.

In: `Run`. Out: lines; a value for JSON. Next: `ray_st.verbs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ray_st.standing import duration
from ray_st.status.state import Run, Stage

_AGAIN = "the same command goes on from there"


def lines(run: Run, now_s: float) -> Iterator[str]:
    """What `ray-st status` prints."""
    yield f"{'run':<11}{run.uri} ({run.verb})"
    yield f"{'state':<11}{_state(run, now_s)}"
    for stage in run.stages:
        yield f"{stage.name:<11}{_stage(stage, now_s)}"
    for stage in run.stages:
        for line in stage.warnings:
            yield f"{'warning':<11}{stage.name}: {line}"


def as_value(run: Run, now_s: float) -> dict[str, Any]:
    """The same for machines; times are seconds of the epoch, null is what cannot be known."""
    stages = [asdict(stage) for stage in run.stages]
    for stage in stages:
        del stage["begun"], stage["ended"]
    return {
        "run": run.uri,
        "verb": run.verb,
        "state": run.state,
        "holder": run.holder,
        "at_s": now_s,
        "moved_at_s": run.moved_at_s,
        "stages": stages,
    }


def _state(run: Run, now_s: float) -> str:
    words: str = run.state
    if run.holder is not None:
        words += f", {run.holder} works on it"
    elif run.state == "stopped":
        words += f", nobody works on it; {_AGAIN}"
    if run.moved_at_s is not None:
        what = "ended" if run.state == "done" else "last moved"
        words += f"; {what} {_ago(run.moved_at_s, now_s)}"
    return words


def _stage(stage: Stage, now_s: float) -> str:
    words = [f"{stage.state:<8}"]
    if stage.total is not None and stage.done is not None:
        of = f" / {stage.total:,}" if stage.state != "done" else ""
        words.append(f"{stage.done:,}{of} {stage.unit}")
    elif stage.done:
        words.append(f"{stage.done:,} {stage.unit}")
    if stage.per_s:
        words.append(f"{stage.per_s:,.1f}/s")
    if stage.left_s is not None:
        words.append(f"{duration(stage.left_s)} left")
    if stage.failed:
        words.append(f"{stage.failed:,} failed")
    if stage.note and stage.state != "waiting":
        words.append(stage.note)
    if stage.checkpoint is not None:
        saved = _ago(stage.checkpoint.saved_at_s, now_s)
        words.append(f"checkpoint of step {stage.checkpoint.step:,}, {saved}")
    return "  ".join(words)


def _ago(then_s: float, now_s: float) -> str:
    return f"{duration(max(0.0, now_s - then_s))} ago"
