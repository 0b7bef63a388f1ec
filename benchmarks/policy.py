"""How long it takes to choose again: a store of millions of boxes under several policies.

The store is made here: boxes of random sizes in clusters, so that NMS has work, 80 classes, scores
mostly low, a hundred boxes an image, as a detector leaves them above its floor. Measured is the
verb's whole way from Parquet to Parquet, each policy in a process of its own, which has loaded all
that it needs before the clock starts. Memory is that process's before and at its peak.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pairs import machine

from ray_st.data.labels import Detections, Origin, ragged
from ray_st.data.rows import label_row
from ray_st.labeling.policy import PolicyConfig
from ray_st.labeling.rows import OK, store_row
from ray_st.labeling.store import Store
from ray_st.selftraining.acceptance import LabelledPool, policy_stage

BOXES_AN_IMAGE, NUM_CLASSES, ROWS_A_FILE, SIDE_PX = 100, 80, 10_000, 640
POLICIES: dict[str, dict[str, Any]] = {
    "threshold": {},
    "band, sizes, best of an image": {
        "ignore_from": 0.3,
        "min_size_px": 8.0,
        "max_per_image": 20,
        "class_thresholds": ("class 3 0.7",),
    },
    "balanced share": {"balance_share": 0.1},
    "hard NMS": {"nms": "hard", "nms_iou": 0.4},
    "Soft-NMS": {"nms": "soft"},
    "all at once": {
        "nms": "hard",
        "nms_iou": 0.4,
        "balance_share": 0.1,
        "max_per_class": 10_000,
        "ignore_from": 0.3,
        "min_size_px": 8.0,
        "max_per_image": 20,
    },
}


def part(start: int, count: int) -> pa.Table:
    """LABEL_ROWs of `count` images."""
    rng = np.random.default_rng([0, start])
    boxes = count * BOXES_AN_IMAGE
    row = np.repeat(np.arange(count), BOXES_AN_IMAGE)
    # Twenty objects an image, each seen about five times.
    objects = rng.uniform(0, SIDE_PX - 100, (count * 20, 2))
    seen = objects[row * 20 + rng.integers(0, 20, boxes)] + rng.normal(0, 8, (boxes, 2))
    corner = seen.clip(0, SIDE_PX - 100)
    found = Detections.of(
        np.concatenate([corner, corner + rng.uniform(4, 100, (boxes, 2))], axis=1),
        rng.integers(0, NUM_CLASSES, boxes),
        scores=0.05 + 0.95 * rng.beta(0.6, 2.5, boxes),
    )
    order = np.lexsort((-found.scores, row))  # as a detector leaves them: best first
    size = np.full(count, SIDE_PX, np.int32)
    columns = [
        pa.array(np.arange(start, start + count)),
        pa.array([f"/pool/{i:09d}.jpg" for i in range(start, start + count)]),
        pa.array(size),
        pa.array(size),
        pa.array(np.full(count, int(Origin.PSEUDO), np.int8)),
        *(
            ragged.apart(getattr(found, field.name)[order], row, count, field.type.value_type)
            for field in Detections.FIELDS
        ),
    ]
    return pa.table(columns, schema=label_row(Detections))


def make_store(folder: Path, num_boxes: int) -> LabelledPool:
    """Write a store as `label` leaves one."""
    made = Store(str(folder / "raw"))
    made.claim({"teacher_sha256": "", "task": "detection"})
    shard = made.shard(0)
    Path(shard.folder).mkdir()
    images = num_boxes // BOXES_AN_IMAGE
    for start in range(0, images, ROWS_A_FILE):
        table = part(start, min(ROWS_A_FILE, images - start))
        for name, text in (("status", OK), ("stage", None), ("reason", None)):
            column = pa.array([text] * table.num_rows, pa.string())
            table = table.append_column(name, column)
        table = table.cast(store_row(Detections))
        file = shard.file(f"{start:09d}.parquet")
        pq.write_table(table, file, compression="zstd", row_group_size=ROWS_A_FILE // 4)
    shard.publish()
    summary = {
        "classes": [f"class {k}" for k in range(NUM_CLASSES)],
        "teacher_sha256": "",
        "pseudo": {"failures": 0},
    }
    return LabelledPool(folder=str(folder), kind=Detections, summary=summary, holdout=None)


def held_mib(what: str) -> float:
    """Memory of this process: VmRSS now, VmHWM at its peak (getrusage knows the parent's too)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def measure(given: tuple[LabelledPool, dict[str, Any]]) -> dict[str, float]:
    """Seconds of wall and of CPU time, MiB at the start and at the peak, boxes kept an image."""
    store, fields = given
    torch.set_num_threads(2)
    pa.set_cpu_count(2)
    with tempfile.TemporaryDirectory() as folder:
        before, wall, cpu = held_mib("VmRSS"), time.monotonic(), time.process_time()
        summary = policy_stage(store, PolicyConfig(**fields), folder)
        return {
            "wall": time.monotonic() - wall,
            "cpu": time.process_time() - cpu,
            "before": before,
            "peak": held_mib("VmHWM"),
            "kept": summary["pseudo"]["boxes_per_image"],
        }


def main() -> None:
    """Measure every policy, each as often as asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--boxes", type=int, default=10_000_000, help="in the store (default 10M)")
    parser.add_argument("--repeats", type=int, default=3, help="of each policy (default 3)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), given.boxes)
        print(f"{machine()}; {given.boxes:,} boxes, {BOXES_AN_IMAGE} an image")
        for name, fields in POLICIES.items():
            runs = []
            for _ in range(given.repeats):
                with multiprocessing.get_context("spawn").Pool(1) as alone:
                    runs.append(alone.apply(measure, [(store, fields)]))
            runs.sort(key=lambda run: run["wall"])
            middle, peak = runs[len(runs) // 2], max(run["peak"] for run in runs)
            print(
                f"  {name:<32}{middle['wall']:6.1f} s ({runs[0]['wall']:.1f} to "
                f"{runs[-1]['wall']:.1f}), {middle['cpu']:6.1f} CPU s, "
                f"{middle['before']:.0f} -> {peak:.0f} MiB, "
                f"{middle['kept']:.1f} boxes an image kept"
            )


if __name__ == "__main__":
    main()
