"""What labelling an image costs here: the real reader, teacher and writer, every core at work.

In: a `TeacherSource`, rows of some images. Out: `LabelRates`. Next: `practice.py`.

On one core of an idle machine everything is faster than on one of many at work. So first one
process does it, then as many as the machine has room for do the same at the same time, each with
the threads of one actor; stages are timed one after the other in each of them.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from threading import BrokenBarrierError
from typing import Any

import pyarrow as pa
import torch
from ray import cloudpickle

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.teacher import TeacherSource
from ray_st.planning.rates import Alone, LabelRates
from ray_st.planning.turns import Stint, measured

MOST_PROCESSES = 8
# Of an execution of Ray Data, besides the start of a teacher's process; 1.1 to 2.8 were measured.
RAY_START_S = 1.5
_LOOK_S = 0.1
_ALONE = 0.4  # of a stage's time is for the process that is alone


def calibrate(
    source: TeacherSource,
    rows: pa.Table,
    label: LabelConfig,
    origin: str,
    *,
    stage_s: float,
    teacher_images_per_s: float | None = None,
) -> LabelRates:
    """Label some images for a while, in memory and to a scratch file; starts no Ray.

    Args:
        source: the teacher.
        rows: IMAGE_ROWs of some images.
        label: how it is run.
        origin: words for what is measured.
        stage_s: how long each stage is, seconds.
        teacher_images_per_s: speed of one teacher where it is known; it then labels on the CPU,
            once, for what its labels weigh.

    Raises `UserError` where none of the images can be read, or a GPU is wanted and there is none.
    """
    is_given = teacher_images_per_s is not None
    wants_gpu = label.gpus_per_actor > 0 and not is_given
    if wants_gpu:
        _require_gpu(label)
    if is_given:
        label = replace(label, gpus_per_actor=0.0)
    cores = os.cpu_count() or 1
    count = 1 if wants_gpu else max(1, cores // max(1, int(label.cpus_per_actor)))
    count = min(MOST_PROCESSES, count)
    stint = Stint(source=source, rows=rows, label=label, stage_s=stage_s)
    known = {} if teacher_images_per_s is None else {"predict_s": 1 / teacher_images_per_s}
    alone = None
    if count > 1:
        one = _mean(_together(replace(stint, stage_s=stage_s * _ALONE), 1)) | known
        alone = Alone(**{each.name: one[each.name] for each in fields(Alone)})
    mean = _mean(_together(stint, count)) | known
    if is_given:
        origin += ", the teacher's speed as given"
    side = "process" if count == 1 else "processes side by side"
    return LabelRates(
        **mean,
        in_bytes=mean_bytes(rows["uri"].to_pylist()),
        device="given" if is_given else "cuda" if wants_gpu else "cpu",
        shares_cores=True,
        source=f"measured here on {origin}, {count} {side} on {cores} cores",
        processes=count,
        alone=alone,
    )


def _require_gpu(label: LabelConfig) -> None:
    if not torch.cuda.is_available():
        raise UserError(
            f"label.gpus_per_actor: must be 0 on a machine without a GPU, got "
            f"{label.gpus_per_actor:g}; run `ray-st plan` on a node that has one, or pass "
            "--teacher-images-per-s, or --from-runs with a folder that `ray-st label` left"
        )


def _mean(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of several processes; to their start comes Ray's."""
    mean = {name: statistics.fmean(each[name] for each in found) for name in found[0]}
    mean["start_s"] += RAY_START_S
    return mean


def mean_bytes(uris: Sequence[str]) -> float:
    """Of the files of some images, as far as they tell; of parts of files nothing is asked."""
    sizes = []
    for uri in uris:
        filesystem, path = storage.locate(uri)
        size = filesystem.get_file_info(path).size
        if size is not None:
            sizes.append(size)
    return statistics.fmean(sizes) if sizes else 0.0


def _together(stint: Stint, count: int) -> list[dict[str, float]]:
    """Let processes do a stint side by side, each stage at the same time in all."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(count), context.SimpleQueue()
    sent = cloudpickle.dumps(stint)
    begun = time.time()  # the same clock in all processes
    workers = [
        context.Process(target=_work, args=(sent, barrier, answers, begun)) for _ in range(count)
    ]
    for worker in workers:
        worker.start()
    while any(worker.exitcode is None for worker in workers):
        time.sleep(_LOOK_S)
        if any(worker.exitcode for worker in workers):
            barrier.abort()  # or the others would wait for it
    found: list[Any] = []
    while not answers.empty():
        found.append(answers.get())
    for said in found:
        if isinstance(said, str):
            raise UserError(said)
    if len(found) < count:
        raise UserError(
            "label: a process that labelled a sample of images died, as it does for want of "
            "memory; lower label.batch_size or model.image_size_px"
        )
    return found


def _work(sent: bytes, barrier: Any, answers: Any, begun: float) -> None:
    try:
        answers.put(measured(cloudpickle.loads(sent), barrier.wait, begun))
    except UserError as error:
        answers.put(str(error))
        barrier.abort()
    except BrokenBarrierError:
        return  # another one says why
