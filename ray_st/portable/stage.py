"""The whole export: a file is written, run, compared, and only then given its name.

In: a model, its task, views to compare on. Out: a folder with the file, `export.json` and
`summary.json`. Next: `ray_st.report`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.models.saved import SavedModel, versions
from ray_st.portable.agreement import Agreement, together
from ray_st.portable.card import EXPORT, described
from ray_st.portable.files import FILES, Format, Run, opened, write
from ray_st.portable.heads import Head, Wanted, head_of
from ray_st.portable.pictures import noise_views
from ray_st.portable.replay import DisagreementError
from ray_st.selftraining.folder import write_summary
from ray_st.tasks.detection import Detection
from ray_st.tasks.task import Task

_BATCH = 3
_UNCHECKED = "unchecked"  # folder of a file that nobody has run yet


def export_model_stage(
    saved: SavedModel, task: Task, name: Format, wanted: Wanted, images: np.ndarray, out: Path
) -> dict[str, Any]:
    """Export into a folder; returns the summary that is left there.

    `images`: views (n, side, side, 3) to compare on, besides noise; n may be 0.
    """
    begun, model = time.monotonic(), saved.load()
    side_px = saved.card.model.image_size_px
    head = head_of(task, model, side_px, wanted)
    views = np.concatenate([noise_views(side_px), images])
    found, example = _kept(saved, model, head, name, views, out)
    warnings = _unproved(found, wanted) + _name_classes(saved.card.classes, name, out)
    detect = task.detect if isinstance(task, Detection) and wanted == "labels" else None
    checked = {"images": len(views), "batches": [1, _BATCH], **asdict(found)}
    card = described(saved, head, name, example, detect, checked)
    storage.put(str(out / EXPORT), (json.dumps(card, indent=2) + "\n").encode())
    summary = {
        "verb": "export-model",
        "format": name,
        "outputs": wanted,
        "file": FILES[name],
        "file_bytes": (out / FILES[name]).stat().st_size,
        "checked": checked,
        "warnings": warnings,
        "classes": list(saved.card.classes),
        "model_sha256": saved.digest,
        "seconds": {"export-model": time.monotonic() - begun},
        "versions": versions(),
    }
    write_summary(out, summary)
    return summary


def _kept(
    saved: SavedModel, model: nn.Module, head: Head, name: Format, views: np.ndarray, out: Path
) -> tuple[Agreement, dict[str, np.ndarray]]:
    """Write a file and compare it; how close it is, and what it gives for two views."""
    scratch = out / _UNCHECKED / FILES[name]
    scratch.parent.mkdir(exist_ok=True)
    # A file's weights lie as any program expects them, not as they are fastest here.
    plain = saved.load().to(memory_format=torch.contiguous_format)
    for weight in plain.parameters():
        weight.requires_grad = False
    try:
        write(name, plain, head, saved.card.model.image_size_px, scratch)
        run = opened(name, scratch)
        found = compared(run, model, head, views)
        example = run(_pixels(views[:2]))
        scratch.rename(out / FILES[name])
    except DisagreementError as error:
        raise UserError(
            f"format: the {name} file gave other results than the model ({error}), so it was not "
            "kept; try the other format, or another model.backbone"
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
        scratch.parent.rmdir()
    return found, example


def compared(run: Run, model: nn.Module, head: Head, views: np.ndarray) -> Agreement:
    """Compare a file with a model on views, the first alone, then by threes."""
    parts = []
    for batch in _batches(views):
        with torch.no_grad():
            # A permuted view of HWC memory is channels-last, as a teacher sees it.
            outputs = model(torch.from_numpy(batch).permute(0, 3, 1, 2))
            parts.append(head.agreement(run(_pixels(batch)), outputs))
    return together(parts)


def _batches(views: np.ndarray) -> Iterator[np.ndarray]:
    yield views[:1]
    yield from (views[i : i + _BATCH] for i in range(0, len(views), _BATCH))


def _pixels(views: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(views.transpose(0, 3, 1, 2))


def _unproved(found: Agreement, wanted: Wanted) -> list[str]:
    if found.compared or wanted == "logits":
        return []
    return [
        "the model found no box on the images of the check, so boxes were not compared; pass "
        "--images with a folder of images that show its classes"
    ]


def _name_classes(classes: Sequence[str], name: Format, out: Path) -> list[str]:
    """Write class names beside a graph, as `ray-st label --teacher onnx:FILE` wants them."""
    if name != "onnx":
        return []
    lines = out / Path(FILES[name]).with_suffix(".txt")
    text = "".join(f"{each}\n" for each in classes)
    if text.splitlines() != [each.strip() for each in classes] or "" in text.splitlines():
        return [f"class names do not all fit a line each: {lines.name} was left out"]
    lines.write_text(text, "utf-8")
    return []
