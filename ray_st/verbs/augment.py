"""`ray-st augment`: a contact sheet of training views, to see what a policy does to the images.

In: human labels, or the demo world. Out: a PNG: images in columns, policies in rows, labels drawn.
Starts no Ray. Next: `doctor.py`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image
from rich.console import Console

from ray_st.config import UserError, require
from ray_st.data.augment import AugmentConfig
from ray_st.data.labels import Labels
from ray_st.data.sources import DataConfig, LabeledSet
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.models import ModelConfig
from ray_st.report.augmented import Showing, augmented_sheet
from ray_st.report.sampling import sample
from ray_st.selftraining.materials import open_train
from ray_st.tasks import TaskName, make_task
from ray_st.training.schedule import TrainConfig

_PNG = b"\x89PNG\r\n\x1a\n"  # how every such file begins


@dataclass(frozen=True, kw_only=True)
class AugmentVerb:
    """Draw what training sees."""

    out: str = "sheet.png"
    """The sheet, a PNG file; its folder is made."""
    overwrite: bool = False
    """Replace a sheet that is there."""
    images: int = 4
    """How many images, a column each; spread over the set, those with labels first."""
    magnitudes: tuple[float, ...] = (5.0, 10.0, 15.0)
    """Levels of S4 to show, a row each; as augment.magnitude."""
    side_px: int = 240
    """Longer side of a picture on the sheet, pixels."""
    dry_run: bool = False
    """Resolve and check everything, print it, and stop."""
    task: TaskName = "detection"
    """What is learned, and so what is drawn."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    digits: DigitsConfig = field(default_factory=DigitsConfig)

    def __post_init__(self) -> None:
        rules = {
            "images": (1 <= self.images <= 20, "from 1 to 20"),
            "side_px": (64 <= self.side_px <= 1024, "from 64 to 1024"),
        }
        for name, (is_met, rule) in rules.items():
            require(is_met, name, rule, getattr(self, name))
        for magnitude in self.magnitudes:
            try:
                AugmentConfig(policy="S4", magnitude=magnitude)
            except UserError as error:  # its range stands there, and only there
                raise UserError(str(error).replace("augment.magnitude", "magnitudes")) from error


CONFIG = AugmentVerb


def run(config: AugmentVerb, console: Console) -> None:
    """Choose images, and write the sheet of their views."""
    out = Path(config.out)
    _check(out, overwrite=config.overwrite)
    with _opened(config) as human:
        chosen = sample(human.rows, config.images)
        for line in chosen.unreadable:
            console.out(f"{'skipped':<11}{line}", highlight=False)
        if config.dry_run:
            count = chosen.rows.num_rows
            said = f"{count} of {human.rows.num_rows} images would be drawn; nothing was written"
            console.out(f"# dry run: {said}", highlight=False)
            return
        showing = Showing(
            recipe=config.augment,
            magnitudes=config.magnitudes,
            size_px=config.model.image_size_px,
            seed=config.train.seed,
            classes=human.classes,
            side_px=config.side_px,
        )
        _save(augmented_sheet(chosen, showing).picture(), out)
    console.print(f"{'sheet':<11}{out}", highlight=False, markup=False, soft_wrap=True)


def _check(out: Path, *, overwrite: bool) -> None:
    """Refuse to write anything but a new PNG file, or a sheet anew."""
    require(out.suffix.lower() == ".png", "out", "the name of a PNG file", str(out), "end it .png")
    standing = next(path for path in (out, *out.parents) if path.exists())
    if standing != out:
        if not standing.is_dir():
            raise UserError(f"out: {standing} is a file, no folder; pass another --out")
    elif out.is_dir():
        raise UserError(f"out: {out} is a folder; pass --out with the name of a PNG file")
    elif not overwrite:
        raise UserError(f"out: {out} is there; pass --overwrite to replace it, or another --out")
    else:
        with out.open("rb") as file:
            if file.read(len(_PNG)) != _PNG:
                raise UserError(f"out: {out} is there and no PNG picture; pass another --out")


@contextmanager
def _opened(config: AugmentVerb) -> Iterator[LabeledSet]:
    """Open what the recipe trains on; scenes of digits are there for as long as they are used."""
    kind = make_task(config.task, config.model, 1).kind
    if config.data.train:
        yield open_train(config.data, kind)
        return
    if config.digits == DigitsConfig():  # a recipe of the demo world says how large it is
        raise UserError(
            "data.train: is missing; pass --data.train with images of your own, "
            "or --config demo for scenes of digits"
        )
    with tempfile.TemporaryDirectory(prefix="ray_st_") as folder:
        yield open_train(_scenes(Path(folder), config.digits, kind), kind)


def _scenes(folder: Path, digits: DigitsConfig, kind: type[Labels]) -> DataConfig:
    """The scenes that the demo trains on; of the others, which do not change them, a few."""
    few = len(digits.classes)
    return write_world(folder, replace(digits, val_scenes=few, pool_scenes=few), kind)


def _save(picture: Image.Image, out: Path) -> None:
    """Write whole or not at all."""
    scratch = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        picture.save(scratch, "PNG", optimize=True)
        os.replace(scratch, out)  # noqa: PTH105 - Path.replace hides that this is atomic
    except OSError as error:
        raise UserError(
            f"out: {out} cannot be written ({error.strerror}); pass another --out"
        ) from error
