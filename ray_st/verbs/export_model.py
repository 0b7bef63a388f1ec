"""`ray-st export-model`: a model as one file that other programs run without ray_st.

In: a model folder. Out: `model.onnx` or `model.pt2`, compared with the model, and `export.json`.
Needs no cluster and no accelerator. Next: `eval.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ray_st.models.saved import read_model
from ray_st.portable.files import Format, require_format
from ray_st.portable.heads import Wanted
from ray_st.portable.pictures import image_rows, image_views
from ray_st.portable.stage import export_model_stage
from ray_st.selftraining.folder import require_one_model
from ray_st.tasks import make_task
from ray_st.tasks.detection import DetectConfig
from ray_st.verbs.verb import OwnFolder, complete_here, say_warnings


@dataclass(frozen=True, kw_only=True)
class ExportModelVerb(OwnFolder):
    """Write a model for other programs."""

    model: str
    """Model folder that `ray-st train` left, here or in a bucket."""
    format: Format
    """onnx: model.onnx, for onnxruntime and others. torch: model.pt2, for torch.export.load."""
    outputs: Wanted = "labels"
    """labels: boxes after NMS, class maps or probabilities. logits: what the network says."""
    images: str | None = None
    """Folder of images to compare file and model on, besides noise; the first 32 are taken."""
    out: str = "runs/export_model"
    """Folder of the results; running the same again prints what stands there."""
    detect: DetectConfig = field(default_factory=DetectConfig)


CONFIG = ExportModelVerb


def run(config: ExportModelVerb, console: Console) -> None:
    """Write, compare, and say how close they are."""
    require_one_model(config.model, "model")
    saved = read_model(config.model, "model")
    card = saved.card
    require_format(config.format, saved)
    task = make_task(card.task, card.model, len(card.classes), config.detect)
    images = image_views(image_rows(config.images), card.model.image_size_px)

    def work(where: str) -> dict[str, Any]:
        out = Path(where)
        return export_model_stage(saved, task, config.format, config.outputs, images, out)

    plan = f"a {card.task} model of {len(card.classes)} classes to write as {config.format}"
    summary = complete_here(config, console, plan, work)
    if summary is not None:
        say_warnings(summary, console)
        for line in _came_to(summary):
            console.print(line, highlight=False, soft_wrap=True)


def _came_to(summary: Mapping[str, Any]) -> list[str]:
    checked = summary["checked"]
    largest = ", ".join(f"{name} {value:.2g}" for name, value in checked["largest"].items())
    ties = f", near ties on {n} images" if (n := checked["near_ties"]) else ""
    return [
        f"{'export':<11}{summary['file']}, {summary['file_bytes'] / 1e6:.1f} MB",
        f"{'checked':<11}{checked['compared']} {checked['what']} of {checked['images']} images; "
        f"largest differences: {largest}{ties}",
    ]
