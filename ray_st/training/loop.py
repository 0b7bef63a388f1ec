"""The right wing's edge: a model trained by Ray Train, from its labels to a folder with the result.

In: a `Job`, all that a worker needs. Out: a model folder with metrics.jsonl, predictions.parquet
and metrics.json. Next: `selftraining`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.train
import ray.train.torch
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from torch import nn

from ray_st.data.feed import FittedBlocks, Share, in_order
from ray_st.data.rows import label_row
from ray_st.labeling.teacher import Teacher
from ray_st.models import build
from ray_st.models.saved import CARD, WEIGHTS, ModelCard, save_model
from ray_st.tasks.task import Task
from ray_st.training.alarms import PATIENCE, ringing
from ray_st.training.averaging import averaged
from ray_st.training.checkpoints import LOG, finite, load_log, load_state, save_log, save_state
from ray_st.training.divergence import Divergence
from ray_st.training.evaluate import predict
from ray_st.training.freezing import freeze
from ray_st.training.job import Job
from ray_st.training.loss_balance import LossBalance
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import TrainState, train_step
from ray_st.training.streams import paired_batches
from ray_st.training.trainable import compiled, make_optimizer, with_synchronised_norms

PREDICTIONS, METRICS = "predictions.parquet", "metrics.json"


def train_worker(config: dict[str, Job]) -> dict[str, float | None] | Divergence:
    """What each worker of the gang runs; returns the metrics (rank 0's are kept).

    Or why there are none, which all workers find at the same step: to raise it would mean to try
    again, and to find it again.
    """
    job = config["job"]
    context = ray.train.get_context()
    share = Share(worker=context.get_world_rank(), num_workers=context.get_world_size())
    torch.set_num_threads(job.train.cpus_per_worker)
    state, log = _start(job)
    begun, logged_step, unreadable = time.monotonic(), state.step, 0
    batches = paired_batches(job.human, job.pseudo, state.step, job.train.steps, share)
    for batch in batches:
        report = train_step(state, batch, job.objective, job.train)
        unreadable += report.unreadable
        if state.step % job.train.log_every == 0 or state.step == job.train.steps:
            now = time.monotonic()
            images = (state.step - logged_step) * job.images_a_step
            log.append(
                {
                    **report.as_row(),
                    "unreadable_images": unreadable,  # since the row before
                    "images_per_s": images / (now - begun),
                }
            )
            begun, logged_step, unreadable = now, state.step, 0
            if job.counter is not None and share.worker == 0:
                job.counter.put(state.step, f"loss {log[-1]['loss']:.3f}")
                if worries := ringing(log[-PATIENCE:]):
                    job.counter.warn(worries)
        if state.skipped.in_a_row > job.train.max_skipped_steps:
            return Divergence.of(report, batch, log)
        if _checkpoint_due(state.step, job.train):
            with _folder(share) as folder:
                _save(folder, job, state.trained, state, log, {})
                ray.train.report({"step": state.step}, checkpoint=_checkpoint(folder, share))
    return _finish(job, state.trained, state, log, share)


def _checkpoint_due(step: int, config: TrainConfig) -> bool:
    # Without workers there is nothing to start again: Train stores nothing then.
    return config.num_workers > 0 and step % config.checkpoint_every == 0 and step < config.steps


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _start(job: Job) -> tuple[TrainState, list[dict[str, Any]]]:
    """Build the model, from the checkpoint of an earlier try if there is one."""
    torch.manual_seed(job.train.seed)
    model = build(job.model, job.task, job.num_outputs)
    if job.init is not None:
        ray.get(job.init).apply(model)
    device = ray.train.torch.get_device()
    model = with_synchronised_norms(model, job.train)
    model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    freeze(model, job.train.freeze)
    balance = LossBalance.start(
        alpha=job.train.alpha,
        normalised=job.train.loss == "normalised",
        decay=job.train.mean_decay,
        device=device,
    )
    wrapped = ray.train.torch.prepare_model(model, move_to_device=False)
    wrapped = compiled(wrapped, job.train)
    optimizer = make_optimizer(model, job.train)
    state = TrainState(
        model=wrapped,
        optimizer=optimizer,
        balance=balance,
        step=0,
        average=averaged(model, job.train),
    )
    log: list[dict[str, Any]] = []
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            load_state(Path(folder), state, model)
            log = load_log(Path(folder))
    return state, log


def _finish(
    job: Job,
    model: nn.Module,
    state: TrainState,
    log: list[dict[str, Any]],
    share: Share,
) -> dict[str, float | None]:
    """Validate, and leave the last checkpoint."""
    model.eval()
    predictions, metrics = _validate(job, model, share)
    with _folder(share, keep=job.train.num_workers == 0) as folder:
        if share.worker == 0:
            pq.write_table(predictions, folder / PREDICTIONS)
            (folder / METRICS).write_text(json.dumps(metrics))
        _save(folder, job, model, state, log, metrics)
        ray.train.report({"step": state.step, **metrics}, checkpoint=_checkpoint(folder, share))
    return metrics


def _validate(job: Job, model: nn.Module, share: Share) -> tuple[pa.Table, dict[str, float | None]]:
    """Predictions on the validation images, and their metrics, which the first worker computes."""
    if job.val is None:
        return label_row(None).empty_table(), {}
    assert isinstance(job.objective, Task), "only a task knows what is right"
    val = FittedBlocks(
        rows=job.val, num_images=job.num_val, size_px=job.model.image_size_px, share=share
    )
    views = in_order(val, batch_size=job.train.batch_size, loaders=job.train.loaders)
    predictions = predict(Teacher(model, job.objective, _device(model)), views)
    if share.worker > 0:
        return predictions, {}
    metrics = job.objective.metrics(ray.get(job.val), predictions, job.classes)
    return predictions, finite(metrics)


@contextmanager
def _folder(share: Share, *, keep: bool = False) -> Iterator[Path]:
    """A scratch folder; with workers, Train uploads from it before `report` returns."""
    folder = Path(tempfile.mkdtemp(prefix=f"ray_st-{share.worker}-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder)


def _checkpoint(folder: Path, share: Share) -> Checkpoint | None:
    # All workers report, which is a barrier; only the first has something to store.
    return Checkpoint.from_directory(str(folder)) if share.worker == 0 else None


def _save(
    folder: Path,
    job: Job,
    model: nn.Module,
    state: TrainState,
    log: list[dict[str, Any]],
    metrics: Mapping[str, float | None],
) -> None:
    """Write all that a resumed run or a user of the model needs."""
    card = ModelCard(
        task=job.task,
        classes=job.classes,
        model=job.model,
        preprocessing={"fit": "long side to model.image_size_px, padded right and bottom"},
        recipe=job.recipe,
        loss_balance={
            "alpha": job.train.alpha,
            "loss": job.train.loss,
            "mean_decay": job.train.mean_decay,
            **state.balance.state_dict(),
        },
        metrics=metrics,
    )
    save_model(folder, model, card)
    save_state(folder, state)
    save_log(folder, log)


def _workers(config: TrainConfig) -> int | tuple[int, int]:
    fewest = config.min_workers
    return config.num_workers if fewest is None else (fewest, config.num_workers)


def fit(job: Job, out: Path, name: str = "train") -> dict[str, float | None]:
    """Train, and leave the model in `out`; goes on from the last checkpoint found there.

    Returns the metrics on the validation images. Raises `DivergedError` where the numbers went bad
    and stayed so.
    """
    config = job.train
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=_workers(config),
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": config.cpus_per_worker, "GPU": int(config.use_gpu)},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str((out / "ray_train").resolve()),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=config.max_failures),
        ),
    )
    result = trainer.fit()
    if isinstance(result.return_value, Divergence):
        raise result.return_value.left_in(out)
    with result.checkpoint.as_directory() as folder:
        for file in (WEIGHTS, LOG, PREDICTIONS, METRICS, CARD):
            shutil.copyfile(Path(folder) / file, out / file)
    if config.num_workers == 0:
        shutil.rmtree(result.checkpoint.path)  # the scratch folder that `_finish` kept
    metrics: dict[str, float | None] = json.loads((out / METRICS).read_text())
    return metrics
