"""What an image takes one process, turn after turn: the reader, the teacher, the writer, all real.

In: a `Stint`. Out: seconds and bytes by name. Next: `calibration.py`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from ray_st.config import UserError
from ray_st.data import parquet
from ray_st.data.views import fitted_views
from ray_st.labeling.actor import TeacherActor
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.rows import store_row
from ray_st.labeling.teacher import TeacherSource

_LEAST = 2  # turns of a stage, behind one that does not count
_HELD_BYTES = 256 * 2**20  # of views that are kept for the teacher
_SINGLES = 8  # files of one row that are written


@dataclass(frozen=True, kw_only=True)
class Stint:
    """What a process is to do."""

    source: TeacherSource
    rows: pa.Table  # IMAGE_ROWs
    label: LabelConfig
    stage_s: float


def measured(stint: Stint, wait: Callable[[], Any], begun: float) -> dict[str, float]:
    """Do it all, and `wait` for the other processes before each stage.

    `begun`: when the process was started, seconds of the clock. Raises `UserError` where none of
    the images can be read.
    """
    label, looks = stint.label, stint.source.looks(stint.label)
    schema = store_row(stint.source.task.kind, stint.source.digest, looks.card)
    actor = TeacherActor(
        stint.source, looks, schema, label.cpus_per_actor, label.gpus_per_actor, None, None
    )
    start_s = time.time() - begun
    wait()
    torch.set_num_threads(1)
    read_s, views = _read(stint, looks.largest_px)
    torch.set_num_threads(max(1, int(label.cpus_per_actor)))
    wait()
    predict_s, rows = _labelled(actor, views, stint.stage_s)
    wait()
    torch.set_num_threads(1)
    write_s, out_bytes = written(rows, label.file_images, stint.stage_s / 3)
    return {
        "read_s": read_s,
        "predict_s": predict_s,
        "write_s": write_s,
        "start_s": start_s,
        "out_bytes": out_bytes,
        "view_bytes": 3.0 * looks.largest_px**2,
    }


def _read(stint: Stint, side_px: int) -> tuple[float, list[pa.Table]]:
    """Seconds an image, and as many different views as are held, some in each table."""
    rows, size = stint.rows, stint.label.batch_size
    batches = [rows.slice(at, size) for at in range(0, rows.num_rows, size)]
    turns, sizes = cycle(range(len(batches))), list[int]()
    held: dict[int, pa.Table] = {}

    def read() -> None:
        number = next(turns)
        views = _handed_over(fitted_views(batches[number], side_px).to_table())
        sizes.append(views.num_rows)
        if not held or sum(each.nbytes for each in held.values()) < _HELD_BYTES:
            held.setdefault(number, views)

    seconds = _turn_s(read, stint.stage_s)
    if all(each["stage"].null_count == 0 for each in held.values()):
        count = sum(each.num_rows for each in held.values())
        raise UserError(
            f"images: none of {count} images of the sample can be read "
            f"({held[0]['reason'][0]}); mend the pool or name another"
        )
    return _each(seconds, sizes), list(held.values())


def _labelled(
    actor: Callable[[pa.Table], pa.Table], views: Sequence[pa.Table], stage_s: float
) -> tuple[float, pa.Table]:
    """Seconds an image, and STORE_ROWs of all different images that there was time for."""
    one_s = _turn_s(lambda: actor(views[0].slice(0, 1)), 0.0)
    parts = [part for each in views for part in _parts(each, max(1, int(stage_s / one_s)))]
    turns, sizes = cycle([*range(1, len(parts)), 0]), list[int]()
    found: dict[int, pa.Table] = {}

    def predict() -> None:
        number = next(turns)
        found[number] = actor(parts[number])
        sizes.append(parts[number].num_rows)

    seconds = _turn_s(predict, stage_s)
    return _each(seconds, sizes), pa.concat_tables(found.values())


def _parts(table: pa.Table, most: int) -> list[pa.Table]:
    """Of about one size, for a slow model shorter than a batch."""
    size = -(-table.num_rows // -(-table.num_rows // most))
    return [table.slice(at, size) for at in range(0, table.num_rows, size)]


def written(rows: pa.Table, file_images: int, seconds: float) -> tuple[float, float]:
    """Seconds and bytes that a row costs in a file of so many, all of them different.

    There are few that are, and the same ones again would fold to nothing in a file. So a file of
    all of them and files of one row each tell what a row costs, and what a file does besides.
    """
    count = min(_SINGLES, rows.num_rows)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "labels.parquet"))

        def cost(part: pa.Table, stage_s: float) -> tuple[float, float]:
            return _turn_s(lambda: parquet.write(file, part), stage_s), Path(file).stat().st_size

        singles = [
            cost(rows.slice(at * rows.num_rows // count, 1), seconds / 2 / count)
            for at in range(count)
        ]
        whole = cost(rows, seconds / 2)
    costs = []
    for one, together in zip(map(statistics.fmean, zip(*singles, strict=True)), whole, strict=True):
        more = max(0.0, together - one) / (rows.num_rows - 1) if rows.num_rows > 1 else one
        costs.append(more + (one - more) / file_images)
    return costs[0], costs[1]


def _handed_over(table: pa.Table) -> pa.Table:
    """What Ray does between two processes: written to shared memory, read without a copy."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def _turn_s(work: Callable[[], Any], seconds: float) -> float:
    """Seconds of one turn; the first only counts if it is long."""
    begun = time.perf_counter()
    work()
    first = time.perf_counter() - begun
    if first >= seconds:
        return first
    begun, turns = time.perf_counter(), 0
    while turns < _LEAST or time.perf_counter() - begun < seconds:
        work()
        turns += 1
    return (time.perf_counter() - begun) / turns


def _each(turn_s: float, sizes: Sequence[int]) -> float:
    """Seconds an image, of turns of so many; the first does not count, as above."""
    return turn_s / statistics.fmean(sizes[1:] or sizes)
