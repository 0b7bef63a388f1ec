"""`ray-st train`: human labels only make a teacher; with `--pseudo` they make a student.

In: labelled images, perhaps a folder that `label` left. Out: a model folder. Next: `label.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from ray_st.cluster.placement import require_fits, training_needs
from ray_st.cluster.session import require_nodes, resources
from ray_st.data import parquet, storage
from ray_st.data.augment import AugmentConfig
from ray_st.data.sources import DataConfig
from ray_st.labeling.policy import PolicyConfig
from ray_st.models import ModelConfig
from ray_st.models.initialise import InitConfig
from ray_st.planning.comparison import train_outcome, training_basis
from ray_st.planning.earlier import steady_images_per_s
from ray_st.selftraining.course import course_words
from ray_st.selftraining.learning import Learning, read_init, training_job
from ray_st.selftraining.materials import open_materials
from ray_st.selftraining.saying import headline, unread
from ray_st.selftraining.stages import read_pseudo, role_of, train_stage
from ray_st.selftraining.watching import watched
from ray_st.tasks import TaskName
from ray_st.tasks.detection import DetectConfig
from ray_st.training.checkpoints import load_log
from ray_st.training.schedule import TrainConfig
from ray_st.verbs.verb import Verb, complete, recipe_of, say_near


@dataclass(frozen=True, kw_only=True)
class TrainVerb(Verb):
    """Train a teacher or a student."""

    out: str = "runs/train"
    """Folder or bucket of the results; running the same again goes on with it."""
    pseudo: str | None = None
    """Folder that `ray-st label` or `ray-st policy` left: train on its labels too."""
    plan: str | None = None
    """Folder that `ray-st plan` left: say in the end how near the run came to it. None: that of
    runs/plan, if it is of this model."""
    task: TaskName = "detection"
    """What is learned."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)


CONFIG = TrainVerb


def run(config: TrainVerb, console: Console) -> None:
    """Train, validate, and leave the model in `config.out`."""
    learning = Learning.of(config)
    materials = open_materials(config.data, learning.kind, config.train.joint.images)
    human, val = materials.human, materials.val
    init = read_init(config.init, learning, human.classes, config.data.train)
    config.policy.require_known(learning.kind, human.classes)
    pseudo, warnings = None, materials.warnings
    if config.pseudo is not None:
        pseudo, found = read_pseudo(config.pseudo, config.policy, human, config.train.held_images)
        warnings = [*warnings, *found]
    has_pseudo = pseudo is not None
    planned = training_basis(
        config.plan, config.task, config.model, config.train, has_pseudo=has_pseudo
    )
    plan = (
        f"{human.rows.num_rows} human and {pseudo.num_rows if pseudo else 0} pseudo-labelled images"
        f"{materials.joint_words}"
    )

    def work(out: str) -> dict[str, Any]:
        require_nodes(train=config.train.nodes)
        require_fits(training_needs(config.train, has_pseudo=has_pseudo), **resources())
        parquet.write(storage.join(out, "val.parquet"), val.rows)
        job = training_job(
            learning,
            human=human,
            val=val,
            pseudo=pseudo,
            joint=materials.joint,
            init=init,
            recipe=recipe_of(config),
        )
        with watched({"train": config.train.steps}, console, out) as counters:
            extra = {"findings": materials.findings}
            return train_stage(job, out, counters["train"], extra, lambda _: judge(out))

    def judge(out: str) -> dict[str, Any]:
        if planned is None:
            return {}
        return train_outcome(planned, config.train, steady_images_per_s(load_log(out)))

    summary = complete(config, console, plan, work, warnings, init, anywhere=True)
    if summary is not None:
        metrics = summary[role_of(has_pseudo=has_pseudo)]
        result = headline(metrics, summary["figures"])
        result += f"{course_words(summary)}{unread(summary)}"
        console.print(f"train      {result}", highlight=False)
        say_near(summary, console)
