"""The two things that every run is made of: train a model, label a pool.

In: opened data and sections of a recipe. Out: a stage's folder with its summary.json, the same that
the verbs `train` and `label` leave. Next: `saying.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ray_st.config import UserError, as_dict
from ray_st.data import parquet, storage
from ray_st.data.labels import Detections, Labels
from ray_st.data.rows import kind_of
from ray_st.data.sources import LabeledSet
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.policy import Holdout, PolicyConfig, human_fact
from ray_st.labeling.pool import FAILURES, label, raw_kind
from ray_st.labeling.stored import StoredRows
from ray_st.labeling.teacher import TeacherSource
from ray_st.models.saved import versions
from ray_st.progress import Counter
from ray_st.selftraining.acceptance import (
    accepted,
    open_labelled,
    read_accepted,
    read_holdout,
    require_holdout_used,
    write_chosen,
)
from ray_st.selftraining.course import course_of
from ray_st.selftraining.folder import finished, write_summary
from ray_st.tasks.detection import DetectConfig
from ray_st.tasks.task import Task
from ray_st.training.alarms import alarms
from ray_st.training.checkpoints import load_log
from ray_st.training.job import Job
from ray_st.training.loop import PREDICTIONS, fit

_Judge = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def train_stage(
    job: Job,
    out: str | Path,
    counter: Counter | None,
    facts: Mapping[str, Any] | None = None,
    judge: _Judge | None = None,
) -> dict[str, Any]:
    """Train a model into its folder or bucket, unless it stands there; returns its summary.

    `facts` stand in the summary too, and so does what `judge` makes of it.
    """
    if (summary := finished(out)) is not None:
        return summary
    out = str(out)
    storage.make_folder(out)
    begun = time.monotonic()
    metrics = fit(replace(job, counter=counter), out)
    log = load_log(out)
    summary = {
        "verb": "train",
        role_of(has_pseudo=job.pseudo is not None): metrics,
        **(facts or {}),
        "classes": list(job.classes),
        "figures": list(job.figures),
        "start": dict(job.start),
        "steps": job.train.steps,
        "human_images": job.human.rows.num_rows,
        "pseudo_images": 0 if job.pseudo is None else job.pseudo.rows.num_rows,
        **({} if job.joint is None else {"joint_images": job.joint.rows.num_rows}),
        "unreadable": _unreadable(job, out, log),
        "warnings": alarms(log),
        **course_of(job, out, log),
        "seconds": {"train": time.monotonic() - begun},
        "versions": versions(),
    }
    summary |= {} if judge is None else judge(summary)
    write_summary(out, summary)
    return summary


def _unreadable(job: Job, out: str, log: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How often an image could not be read in training (worker 0), and of how many validation
    images there is no prediction.
    """
    with parquet.opened(storage.join(out, PREDICTIONS)) as predictions:
        num_predicted = predictions.metadata.num_rows
    return {
        "training_views": sum(row.get("unreadable_images", 0) for row in log),
        "validation_images": job.num_val - num_predicted,
    }


def role_of(*, has_pseudo: bool) -> Literal["teacher", "student"]:
    """What a model is called in a summary: a student has learned from pseudo labels."""
    return "student" if has_pseudo else "teacher"


def label_stage(
    images: Images,
    teacher: TeacherSource,
    out: str | Path,
    config: LabelConfig,
    policy: PolicyConfig,
    counter: Counter | None,
    holdout: Holdout | None = None,
    *,
    retry_failed: bool = False,
    facts: Mapping[str, Any] | None = None,
    judge: _Judge | None = None,
) -> dict[str, Any]:
    """Label a pool into its folder or bucket, unless it is labelled already; returns its summary.

    `holdout` is for `policy.target_precision`, and for people's labels to stand beside the
    teacher's; `facts` stand in the summary too, and so does what `judge` makes of it. Pseudo
    labels are left beside the store; those of a folder that is labelled already are under the
    policy that it was labelled with, since a folder is of one recipe.
    """
    out = str(out)
    if (summary := finished(out)) is not None:
        return summary
    begun = time.monotonic()
    found = label(images, teacher, out, config, counter, retry_failed=retry_failed)
    seconds = time.monotonic() - begun
    classes = teacher.classes
    pseudo, choice = write_chosen(out, out, policy, teacher.task.kind, classes, holdout)
    with parquet.opened(storage.join(out, FAILURES)) as failures:
        pseudo["failures"] = failures.metadata.num_rows
    summary = {
        "verb": "label",
        "pseudo": pseudo,
        **choice.account(),
        "policy": as_dict(policy),
        **(facts or {}),
        "classes": list(classes),
        "teacher_sha256": teacher.digest,
        "views": teacher.looks(config).card,
        "speed": found,
        "seconds": {"label": seconds},
        "versions": versions(),
    }
    summary |= {} if judge is None else judge(summary)
    write_summary(out, summary)
    return summary


def read_pseudo(
    uri: str, policy: PolicyConfig, human: LabeledSet, held_images: int
) -> tuple[pa.Table | StoredRows, list[str]]:
    """Pseudo labels of a folder that `label` or `policy` left; of the kind of `human`.

    Of the former they are those under `policy`; the second value is what it could not do. More than
    `held_images` stay where they are.
    """
    summary = open_labelled(uri)
    if tuple(summary["classes"]) != human.classes:
        raise UserError(
            f"pseudo: {uri} was labelled with classes {summary['classes']}, "
            f"data.train has {list(human.classes)}; label again with a teacher of these classes"
        )
    if summary["verb"] == "policy":
        rows = read_accepted(uri, summary, policy, held_images)
        _require_kind(
            rows.choice.kind if isinstance(rows, StoredRows) else kind_of(rows.schema), human, uri
        )
        return rows, []
    kind = _require_kind(raw_kind(uri), human, uri)
    require_holdout_used(policy)
    holdout = read_holdout(policy, kind, human.classes, summary["teacher_sha256"])
    rows, choice = accepted(uri, policy, kind, human.classes, holdout, held_images)
    require_labels(rows, uri)
    return rows, choice.warnings


def _require_kind(found: type[Labels] | None, human: LabeledSet, uri: str) -> type[Labels]:
    if found is None or found is not kind_of(human.rows.schema):
        raise UserError(
            f"pseudo: {uri} holds labels of another task than data.train; "
            "label again with a teacher of this task"
        )
    return found


def require_labels(rows: pa.Table | StoredRows, out: str | Path) -> None:
    """Refuse the pseudo labels of a labelling in which every image failed."""
    if rows.num_rows == 0:
        raise UserError(
            f"pseudo: {out} holds no labelled image; see its failures.parquet, and label a pool "
            "of readable images"
        )


def labelled(facts: Mapping[str, Any]) -> str:
    """What labelling came to, in one line."""
    if "boxes_per_image" in facts:
        amount = f"{facts['boxes_per_image']:.2f} boxes an image"
    else:
        amount = f"{facts['labelled_share']:.0%} labelled"
    return (
        f"{facts['images']} images, {amount}, {facts['empty_share']:.0%} empty, "
        f"{facts['failures']} unreadable"
    )


def pseudo_facts(
    task: Task, chosen: pa.Table, human: LabeledSet, truth: pa.Table | None
) -> dict[str, Any]:
    """What is still to add to the facts of a labelling: how much people label, and precision and
    recall where the truth is known.
    """
    precision = recall = None
    if truth is not None:
        precision, recall = task.agreement(truth, chosen)
    people = human_fact(human.rows, task.kind, human.classes)
    return {**people, "precision": precision, "recall": recall}


def floor_fact(kind: type[Labels], detect: DetectConfig) -> dict[str, float]:
    """The score above which boxes are stored, for a summary; other labels are stored whole."""
    return {"score_floor": detect.score_floor} if kind is Detections else {}
