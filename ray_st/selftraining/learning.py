"""How a model learns, and from where: the sections of a recipe that a training run is made of.

In: a verb's config and opened data. Out: `Learning`, a `Job`, and the `Start` of its weights.
Next: `stages.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
import torch

from ray_st.config import as_dict
from ray_st.data.augment import AugmentConfig
from ray_st.data.feed import HeldRows
from ray_st.data.labels import Labels, Origin
from ray_st.data.order import stream_seed
from ray_st.data.sources import LabeledSet
from ray_st.labeling.live import BLOCK_STEPS, LiveRows
from ray_st.labeling.stored import StoredRows
from ray_st.models import ModelConfig, build
from ray_st.models.initialise import InitConfig, Start, read_start
from ray_st.models.saved import read_model, require_classes, require_model
from ray_st.selftraining.folder import require_one_model
from ray_st.tasks import TaskName, make_task
from ray_st.tasks.detection import DetectConfig
from ray_st.tasks.task import Task
from ray_st.training.job import Job
from ray_st.training.rehearsal import rehearse
from ray_st.training.schedule import TrainConfig
from ray_st.training.streams import Stream
from ray_st.training.trackers.opening import require_trackers


@dataclass(frozen=True, kw_only=True)
class Learning:
    """The sections of a recipe that decide how a model learns."""

    task: TaskName
    model: ModelConfig
    augment: AugmentConfig
    train: TrainConfig
    detect: DetectConfig = field(default_factory=DetectConfig)

    @classmethod
    def of(cls, config: Any) -> Learning:
        """Pick them from a verb's config; raises `UserError` for a model that cannot be trained."""
        # A teacher comes before there are pseudo labels: only a config that names some has both.
        has_pseudo = getattr(config, "pseudo", None) is not None
        # Else every worker finds out, long after the start.
        require_trackers(config.train)
        rehearse(config.model, config.task, 1, config.train, has_pseudo=has_pseudo)
        return cls(
            task=config.task,
            model=config.model,
            augment=config.augment,
            train=config.train,
            detect=config.detect,
        )

    @property
    def kind(self) -> type[Labels]:
        """The kind of labels that is learned from."""
        return self.make_task(1).kind

    def side_px(self, origin: Origin) -> int:
        """Side of the views of an origin."""
        own_px = self.model.image_size_px
        return self.train.joint.side_px(own_px) if origin is Origin.JOINT else own_px

    def make_task(self, num_classes: int) -> Task:
        """Give the task object of these sections."""
        return make_task(self.task, self.model, num_classes, self.detect)


def training_job(
    learning: Learning,
    *,
    human: LabeledSet,
    val: LabeledSet,
    pseudo: pa.Table | StoredRows | LiveRows | None,
    init: Start | None,
    recipe: Mapping[str, Any],
    joint: LabeledSet | None = None,
) -> Job:
    """Put the rows into the object store, or leave them in their own, and describe the run."""
    train = learning.train

    def stream(rows: pa.Table | StoredRows | LiveRows, origin: Origin) -> Stream:
        seed = stream_seed(train.seed, origin)
        return Stream(
            rows=HeldRows.of(rows) if isinstance(rows, pa.Table) else rows,
            origin=origin,
            batch_size=train.images_of(origin),
            size_px=learning.side_px(origin),
            augment=learning.augment,
            order_seed=seed,
            view_seed=seed,
            loaders=train.loaders,
            reached=rows.reached if isinstance(rows, LiveRows) else None,
            most_steps=BLOCK_STEPS if isinstance(rows, LiveRows) else None,
        )

    return Job(
        task=learning.task,
        classes=human.classes,
        model=learning.model,
        train=train,
        human=stream(human.rows, Origin.HUMAN),
        pseudo=None if pseudo is None else stream(pseudo, Origin.PSEUDO),
        joint=None if joint is None else stream(joint.rows, Origin.JOINT),
        joint_classes=() if joint is None else joint.classes,
        objective=learning.make_task(len(human.classes)),
        num_outputs=len(human.classes),
        val=ray.put(val.rows.combine_chunks()),
        num_val=val.rows.num_rows,
        init=None if init is None else ray.put(init),
        start={"start": "random"} if init is None else as_dict(init.loaded),
        recipe=recipe,
        counter=None,
    )


def read_init(
    init: InitConfig, learning: Learning, classes: tuple[str, ...], data: str
) -> Start | None:
    """Read what to start from, and check it against the recipe; None: random weights."""
    if init.start == "random":
        return None
    if init.start == "teacher":
        assert init.weights is not None, "InitConfig sees to it"
        require_one_model(init.weights, "init.weights")
        saved = read_model(init.weights, "init.weights")
        require_classes(saved, classes, what="init.weights", data=data)
        require_model(saved, learning.task, learning.model, what="init.weights")
        return Start.of_teacher(saved, init.weights)
    with torch.device("meta"):
        model = build(learning.model, learning.task, len(classes))
    return read_start(model, learning.model, init)
