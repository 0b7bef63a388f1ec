"""A few steps of real training on this machine: the loss, the gradient, seconds and memory.

In: the first views, and a model's start. Out: `Trial`. Next: `verdict.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from ray_st.data.batches import Batch, of_views, paired, with_joint, without_joint
from ray_st.data.labels import Origin
from ray_st.models import ModelConfig, build
from ray_st.models.initialise import Start
from ray_st.selftraining.checkup.first_views import FirstViews
from ray_st.selftraining.checkup.memory import Held, PeakMemory, resident_bytes
from ray_st.selftraining.checkup.start_loss import StartLoss, start_loss
from ray_st.tasks.joint import joint_objective
from ray_st.tasks.task import Task
from ray_st.training.freezing import freeze
from ray_st.training.gradient import device_of, outputs_of, targets_of
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import TrainState, train_step
from ray_st.training.trainable import with_joint_classes

_STEPS = 3  # the first warms up; of the others the fastest counts
_LONG_S = 20.0  # a step that takes so long is not repeated


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a few steps of one worker showed."""

    images: int  # of this worker in a step
    before: StartLoss | None  # the first step; None where the head is not fresh
    loss: float
    gradient_norm: float  # before clipping
    seconds: float  # of one step, without loading
    held: Held


def batches_of(origins: Sequence[FirstViews], num_workers: int) -> list[Batch]:
    """The first worker's share of each step that all origins have views of."""
    steps = min(each.num_steps for each in origins)
    return [_batch(origins, step, max(1, num_workers)) for step in range(min(_STEPS, steps))]


def _batch(origins: Sequence[FirstViews], step: int, num_workers: int) -> Batch:
    def share(first: FirstViews) -> Batch:
        return of_views(first.of_step(step, -(-first.batch_size // num_workers)), first.origin)

    human, *others = origins
    batch = share(human)
    for first in others:
        join = with_joint if first.origin is Origin.JOINT else paired
        batch = join(batch, share(first))
    return batch


def try_steps(
    batches: Sequence[Batch],
    task: Task,
    model: ModelConfig,
    train: TrainConfig,
    init: Start | None,
    num_classes: int,
    num_joint: int = 0,
) -> Trial:
    """Train for a few steps, as one worker would, on the accelerator if there is one to use."""
    device = torch.device("cuda" if train.use_gpu and torch.cuda.is_available() else "cpu")
    with _threads(train.cpus_per_worker):
        process = 0 if device.type == "cuda" else resident_bytes()
        state = _state(task, model, train, init, num_classes, num_joint, device)
        objective = joint_objective(task, num_joint)
        is_fresh = init is None or init.loaded.start != "teacher"
        before = _before(state.trained, batches[0], task, train) if is_fresh else None
        reports, seconds = [], []
        with PeakMemory(device) as memory:
            for number in range(_STEPS):
                begun = time.perf_counter()
                reports.append(
                    train_step(state, batches[number % len(batches)], objective, train).as_row()
                )  # as numbers: that waits for the device
                seconds.append(time.perf_counter() - begun)
                if seconds[-1] > _LONG_S:
                    break
        held = Held.of(
            state.model,
            state.optimizer,
            peak=memory.peak,
            process=process,
            device=device.type,
        )
    return Trial(
        images=len(batches[0]),
        before=before,
        loss=reports[0]["loss"],
        gradient_norm=reports[0]["gradient_norm"],
        seconds=min(seconds),
        held=held,
    )


def _state(
    task: Task,
    model: ModelConfig,
    train: TrainConfig,
    init: Start | None,
    num_classes: int,
    num_joint: int,
    device: torch.device,
) -> TrainState:
    torch.manual_seed(train.seed)
    built = build(model, task.name, num_classes)
    if init is not None:
        init.apply(built)
    freeze(built, train.freeze)
    learning = with_joint_classes(built, num_joint)
    learning = learning.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    return TrainState.fresh(learning, train, device)


@torch.no_grad()
def _before(model: nn.Module, batch: Batch, task: Task, train: TrainConfig) -> StartLoss:
    """The loss of the task's classes before any step, beside what a fresh head's must be."""
    batch = without_joint(batch).to(device_of(model))
    outputs = outputs_of(model, batch, train)
    sums = task.loss_sums(outputs, targets_of(batch, task))
    return start_loss(task.kind, outputs, sums, batch.is_valid)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with as many cores as a worker would."""
    usual = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
