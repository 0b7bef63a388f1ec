"""The log of a run, and all who listen: metrics.jsonl, the progress line, trackers.

In: what steps report, what evaluations found. Out: rows, of which a checkpoint keeps those so far.
Every worker has one and the first worker's is kept; the others' say nothing. Next: `divergence.py`.
"""

from __future__ import annotations

import time
from typing import Any

from ray_st.training.alarms import ringing
from ray_st.training.checkpoints import best_step
from ray_st.training.job import Job
from ray_st.training.restarts import Journal
from ray_st.training.step import StepReport
from ray_st.training.trackers.opening import Trackers
from ray_st.training.trail import Trail
from ray_st.training.validate import Evaluation


class Diary:
    """What a run has been through."""

    def __init__(
        self,
        job: Job,
        rows: list[dict[str, Any]],
        *,
        begun_at: int,
        journal: Journal | None = None,
        trackers: Trackers | None = None,
    ) -> None:
        """`rows`: what was logged in the steps before `begun_at`."""
        self._job, self.rows = job, rows
        self._journal, self._trackers = journal, trackers or Trackers()
        self._logged_step, self._logged_s, self._unreadable = begun_at, time.monotonic(), 0
        self._figure = ""  # the last evaluation's first figure, in words
        self._evaluation: tuple[int, Evaluation] | None = None  # the last one, and its step

    def trained(self, report: StepReport, trail: Trail) -> None:
        """Take in a step; a row every `train.log_every`, for which all workers must be there."""
        self._unreadable += report.unreadable
        if self._journal is not None:
            self._journal.move()
        config = self._job.train
        if report.step % config.log_every and report.step != config.steps:
            return
        now = time.monotonic()
        images = (report.step - self._logged_step) * self._job.images_a_step
        row = {
            **report.as_row(),
            "unreadable_images": self._unreadable,  # since the row before
            "images_per_s": images / (now - self._logged_s),
            "order": trail.joined(),
        }
        self._logged_step, self._logged_s, self._unreadable = report.step, now, 0
        self.rows.append(row)
        self._trackers.put(row)
        self._say(row)

    def _say(self, row: dict[str, Any]) -> None:
        if self._job.counter is not None:
            words = (f"loss {row['loss']:.3f}", self._figure, f"{row['images_per_s']:.0f} images/s")
            self._job.counter.put(row["step"], "  ".join(filter(None, words)))
            if worries := ringing(self.rows):
                self._job.counter.warn(worries)

    def evaluated(self, step: int, evaluation: Evaluation) -> None:
        """Take in an evaluation; a row of its own, where evaluations were asked for."""
        self._evaluation = (step, evaluation)
        self._logged_s += evaluation.seconds  # images_per_s is of training
        if self._job.train.evaluate_every is None or not evaluation.metrics:
            return
        row = {"step": step, "val": evaluation.metrics, "evaluation_s": evaluation.seconds}
        name = self._job.figures[0]
        value = evaluation.metrics[name]
        self._figure = "" if value is None else f"{name} {value:.1f}"
        if any(each["step"] == step and "val" in each for each in self.rows):
            return  # a run that goes on behind its last step finds what it found
        self.rows.append(row)
        self._trackers.put(row)

    def evaluation_at(self, step: int) -> Evaluation | None:
        """What was found at this step, if it is the last that was evaluated."""
        found = self._evaluation
        return found[1] if found is not None and found[0] == step else None

    def is_best(self, step: int) -> bool:
        """Whether the evaluation of this step is the best so far."""
        figures = self._job.figures
        return bool(figures) and best_step(self.rows, figures[0]) == step

    def flush(self) -> None:
        """See to it that everybody knows what a checkpoint is about to know."""
        self._trackers.flush()

    def closed(self) -> dict[str, float | None]:
        """The run has ended well; returns the last metrics."""
        if self._journal is not None:
            self._journal.move()
        self._trackers.close()
        return {} if self._evaluation is None else self._evaluation[1].metrics
