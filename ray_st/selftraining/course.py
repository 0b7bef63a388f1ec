"""How a training went, besides how good its model is.

In: the folder or bucket that `fit` left, and its log. Out: how often its gang was started and what
that cost, the best model of those that were evaluated, and words for both. Next: `materials.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray_st.training.checkpoints import best_step
from ray_st.training.job import Job
from ray_st.training.restarts import Journal, lost_s


def course_of(job: Job, out: str, log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Facts for a summary: `starts`, `restart_s`; `best`, where the model was evaluated on the way.

    `restart_s` goes from each checkpoint that was gone on from to the first step behind it.
    """
    noted = Journal.opened(out).starts
    facts = {"starts": max(1, len(noted)), "restart_s": lost_s(noted)}
    if job.train.evaluate_every is None or not job.figures:
        return facts
    step = best_step(log, job.figures[0])
    found = [row["val"] for row in log if "val" in row and row["step"] == step]
    return {**facts, "best": {"step": step, **found[0]}} if found else facts


def course_words(summary: Mapping[str, Any]) -> str:
    """What of it a person wants to know: nothing of a run that was started once, and never left."""
    words = ""
    best, figures = summary.get("best"), summary.get("figures")
    if best and figures:
        words += f"  best {figures[0]} {best[figures[0]]:.1f} at step {best['step']}"
    if summary.get("starts", 1) > 1:
        words += f"  {summary['starts']} starts, {summary['restart_s']:.0f} s lost"
    return words
