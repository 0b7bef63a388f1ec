"""`ray-st export`: pseudo labels in the formats of other tools.

In: a folder that `label` or `policy` left. Out: COCO, YOLO or PASCAL VOC. Needs no cluster and no
accelerator. Next: `export_model.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ray_st.labeling.export.formats import Format, writer
from ray_st.labeling.export.names import common_prefix
from ray_st.labeling.policy import PolicyConfig
from ray_st.selftraining.exporting import export_stage, open_accepted
from ray_st.verbs.verb import OwnFolder, complete_here, say_warnings


@dataclass(frozen=True, kw_only=True)
class ExportVerb(OwnFolder):
    """Write pseudo labels for other tools."""

    pseudo: str
    """Folder that `ray-st label` left, from which policy chooses, or that `ray-st policy` left."""
    format: Format
    """coco: boxes, one JSON. yolo: boxes, a text file an image. voc: boxes or class maps, a file an
    image."""
    out: str = "runs/export"
    """Folder of the results; running the same again goes on with it."""
    images_root: str | None = None
    """Folder or URI below which images are named. None: the deepest that holds all of them."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)


CONFIG = ExportVerb


def run(config: ExportVerb, console: Console) -> None:
    """Write, and say what it came to."""
    pool = open_accepted(config.pseudo, config.policy)
    writer(config.format, pool.kind, pool.summary["classes"])
    prefix = common_prefix(pool.uris(), config.images_root)

    def work(where: str) -> dict[str, Any]:
        out = Path(where)
        return export_stage(pool, config.format, prefix, out)

    plan = f"{pool.summary['pseudo']['images']} labelled images to write as {config.format}"
    summary = complete_here(config, console, plan, work)
    if summary is not None:
        say_warnings(summary, console)
        console.print(f"export     {_came_to(summary)}", highlight=False, soft_wrap=True)


def _came_to(summary: Mapping[str, Any]) -> str:
    found = summary["exported"]
    boxes = f"{found['boxes']} boxes, " if "boxes" in found else ""
    return (
        f"{found['images']} images, {boxes}{found['empty']} empty, {found['named_by_id']} named by "
        f"their ids; {found['failures']} failures left out"
    )
