"""`ray-st label`: a teacher labels a pool; every image ends as labels or as a recorded failure.

In: images and a teacher of any kind. Out: a folder of Parquet that `train --pseudo` takes. Next:
`policy.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from ray_st.cluster.placement import labeling_needs, require_fits
from ray_st.cluster.session import require_nodes, resources
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import open_pool
from ray_st.labeling.policy import PolicyConfig
from ray_st.labeling.teacher import SavedTeacher
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes
from ray_st.labeling.trial import try_out
from ray_st.planning.comparison import label_outcome, labelling_basis
from ray_st.selftraining.acceptance import read_holdout
from ray_st.selftraining.folder import require_one_model
from ray_st.selftraining.saying import preflight, say, say_outcome
from ray_st.selftraining.stages import floor_fact, label_stage, labelled
from ray_st.selftraining.watching import watched
from ray_st.tasks.detection import DetectConfig
from ray_st.verbs.verb import Verb, complete, say_near, say_warnings


@dataclass(frozen=True, kw_only=True)
class LabelVerb(Verb):
    """Label a pool."""

    images: str
    """The pool: a manifest that `ray-st index` left, for any size; a folder (path or URI), or
    coco:PATH whose labels are ignored."""
    teacher: str
    """Model folder that `ray-st train` left, here or in a bucket, or torchvision:NAME,
    torchvision:NAME:FILE, hf:FOLDER_OR_ID, onnx:FILE, module:Class of your own:
    docs/teachers.md."""
    classes: str | None = None
    """Classes of the labels: a file with a name a line, or the labelled set that a student will
    learn from. None: the teacher's."""
    class_map: tuple[str, ...] | Mapping[str, str] = ()
    """Teacher's classes that have other names there: TEACHER_NAME=NAME ...; in a recipe a mapping.
    Classes that become none are dropped."""
    image_size_px: int | None = None
    """Side of the views that a teacher from elsewhere sees. None: what is usual for it."""
    out: str = "runs/label"
    """Folder or bucket (s3://...) of the results; running the same again goes on with it."""
    plan: str | None = None
    """Folder that `ray-st plan` left: say in the end how near the run came to it. None: that of
    runs/plan, if it is of this model."""
    retry_failed: bool = False
    """Try the images again that failed, also of a run that is finished."""
    label: LabelConfig = field(default_factory=LabelConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)


CONFIG = LabelVerb


def run(config: LabelVerb, console: Console) -> None:
    """Label every image once."""
    require_one_model(config.teacher, "teacher")
    wishes = Wishes(detect=config.detect, image_size_px=config.image_size_px)
    opened = open_teacher(config.teacher, wishes, config.classes, config.class_map)
    teacher = opened.source
    teacher.looks(config.label)  # refuses what it cannot
    kind, classes = teacher.task.kind, teacher.classes
    config.policy.require_known(kind, classes)
    holdout = read_holdout(config.policy, kind, classes, teacher.digest)
    known = preflight(holdout, kind, classes)
    images = open_pool(config.images)
    model = teacher.saved.card.model if isinstance(teacher, SavedTeacher) else None
    planned = labelling_basis(config.plan, teacher.task.name, model, config.label)

    def judge(summary: Mapping[str, Any]) -> dict[str, Any]:
        return {} if planned is None else label_outcome(planned, config.label, summary)

    def work(out: str) -> dict[str, Any]:
        known.say(console)
        require_nodes(label=config.label.nodes)
        require_fits(labeling_needs(config.label), **resources())
        if opened.is_foreign:
            try_out(images, teacher, config.label)
        with watched({"label": images.num_rows}, console, out) as counters:
            return label_stage(
                images,
                teacher,
                out,
                config.label,
                config.policy,
                counters["label"],
                holdout,
                retry_failed=config.retry_failed,
                facts={**opened.facts, **floor_fact(kind, config.detect)},
                judge=judge,
            )

    plan = f"{images.num_rows} images to label{known.plan}"
    warnings = [*opened.warnings, *known.warnings]
    summary = complete(
        config, console, plan, work, warnings, anywhere=True, again=config.retry_failed
    )
    if summary is not None:
        say_warnings(summary, console)
        say("label", labelled(summary["pseudo"]), console)
        say_outcome(summary, console)
        say_near(summary, console)
