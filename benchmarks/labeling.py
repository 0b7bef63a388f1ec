"""Labelling through the actor pool against the bare model on preloaded pixels.

Marginal rates: the slope between two run sizes, so that starting Ray and its actors stands apart.
One teacher actor with one thread; reading and decoding run beside it, as they do in a real run. Two
figures: images a second of wall time, and of CPU time (the whole machine's, all processes of Ray
included), which says what the pipeline costs when cores are short.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pyarrow as pa
import torch
from pairs import busy_s, compare, parse_pairs
from world import MODEL, random_model, scenes

from ray_st.cluster.session import connected
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.views import fitted_views
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.pool import label
from ray_st.labeling.teacher import SavedTeacher, Teacher
from ray_st.tasks import make_task

SMALL, LARGE, BATCH = 384, 1920, 32


def repeated(images: pa.Table, count: int) -> pa.Table:
    """`count` rows that name the same files again and again, each with an id of its own."""
    rows = images.take(pa.array([i % images.num_rows for i in range(count)]))
    return rows.set_column(0, "image_id", pa.array(range(count), pa.int64())).cast(IMAGE_ROW)


def pool_run(images: pa.Table, teacher: SavedTeacher, count: int) -> tuple[float, float]:
    """Wall and CPU seconds of labelling `count` images."""
    with tempfile.TemporaryDirectory() as folder:
        config = LabelConfig(actors=(1, 1), batch_size=BATCH, block_images=128, readers=1)
        wall, cpu = time.monotonic(), busy_s()
        label(Images.of_rows(repeated(images, count)), teacher, folder, config, None)
        return time.monotonic() - wall, busy_s() - cpu


def bare_rate(teacher: Teacher, images: pa.Table) -> tuple[float, float]:
    """Images a second of wall and of CPU time, forward and post-processing alone."""
    views = fitted_views(images.slice(0, 256), MODEL.image_size_px)
    starts = range(0, 256, BATCH)
    teacher.predict(views.pixels[:BATCH], views.sizes_hw[:BATCH])
    wall, cpu = time.monotonic(), time.process_time()
    for start in starts:
        teacher.predict(views.pixels[start : start + BATCH], views.sizes_hw[start : start + BATCH])
    return 256 / (time.monotonic() - wall), 256 / (time.process_time() - cpu)


def main() -> None:
    """Print both ratios."""
    pairs = parse_pairs(__doc__ or "")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        labeled = scenes(Path(folder), 256)
        images = labeled.rows.select(IMAGE_ROW.names).cast(IMAGE_ROW)
        saved = random_model(labeled.classes)
        task = make_task("detection", MODEL, len(labeled.classes))
        source = SavedTeacher(saved=saved, task=task)
        teacher = source.load("cpu", source.looks(LabelConfig()))
        with connected("local"):
            start_up = pool_run(images, source, BATCH)[0]  # also warms Ray up
            rates: dict[str, list[float]] = {"ours": [], "bare": []}

            def ours() -> float:
                small, large = (pool_run(images, source, count) for count in (SMALL, LARGE))
                rates["ours"].append((LARGE - SMALL) / (large[1] - small[1]))
                return (LARGE - SMALL) / (large[0] - small[0])

            def bare() -> float:
                wall, cpu = bare_rate(teacher, images)
                rates["bare"].append(cpu)
                return wall

            compare("labelling, images a second of wall time", ours, bare, pairs)
            print("\nlabelling, images a second of CPU time")
            ratios = sorted(a / b for a, b in zip(rates["ours"], rates["bare"], strict=True))
            for a, b in zip(rates["ours"], rates["bare"], strict=True):
                print(f"  ours {a:8.1f}  bare {b:8.1f}  ratio {a / b:.3f}")
            print(f"  median ratio {ratios[len(ratios) // 2]:.3f}")
            print(f"\nfirst labels {start_up:.1f} s after the call, Ray already running")


if __name__ == "__main__":
    main()
