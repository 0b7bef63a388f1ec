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
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import cycle
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import pyarrow as pa
import torch
from ray import cloudpickle

from ray_st.config import UserError
from ray_st.data import parquet, storage
from ray_st.data.views import fitted_views
from ray_st.labeling.actor import TeacherActor
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.rows import store_row
from ray_st.labeling.teacher import TeacherSource
from ray_st.planning.rates import Alone, LabelRates

MOST_PROCESSES = 8
# Of an execution of Ray Data, besides the start of a teacher's process; 1.1 to 2.8 were measured.
RAY_START_S = 1.5
_LOOK_S = 0.1
_ALONE = 0.4  # of a stage's time is for the process that is alone
_LEAST = 2  # turns of a stage, behind one that does not count


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What a process is to do."""

    source: TeacherSource
    rows: pa.Table  # IMAGE_ROWs
    label: LabelConfig
    stage_s: float


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
    if wants_gpu and not torch.cuda.is_available():
        raise UserError(
            f"label.gpus_per_actor: must be 0 on a machine without a GPU, got "
            f"{label.gpus_per_actor:g}; run `ray-st plan` on a node that has one, or pass "
            "--teacher-images-per-s, or --from-runs with a folder that `ray-st label` left"
        )
    if is_given:
        label = replace(label, gpus_per_actor=0.0)
    cores = os.cpu_count() or 1
    count = 1 if wants_gpu else max(1, cores // max(1, int(label.cpus_per_actor)))
    count = min(MOST_PROCESSES, count)
    task = _Task(source=source, rows=rows, label=label, stage_s=stage_s)
    known = {} if teacher_images_per_s is None else {"predict_s": 1 / teacher_images_per_s}
    alone = None
    if count > 1:
        one = _mean(_together(replace(task, stage_s=stage_s * _ALONE), 1)) | known
        alone = Alone(**{each.name: one[each.name] for each in fields(Alone)})
    mean = _mean(_together(task, count)) | known
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


def _together(task: _Task, count: int) -> list[dict[str, float]]:
    """Let processes do the task side by side, each stage at the same time in all."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(count), context.SimpleQueue()
    sent = cloudpickle.dumps(task)
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
        answers.put(_measured(cloudpickle.loads(sent), barrier, begun))
    except UserError as error:
        answers.put(str(error))
        barrier.abort()
    except BrokenBarrierError:
        return  # another one says why


def _measured(task: _Task, barrier: Any, begun: float) -> dict[str, float]:
    label, looks = task.label, task.source.looks(task.label)
    schema = store_row(task.source.task.kind, task.source.digest, looks.card)
    actor = TeacherActor(
        task.source, looks, schema, label.cpus_per_actor, label.gpus_per_actor, None, None
    )
    start_s = time.time() - begun
    size = label.batch_size
    batches = cycle(task.rows.slice(at, size) for at in range(0, task.rows.num_rows, size))
    sizes: list[int] = []

    def read() -> pa.Table:
        batch = next(batches)
        sizes.append(batch.num_rows)
        return _handed_over(fitted_views(batch, looks.largest_px).to_table())

    barrier.wait()
    torch.set_num_threads(1)
    read_s, views = _timed(read, task.stage_s)
    if views["stage"].null_count == 0:
        raise UserError(
            f"images: none of {views.num_rows} images of the sample can be read "
            f"({views['reason'][0]}); mend the pool or name another"
        )
    torch.set_num_threads(max(1, int(label.cpus_per_actor)))
    barrier.wait()
    one_s, _ = _timed(lambda: actor(views.slice(0, 1)), 0.0)
    views = views.slice(0, max(1, int(task.stage_s / one_s)))  # of a slow model not a whole batch
    predict_s, rows = _timed(lambda: actor(views), task.stage_s)
    barrier.wait()
    torch.set_num_threads(1)
    many = pa.concat_tables([rows] * -(-label.file_images // rows.num_rows))
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "labels.parquet"))
        write_s, _ = _timed(lambda: parquet.write(file, many), task.stage_s / 3)
        out_bytes = Path(file).stat().st_size
    return {
        "read_s": read_s / statistics.fmean(sizes),
        "predict_s": predict_s / rows.num_rows,
        "write_s": write_s / many.num_rows,
        "start_s": start_s,
        "out_bytes": out_bytes / many.num_rows,
        "view_bytes": 3.0 * looks.largest_px**2,
    }


def _handed_over(table: pa.Table) -> pa.Table:
    """What Ray does between two processes: written to shared memory, read without a copy."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def _timed(work: Callable[[], Any], seconds: float) -> tuple[float, Any]:
    """Seconds of one turn, and what the last one gave; the first only counts if it is long."""
    begun = time.perf_counter()
    found = work()
    first = time.perf_counter() - begun
    if first >= seconds:
        return first, found
    begun, turns = time.perf_counter(), 0
    while turns < _LEAST or time.perf_counter() - begun < seconds:
        found = work()
        turns += 1
    return (time.perf_counter() - begun) / turns, found
