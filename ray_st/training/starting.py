"""A train worker begins: the model with its weights, from a checkpoint where there is one.

In: a `Job`, in every worker of a gang. Out: all that a step changes, and a diary. Next: `loop.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from torch import nn

from ray_st.data.feed import Share
from ray_st.metrics import TrainingMetrics, run_of
from ray_st.models import build
from ray_st.training.checkpoints import load_log, load_state
from ray_st.training.diary import Diary
from ray_st.training.freezing import freeze
from ray_st.training.job import Job
from ray_st.training.restarts import SAVED_AT_S, Journal
from ray_st.training.sharding import blocks_of, shard
from ray_st.training.step import TrainState
from ray_st.training.trackers.opening import opened
from ray_st.training.trackers.tracker import Tracked
from ray_st.training.trainable import compiled, with_joint_classes, with_synchronised_norms


def started(job: Job, share: Share) -> tuple[TrainState, Diary]:
    """Build all that a step changes, from the checkpoint of an earlier start if there is one."""
    torch.set_num_threads(job.train.cpus_per_worker)
    torch.manual_seed(job.train.seed)
    model = build(job.model, job.task, job.num_outputs)
    if job.init is not None:
        ray.get(job.init).apply(model)
    device = ray.train.torch.get_device()
    model = with_synchronised_norms(model, job.train)
    freeze(model, job.train.freeze)
    learning = with_joint_classes(model, len(job.joint_classes))
    wrapped = _in_parallel(learning, job, device, share)
    state = TrainState.fresh(wrapped, job.train, device)
    rows: list[dict[str, Any]] = []
    saved_at_s = None
    if checkpoint := ray.train.get_checkpoint():
        saved_at_s = checkpoint.get_metadata().get(SAVED_AT_S)
        with checkpoint.as_directory() as folder:
            load_state(Path(folder), state)
            rows = load_log(folder)
    return state, _diary(job, rows, state.step, saved_at_s, share)


def _in_parallel(model: nn.Module, job: Job, device: torch.device, share: Share) -> nn.Module:
    """The model on its device, as a step runs it: the same parameters, perhaps wrapped."""
    if job.train.parallel == "fsdp" and share.num_workers > 1:
        ray.train.torch.prepare_model(model, move_to_device=False, parallel_strategy=None)
        side = job.model.image_size_px
        with torch.device("meta"):  # shapes alone: which parts of the model run once a step
            twin = build(job.model, job.task, job.num_outputs).train()
            blocks = blocks_of(twin, torch.empty(2, 3, side, side, dtype=torch.uint8))
        shard(model.train(), blocks, device)
        return model
    model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    wrapped = ray.train.torch.prepare_model(model, move_to_device=False)
    return compiled(wrapped, job.train)


def _diary(
    job: Job, rows: list[dict[str, Any]], step: int, saved_at_s: float | None, share: Share
) -> Diary:
    """The first worker's diary is heard; the others' are kept so that all of them do the same."""
    if share.worker > 0:
        quiet = replace(job, counter=None)
        return Diary(quiet, rows, begun_at=step)
    journal = Journal.opened(job.out)
    if job.train.num_workers != 0:
        journal.begin(step, saved_at_s)
    tracked = Tracked(out=job.out, run_id=journal.run_id, begun_at=step, recipe=job.recipe)
    return Diary(
        job,
        rows,
        begun_at=step,
        journal=journal if journal.starts else None,
        trackers=opened(job.train, tracked, [TrainingMetrics(run_of(job.out), "train")]),
    )
