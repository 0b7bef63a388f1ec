"""`ray-st doctor`: what would make a run fail or disappoint, before it starts.

In: what `run` and `train` take. Out: a line a finding, and a folder with doctor.json and pictures;
status 1 where something would fail. Trains nothing. Next: `ray_st.cli`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ray_st.config import UserError, require
from ray_st.data import storage
from ray_st.data.labels import Origin
from ray_st.data.sources import DataConfig
from ray_st.models.saved import versions
from ray_st.recipe import dump
from ray_st.report.checked import Step, first_batches_sheet, unseen_boxes_sheet
from ray_st.report.sheet import Sheet
from ray_st.selftraining.checkup.finding import SEVERITIES, Finding
from ray_st.selftraining.checkup.sets import Sampling
from ray_st.selftraining.examination import Examination, examine
from ray_st.training.checkpoints import finite
from ray_st.verbs.verb import LoopSections, Verb, recipe_of, require_own, say_plan

JSON, FIRST, UNSEEN = LEFT = ("doctor.json", "first_batches.png", "unseen_boxes.png")
_STEPS = 2  # on the sheet, of each origin


@dataclass(frozen=True, kw_only=True)
class DoctorVerb(LoopSections, Verb):
    """Look before a run."""

    out: str = "runs/doctor"
    """Folder of doctor.json and the pictures, which are written anew each time."""
    pseudo: str | None = None
    """Folder that `ray-st label` or `ray-st policy` left: check its labels too."""
    sample: int = 200
    """Images of each set that are read, spread over it; and class maps that are counted."""
    all: bool = False
    """Read all images, count all maps and compare all files that may be copies."""
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        require(self.sample >= 1, "sample", "at least 1", self.sample)


CONFIG = DoctorVerb


def run(config: DoctorVerb, console: Console) -> int | None:
    """Check all, tell it line by line, and leave it in `config.out`."""
    out = Path(config.out)
    require_own(out, LEFT)
    if config.dry_run:
        images = "all images" if config.all else f"up to {config.sample} images of each set"
        say_plan(dump(recipe_of(config)), console, f"{images} would be read")
        return None
    begun = time.monotonic()
    sampling = Sampling(images=config.sample, is_all=config.all)

    def tell(finding: Finding) -> None:
        console.out(finding.line, highlight=False)

    done = examine(config, config.address, sampling, tell)
    counts = Counter(finding.severity for finding in done.findings)
    status = 1 if counts["fail"] else 0
    facts = {
        "verb": "doctor",
        "status": status,
        "findings": [asdict(finding) for finding in done.findings],
        "recipe": recipe_of(config),
        "seconds": {"doctor": time.monotonic() - begun},
        "versions": versions(),
    }
    names = _write(out, done, facts)
    said = ", ".join(f"{counts[severity]} {severity}" for severity in SEVERITIES)
    console.out(f"{'doctor':<11}{said}", highlight=False)
    for name in names:
        console.out(str(out / name), highlight=False)
    return status


def _write(out: Path, done: Examination, facts: dict[str, Any]) -> list[str]:
    """Leave the pictures and all findings with their numbers; returns the names of the files."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for stale in LEFT:
            (out / stale).unlink(missing_ok=True)
        sheets = _sheets(done)
        for name, sheet in sheets.items():
            sheet.picture().save(out / name, "PNG")
        text = json.dumps(finite({**facts, "pictures": [*sheets]}), indent=2) + "\n"
        storage.put(str(out / JSON), text.encode())
    except OSError as error:
        raise UserError(
            f"out: {out} cannot be written ({error.strerror}); pass --out with another folder"
        ) from error
    return [*sheets, JSON]


def _sheets(done: Examination) -> dict[str, Sheet]:
    """What there is to look at."""
    sheets = {}
    if steps := _steps(done):
        sheets[FIRST] = first_batches_sheet(steps)
    if done.unseen is not None and done.unseen.num_rows:
        size_px = done.config.model.image_size_px
        sheets[UNSEEN] = unseen_boxes_sheet(done.unseen, size_px, done.classes)
    return sheets


def _steps(done: Examination) -> list[Step]:
    """The first steps that views were made of, all origins of one before the next."""
    return [
        Step(
            number=step + 1,
            origin=each.origin,
            views=each.of_step(step),
            classes=done.joint_classes if each.origin is Origin.JOINT else done.classes,
        )
        for step in range(_STEPS)
        for each in done.first
        if step < each.num_steps
    ]
