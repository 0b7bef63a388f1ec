"""`ray-st label`: a teacher labels a pool; every image ends as labels or as a recorded failure.

In: images and a model folder. Out: a folder of Parquet that `train --pseudo` takes. Next:
`policy.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from ray_st.cluster.placement import labeling_needs, require_fits
from ray_st.cluster.session import resources
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import open_pool
from ray_st.labeling.policy import PolicyConfig
from ray_st.labeling.teacher import SavedTeacher
from ray_st.models.saved import read_model
from ray_st.progress import shown
from ray_st.selftraining.acceptance import read_holdout
from ray_st.selftraining.folder import require_one_model
from ray_st.selftraining.stages import label_stage, labelled
from ray_st.tasks import make_task
from ray_st.tasks.detection import DetectConfig
from ray_st.verbs.verb import Verb, complete, say_warnings


@dataclass(frozen=True, kw_only=True)
class LabelVerb(Verb):
    """Label a pool."""

    images: str
    """The pool: a manifest that `ray-st index` left, for any size; a folder (path or URI), or
    coco:PATH whose labels are ignored."""
    teacher: str
    """Model folder that `ray-st train` left."""
    out: str = "runs/label"
    """Folder or bucket (s3://...) of the results; running the same again goes on with it."""
    retry_failed: bool = False
    """Try the images again that failed, also of a run that is finished."""
    label: LabelConfig = field(default_factory=LabelConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)


CONFIG = LabelVerb


def run(config: LabelVerb, console: Console) -> None:
    """Label every image once."""
    require_one_model(config.teacher, "teacher")
    saved = read_model(config.teacher, "teacher")
    card = saved.card
    task = make_task(card.task, card.model, len(card.classes), config.detect)
    config.policy.require_known(task.kind, card.classes)
    teacher = SavedTeacher(saved=saved, task=task)
    teacher.looks(config.label)  # refuses what it cannot
    holdout = read_holdout(config.policy, task.kind, card.classes, teacher.digest)
    images = open_pool(config.images)

    def work(out: str) -> dict[str, Any]:
        require_fits(labeling_needs(config.label), **resources())
        with shown({"label": images.num_rows}, console) as counters:
            return label_stage(
                images,
                teacher,
                out,
                config.label,
                config.policy,
                counters["label"],
                holdout,
                retry_failed=config.retry_failed,
            )

    plan = f"{images.num_rows} images to label"
    summary = complete(config, console, plan, work, anywhere=True, again=config.retry_failed)
    if summary is not None:
        say_warnings(summary, console)
        console.print(f"label      {labelled(summary['pseudo'])}", highlight=False)
