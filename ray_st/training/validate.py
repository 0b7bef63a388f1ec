"""A model measured inside its train workers, each with its share of the validation images.

In: a `Job` and the model. Out: `Evaluation`. Next: `diary.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa
import ray
from torch import nn

from ray_st.data.feed import FittedBlocks, Share, in_order
from ray_st.data.rows import label_row
from ray_st.data.views import Views
from ray_st.labeling.teacher import Teacher
from ray_st.tasks.task import Task
from ray_st.training.checkpoints import finite
from ray_st.training.evaluate import evaluating, in_step, predict
from ray_st.training.job import Job
from ray_st.training.sharding import is_sharded


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What a model predicts on the validation images, and how good that is."""

    predictions: pa.Table
    metrics: dict[str, float | None]  # the first worker's alone; empty where nothing is to compare
    seconds: float


def evaluate(job: Job, model: nn.Module, share: Share) -> Evaluation:
    """Evaluate the model, by all workers together. `model` is unwrapped, and left as it was."""
    begun = time.monotonic()
    if job.val is None:
        return Evaluation(predictions=label_row(None).empty_table(), metrics={}, seconds=0.0)
    assert isinstance(job.objective, Task), "only a task knows what is right"
    size_px, device = job.model.image_size_px, next(model.parameters()).device
    val = FittedBlocks(rows=job.val, num_images=job.num_val, size_px=size_px, share=share)
    loaded = in_order(val, batch_size=job.train.batch_size, loaders=job.train.loaders)
    with closing(loaded) as views, evaluating(model):
        batches: Iterable[Views | None] = in_step(views, device) if is_sharded(model) else views
        predictions = predict(Teacher(model, job.objective, device), batches, size_px)
    metrics: dict[str, float | None] = {}
    if share.worker == 0:
        metrics = finite(job.objective.metrics(ray.get(job.val), predictions, job.classes))
    seconds = time.monotonic() - begun
    return Evaluation(predictions=predictions, metrics=metrics, seconds=seconds)
