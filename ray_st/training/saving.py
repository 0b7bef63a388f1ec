"""A checkpoint taken: whole tensors to the first worker's disk, from there to storage by itself.

In: all that a step changes, and the diary. Out: a checkpoint that Ray Train stores beside training:
a step waits for this machine's disk at most. Next: `starting.py`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import ray.train
from ray.train import Checkpoint, CheckpointUploadMode
from torch import Tensor

from ray_st.data import storage
from ray_st.data.feed import Share
from ray_st.models.saved import CARD, WEIGHTS, ModelCard, save_tensors
from ray_st.training.checkpoints import save_log, save_state
from ray_st.training.diary import Diary
from ray_st.training.job import Job
from ray_st.training.restarts import LOG, SAVED_AT_S
from ray_st.training.sharding import whole
from ray_st.training.step import TrainState
from ray_st.training.validate import Evaluation

PREDICTIONS, METRICS = "predictions.parquet", "metrics.json"
MODEL_FILES = (WEIGHTS, PREDICTIONS, METRICS, CARD)  # a folder that has a card is whole
RUN_FILES = (WEIGHTS, LOG, PREDICTIONS, METRICS, CARD)
BEST = "best"  # the folder of the best model, in the run's
RECORD = "record"  # of a checkpoint: its step if its model was the best so far, else -1


def save(job: Job, state: TrainState, diary: Diary, share: Share) -> None:
    """Take a checkpoint, by all workers together; the first one has something to store."""
    folder = Path(tempfile.mkdtemp(prefix="ray_st-")) if share.worker == 0 else None
    tensors = whole(state.trained.state_dict(), keep=folder is not None)
    save_state(folder, state)
    diary.flush()
    checkpoint, evaluation = None, diary.evaluation_at(state.step)
    if folder is not None:
        save_log(folder, diary.rows)
        _write_model(folder, job, tensors, state, evaluation)
        checkpoint = Checkpoint.from_directory(str(folder))
        checkpoint.set_metadata({SAVED_AT_S: time.time()})
    record = state.step if diary.is_best(state.step) else -1
    if job.train.num_workers == 0 and checkpoint is not None:
        if record > 0:
            publish(checkpoint, MODEL_FILES, storage.join(job.out, BEST))
        if state.step < job.train.steps:
            shutil.rmtree(checkpoint.path)  # in this process there is nothing to go on from
            return
    ray.train.report(
        {"step": state.step, RECORD: record, **(evaluation.metrics if evaluation else {})},
        checkpoint=checkpoint,
        checkpoint_upload_mode=CheckpointUploadMode.ASYNC,  # which removes the folder in the end
    )


def _write_model(
    folder: Path,
    job: Job,
    tensors: Mapping[str, Tensor],
    state: TrainState,
    evaluation: Evaluation | None,
) -> None:
    """Write what a user of the model needs."""
    metrics = {} if evaluation is None else evaluation.metrics
    if evaluation is not None:
        pq.write_table(evaluation.predictions, folder / PREDICTIONS)
        (folder / METRICS).write_text(json.dumps(metrics))
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
    save_tensors(folder, tensors, card)


def publish(checkpoint: Checkpoint, names: Sequence[str], place: str) -> None:
    """Copy files of a checkpoint into a folder or bucket, each whole or not at all."""
    storage.make_folder(place)
    for name in names:
        path = f"{checkpoint.path}/{name}"
        with checkpoint.filesystem.open_input_stream(path, compression=None) as stream:
            storage.put(storage.join(place, name), stream.read())
