"""How long it takes to write pseudo labels for other tools, and in how much memory.

The store is that of `policy.py`, a hundred boxes an image, all of them accepted. Measured is the
way from Parquet to the format's files, each format in a process of its own, beside a plain copy of
as many bytes for COCO, and of as many small files for the others.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from pairs import machine
from policy import BOXES_AN_IMAGE, held_mib, make_store

from ray_st.labeling.export.formats import Format
from ray_st.labeling.export.names import common_prefix
from ray_st.labeling.policy import PolicyConfig
from ray_st.selftraining.exporting import export_stage, open_accepted
from ray_st.selftraining.folder import write_summary

FORMATS: tuple[Format, ...] = ("coco", "yolo", "voc")


def measure(given: tuple[str, Format]) -> tuple[float, float, float, float]:
    """Seconds, those of the plain writing, MiB before and at the peak."""
    store, form = given
    pa.set_cpu_count(2)
    with tempfile.TemporaryDirectory() as folder:
        before, begun = held_mib("VmRSS"), time.monotonic()
        pool = open_accepted(store, PolicyConfig(score_threshold=0.0))
        export_stage(pool, form, common_prefix(pool.uris(), None), Path(folder))
        seconds = time.monotonic() - begun
        peak = held_mib("VmHWM")
        return seconds, plain(Path(folder)), before, peak


def plain(folder: Path) -> float:
    """Seconds of writing the same files again, their bytes at hand."""
    spent = 0.0
    for path in (each for each in folder.rglob("*") if each.is_file() and not each.is_symlink()):
        content, again = path.read_bytes(), path.with_name(f"{path.name}.again")
        begun = time.monotonic()
        again.write_bytes(content)
        spent += time.monotonic() - begun
    return spent


def main() -> None:
    """Measure every format, each as often as asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--boxes", type=int, default=10_000_000, help="in the store (default 10M)")
    parser.add_argument("--repeats", type=int, default=3, help="of each format (default 3)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), given.boxes)
        images = given.boxes // BOXES_AN_IMAGE
        facts = {"images": images, "failures": 0}
        write_summary(Path(folder), {**store.summary, "verb": "label", "pseudo": facts})
        print(f"{machine()}; {given.boxes:,} boxes, {BOXES_AN_IMAGE} an image")
        for form in FORMATS:
            runs = []
            for _ in range(given.repeats):
                with multiprocessing.get_context("spawn").Pool(1) as alone:
                    runs.append(alone.apply(measure, [(folder, form)]))
            seconds, bare, before, _ = sorted(runs)[len(runs) // 2]
            print(
                f"  {form:<5}{seconds:6.1f} s, {given.boxes / seconds:,.0f} boxes/s, "
                f"{images / seconds:,.0f} images/s, {seconds / bare:.1f} times plain writing, "
                f"{before:.0f} -> {max(run[3] for run in runs):.0f} MiB"
            )


if __name__ == "__main__":
    main()
