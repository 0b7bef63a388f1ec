"""The right wing's edge: a model trained by Ray Train, from its labels to a folder with the result.

In: a `Job`, all that a worker needs. Out: a model folder with metrics.jsonl, predictions.parquet
and metrics.json, in it the best model of those that were evaluated. Next: `selftraining`.
"""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import ray.train
import ray.train.torch
from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig

from ray_st.data import storage
from ray_st.data.feed import Share
from ray_st.ray_compat import hurry_starts, on_nodes
from ray_st.training.divergence import Divergence
from ray_st.training.due import Due
from ray_st.training.job import Job
from ray_st.training.restarts import RAY_FOLDER
from ray_st.training.saving import (
    BEST,
    METRICS,
    MODEL_FILES,
    PREDICTIONS,
    RECORD,
    RUN_FILES,
    publish,
    save,
)
from ray_st.training.schedule import TrainConfig
from ray_st.training.starting import started
from ray_st.training.step import train_step
from ray_st.training.streams import paired_batches
from ray_st.training.validate import evaluate

__all__ = ["PREDICTIONS", "fit", "train_worker"]


def train_worker(config: dict[str, Job]) -> dict[str, float | None] | Divergence:
    """What each worker of the gang runs; returns the metrics (rank 0's are kept).

    Or why there are none, which all workers find at the same step: to raise it would mean to try
    again, and to find it again.
    """
    job = config["job"]
    context = ray.train.get_context()
    share = Share(worker=context.get_world_rank(), num_workers=context.get_world_size())
    state, diary = started(job, share)
    due = Due(job.train, begun_at=state.step, look=ray.train.get_preemption_info)
    objective = job.learned
    with closing(
        paired_batches(job.human, job.pseudo, state.step, job.train.steps, share, job.joint)
    ) as batches:
        while True:
            if due.evaluation(state.step):
                diary.evaluated(state.step, evaluate(job, state.trained, share))
            if due.checkpoint(state.step):
                save(job, state, diary, share)
            if state.step == job.train.steps:
                return diary.closed()
            batch = next(batches)
            report = train_step(state, batch, objective, job.train)
            diary.trained(report, state.trail)
            if state.skipped.in_a_row > job.train.max_skipped_steps:
                diary.closed()
                return Divergence.of(report, batch, diary.rows)


def fit(job: Job, out: str | Path, name: str = "train") -> dict[str, float | None]:
    """Train, and leave the model in `out`; goes on from the last checkpoint found there.

    Args:
        job: what to train.
        out: folder or bucket that every node sees.
        name: of the run within it.

    Returns:
        The metrics on the validation images.

    Raises:
        DivergedError: where the numbers went bad and stayed so.
    """
    config, place = job.train, storage.absolute(str(out))
    filesystem, path = storage.locate(storage.join(place, RAY_FOLDER))
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"job": replace(job, out=place)},
        scaling_config=ScalingConfig(
            num_workers=_workers(config),
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": config.cpus_per_worker, "GPU": int(config.use_gpu)},
            **on_nodes(config.nodes),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            # The latest stays whatever its score is: the best and the last survive.
            checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_score_attribute=RECORD),
            failure_config=FailureConfig(max_failures=config.max_failures),
        ),
    )
    hurry_starts(trainer.scaling_config)
    result = trainer.fit()
    if isinstance(result.return_value, Divergence):
        raise result.return_value.left_in(place)
    publish(result.checkpoint, RUN_FILES, place)
    _publish_best(result, storage.join(place, BEST))
    if config.num_workers == 0:
        shutil.rmtree(result.checkpoint.path)  # a scratch folder, which nobody else removes
    metrics: dict[str, float | None] = json.loads(storage.read(storage.join(place, METRICS)))
    return metrics


def _workers(config: TrainConfig) -> int | tuple[int, int]:
    fewest = config.min_workers
    return config.num_workers if fewest is None else (fewest, config.num_workers)


def _publish_best(result: Result, place: str) -> None:
    """Leave the best of the models that were evaluated, of equals the first."""
    found = [(metrics[RECORD], kept) for kept, metrics in result.best_checkpoints or ()]
    record, checkpoint = max(found, key=lambda each: each[0], default=(-1, None))
    if checkpoint is not None and record > 0:
        publish(checkpoint, MODEL_FILES, place)
