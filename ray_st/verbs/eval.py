"""`ray-st eval`: a model's figures on labelled images, by the same pool that labels.

In: a model folder and labelled images. Out: predictions.parquet and the task's figures.
Next: `sweep.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from ray_st.cluster.placement import labeling_needs, require_fits
from ray_st.cluster.session import require_nodes, resources
from ray_st.config import UserError
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.sources import LabeledSet, open_labeled
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.pool import FAILURES, label, read_raw
from ray_st.labeling.teacher import SavedTeacher
from ray_st.models.saved import read_model, require_classes, versions
from ray_st.selftraining.folder import require_one_model, write_summary
from ray_st.selftraining.materials import require_kind
from ray_st.selftraining.saying import headline
from ray_st.selftraining.watching import watched
from ray_st.tasks import make_task
from ray_st.tasks.detection import DetectConfig
from ray_st.training.checkpoints import finite
from ray_st.training.loop import PREDICTIONS
from ray_st.verbs.verb import Verb, complete


@dataclass(frozen=True, kw_only=True)
class EvalVerb(Verb):
    """Measure a model."""

    model: str
    """Model folder that `ray-st train` left, here or in a bucket."""
    data: str
    """Labelled images: coco:PATH, or a path or URI ending in .json."""
    images: str | None = None
    """Folder of the images. None: looked for beside the annotation file."""
    out: str = "runs/eval"
    """Folder of the results; running the same again goes on with it."""
    label: LabelConfig = field(default_factory=LabelConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)


CONFIG = EvalVerb


def run(config: EvalVerb, console: Console) -> None:
    """Predict on every image, and compare."""
    require_one_model(config.model, "model")
    saved = read_model(config.model, "model")
    truth = open_labeled(config.data, images=config.images, images_field="images")
    if truth.rows.num_rows == 0:
        raise UserError(f"data: {config.data} lists no image; name a set that has some")
    card = saved.card
    task = make_task(card.task, card.model, len(card.classes), config.detect)
    require_kind(truth, task.kind, "data", learner="this model", move="pass another --model")
    require_classes(saved, truth.classes, what="model", data=config.data)

    teacher = SavedTeacher(saved=saved, task=task)
    teacher.looks(config.label)  # refuses what it cannot

    def work(where: str) -> dict[str, Any]:
        out = Path(where)
        require_nodes(label=config.label.nodes)
        require_fits(labeling_needs(config.label), **resources())
        return measured(teacher, truth, out, config.label, console)

    summary = complete(config, console, f"{truth.rows.num_rows} images to measure on", work)
    if summary is not None:
        console.print(
            f"eval       {headline(summary['model'], summary['figures'])}", highlight=False
        )


def measured(
    teacher: SavedTeacher,
    truth: LabeledSet,
    out: Path,
    config: LabelConfig,
    console: Console,
) -> dict[str, Any]:
    """Label the images into a folder, and compare; returns the summary that is left there."""
    task, begun = teacher.task, time.monotonic()
    images = truth.rows.select(IMAGE_ROW.names).cast(IMAGE_ROW)
    with watched({"eval": images.num_rows}, console, out) as counters:
        label(Images.of_rows(images), teacher, str(out), config, counters["eval"], exact=True)
    predictions = read_raw(str(out))
    pq.write_table(predictions, out / PREDICTIONS)
    pq.write_table(truth.rows, out / "val.parquet")
    summary = {
        "verb": "eval",
        "model": finite(task.metrics(truth.rows, predictions, truth.classes)),
        "images": truth.rows.num_rows,
        "failures": pq.read_metadata(out / FAILURES).num_rows,
        "findings": dict(truth.findings),
        "classes": list(truth.classes),
        "figures": list(task.figures),
        "seconds": {"eval": time.monotonic() - begun},
        "model_sha256": teacher.digest,
        "views": teacher.looks(config).card,
        "versions": versions(),
    }
    write_summary(out, summary)
    return summary
