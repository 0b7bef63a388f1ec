"""The whole loop: teacher, labels, student, the same student on human labels only, sweep.

In: a recipe and the opened data. Out: a run folder with a stage a sub-folder, and summary.json.
A stage that has ended well is not run again. Next: `ray_st.planning`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from ray_st.cluster.placement import labeling_needs, most_at_once, require_fits, trial_needs
from ray_st.config import require
from ray_st.data import storage
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.live import LiveRows
from ray_st.labeling.policy import Holdout, PolicyConfig
from ray_st.labeling.teacher import SavedTeacher
from ray_st.models.initialise import Start
from ray_st.models.saved import read_model, versions
from ray_st.progress import Counter
from ray_st.selftraining.acceptance import read_chosen
from ray_st.selftraining.course import course_words
from ray_st.selftraining.folder import write_summary
from ray_st.selftraining.learning import Learning, training_job
from ray_st.selftraining.live import RECORD, beside_training, live_choice, live_stages
from ray_st.selftraining.materials import Materials, require_pool
from ray_st.selftraining.saying import headline, say, say_outcome, unread
from ray_st.selftraining.stages import (
    floor_fact,
    label_stage,
    labelled,
    pseudo_facts,
    require_labels,
    role_of,
    train_stage,
)
from ray_st.selftraining.sweep import SweepConfig, sweep_stage
from ray_st.selftraining.watching import watched
from ray_st.tasks.task import Task
from ray_st.training.job import Job
from ray_st.training.loop import PREDICTIONS

PSEUDO = "pseudo"  # the folder of the labels
OF_LABELS = ("pseudo", "thresholds", "policy", "score_floor", "speed")  # of the labelling's summary


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Which stages the loop has, and how they hang together."""

    teacher_steps: int | None = None
    """Optimiser steps of the teacher; by default train.steps."""
    student_start: Literal["teacher", "init"] = "teacher"
    """What the student, human_only and the sweep start from: the run's teacher, or as it did."""
    live: bool = False
    """Train the student while the teacher still labels, each on cores of its own: a round of steps
    learns from all that is labelled by then."""
    human_only: bool = True
    """Train the same student on human labels only too, for comparison."""

    def __post_init__(self) -> None:
        steps = self.teacher_steps
        require(steps is None or steps >= 1, "loop.teacher_steps", "at least 1", steps)


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One run of the loop in one folder; the sections are the recipe's."""

    learning: Learning
    label: LabelConfig
    policy: PolicyConfig
    sweep: SweepConfig
    loop: LoopConfig
    materials: Materials
    init: Start | None  # of the teacher; of the others too if loop.student_start says so
    recipe: dict[str, Any]
    out: Path
    console: Console

    def run(self, *, cpus: float, gpus: float) -> dict[str, Any]:
        """Run all stages on a cluster of this size; returns the summary."""
        needs = trial_needs(self.learning.train)  # the most that a stage holds
        require_fits(needs, cpus=cpus, gpus=gpus)
        require_fits(labeling_needs(self.label), cpus=cpus, gpus=gpus)
        label = self.label
        if self.loop.live:
            label = beside_training(label, self.learning.train, cpus=cpus, gpus=gpus)
        pq.write_table(self.materials.val.rows, self.out / "val.parquet")
        stages: dict[str, dict[str, Any]] = {"teacher": self._teacher()}
        saved = read_model(self.out / "teacher", "teacher")
        task = self.learning.make_task(len(saved.card.classes))
        teacher, start = SavedTeacher(saved=saved, task=task), self.init
        if self.loop.student_start == "teacher":
            start = Start.of_teacher(saved, str(self.out / "teacher"))
        if self.loop.live:
            stages["pseudo"], pseudo, stages["student"] = self._live(teacher, start, label)
        else:
            stages["pseudo"], pseudo = self._label(teacher)
        job = self._job(self.learning, pseudo, start)
        if not self.loop.live:
            stages["student"] = self._train("student", job)
        if self.loop.human_only:
            alone = self._job(self.learning, None, start)
            stages["human_only"] = self._train("human_only", alone)
        if self.sweep.alphas:
            stages["sweep"] = self._sweep(job, most_at_once(needs, cpus=cpus, gpus=gpus))
        summary = self._summary(stages)
        write_summary(self.out, summary)
        return summary

    def _teacher(self) -> dict[str, Any]:
        steps = self.loop.teacher_steps or self.learning.train.steps
        learning = replace(self.learning, train=self.learning.train.lasting(steps))
        return self._train("teacher", self._job(learning, None, self.init))

    def _labelling(
        self, teacher: SavedTeacher, config: LabelConfig, counter: Counter
    ) -> Callable[[], dict[str, Any]]:
        """What labels the pool; its result is the stage's summary."""
        return partial(
            label_stage,
            Images.of_rows(require_pool(self.materials)),
            teacher,
            storage.absolute(str(self.out / PSEUDO)),  # another process may stand elsewhere
            config,
            self.policy,
            counter,
            self._holdout(),
            facts=floor_fact(teacher.task.kind, self.learning.detect),
        )

    def _label(self, teacher: SavedTeacher) -> tuple[dict[str, Any], pa.Table]:
        """Label, then read what a student is to learn from."""
        totals = {"label": require_pool(self.materials).num_rows}
        with watched(totals, self.console, self.out) as counters:
            summary = self._labelling(teacher, self.label, counters["label"])()
        return self._labelled(summary, teacher.task)

    def _live(
        self, teacher: SavedTeacher, start: Start | None, label: LabelConfig
    ) -> tuple[dict[str, Any], pa.Table, dict[str, Any]]:
        """Label and train the student at once; what `_label` gives, and the student's summary."""
        train = self.learning.train
        totals = {"label": require_pool(self.materials).num_rows, "student": train.steps}
        with watched(totals, self.console, self.out) as counters:
            labels, student = live_stages(
                self._labelling(teacher, label, counters["label"]),
                lambda rows: train_stage(
                    self._job(self.learning, rows, start),
                    self.out / "student",
                    counters["student"],
                ),
                self.out / PSEUDO,
                live_choice(teacher, self.policy, self._holdout()),
                batch_size=train.num_pseudo,
                record=self.out / RECORD,
            )
        summary, pseudo = self._labelled(labels, teacher.task)
        return summary, pseudo, self._trained("student", student)

    def _labelled(self, summary: dict[str, Any], task: Task) -> tuple[dict[str, Any], pa.Table]:
        """Say what a labelling came to; its summary with all facts, and its pseudo labels."""
        out = str(self.out / PSEUDO)
        for warning in summary.get("warnings", ()):
            say("warning", warning, self.console)
        accepted = read_chosen(out)
        require_labels(accepted, out)
        human, truth = self.materials.human, self.materials.pool_truth
        facts = {**summary["pseudo"], **pseudo_facts(task, accepted, human, truth)}
        self._say("label", labelled(facts), summary["seconds"])
        summary = {**summary, "pseudo": facts}
        say_outcome(summary, self.console)
        return summary, accepted

    def _holdout(self) -> Holdout | None:
        """What the teacher found on the validation images: thresholds chosen on it spend it."""
        if self.policy.target_precision is None:
            return None
        predictions = pq.read_table(self.out / "teacher" / PREDICTIONS)
        return Holdout(truths=self.materials.val.rows, predictions=predictions)

    def _job(
        self, learning: Learning, pseudo: pa.Table | LiveRows | None, init: Start | None
    ) -> Job:
        return training_job(
            learning,
            human=self.materials.human,
            val=self.materials.val,
            pseudo=pseudo,
            joint=self.materials.joint,
            init=init,
            recipe=self.recipe,
        )

    def _train(self, name: str, job: Job) -> dict[str, Any]:
        with watched({name: job.train.steps}, self.console, self.out) as counters:
            summary = train_stage(job, self.out / name, counters[name])
        return self._trained(name, summary)

    def _trained(self, name: str, summary: dict[str, Any]) -> dict[str, Any]:
        """Say what a training came to; its summary."""
        metrics = summary[role_of(has_pseudo="student" in summary)]
        figures = headline(metrics, summary["figures"])
        result = f"{figures}{course_words(summary)}{unread(summary)}"
        self._say(name, result, summary["seconds"])
        return summary

    def _sweep(self, job: Job, at_once: int) -> dict[str, Any]:
        out = self.out / "sweep"
        summary = sweep_stage(job, self.sweep, out, at_once=at_once, console=self.console)
        shortly = ", ".join(
            f"{'alpha' if row['normalised'] else 'plain'} {row['alpha']:g}: "
            f"{headline(row, job.figures)}"
            for row in summary["sweep"]
        )
        self._say("sweep", shortly, summary["seconds"])
        return summary

    def _say(self, name: str, result: str, seconds: Mapping[str, float]) -> None:
        took = f"[dim]{sum(seconds.values()):.0f} s[/dim]"
        self.console.print(f"{name:<11}{result}  {took}", highlight=False)

    def _summary(self, stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
        # The stage `human_only` has learned from no pseudo label: its metrics stand as a teacher's.
        models = {"teacher": "teacher", "student": "student", "human_only": "teacher"}
        return {
            "verb": "run",
            **{name: stages[name][role] for name, role in models.items() if name in stages},
            **{name: stages["pseudo"][name] for name in OF_LABELS if name in stages["pseudo"]},
            "sweep": stages["sweep"]["sweep"] if "sweep" in stages else [],
            "seconds": {
                {"pseudo": "label"}.get(name, name): sum(stage["seconds"].values())
                for name, stage in stages.items()
            },
            "classes": list(self.materials.human.classes),
            "figures": stages["teacher"]["figures"],
            "findings": self.materials.findings,
            "versions": versions(),
        }
