"""Choose pictures and have them drawn: people and models side by side, and the pseudo labels.

In: LABEL_ROW Parquet of a run folder; images by their `uri`. Out: `Gallery`s of JPEG data URIs.
Next: `page.py`.
"""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from ray_st.data import images
from ray_st.data.labels import Labels
from ray_st.report.drawing import Drawing, Seen, Swatch, Viewer, draw
from ray_st.report.palette import MODELS, colour_name
from ray_st.report.run_files import LabelledImage, rows_of, spread_rows, stage_folder

logger = logging.getLogger(__name__)

NUM_IMAGES = 6
_PEOPLE = Viewer(title="Human labels", colour="human")
_PSEUDO = Viewer(title="Pseudo labels", colour="pseudo")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture with what one viewer sees on it."""

    viewer: Viewer
    drawing: Drawing
    src: str  # data URI

    @property
    def alt(self) -> str:
        """The panel in words."""
        return f"{self.viewer.title}: {self.drawing.words}"


@dataclass(frozen=True, kw_only=True)
class Strip:
    """The same image, seen by several."""

    name: str
    panels: list[Panel]

    @property
    def legend(self) -> list[Swatch]:
        """What the colours mean, in the order of class ids."""
        return sorted({swatch for panel in self.panels for swatch in panel.drawing.legend})


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Several images."""

    strips: list[Strip]

    @property
    def legend(self) -> list[Swatch]:
        """What the colours mean, of all strips."""
        return sorted({swatch for strip in self.strips for swatch in strip.legend})

    @property
    def note(self) -> str:
        """What a reader must know of the drawings."""
        notes = (panel.drawing.note for strip in self.strips for panel in strip.panels)
        return " ".join(filter(None, dict.fromkeys(notes)))


def validation_gallery(out: Path, summary: Mapping[str, Any], classes: Sequence[str]) -> Gallery:
    """A few validation images as people and the models see them."""
    paths = {_PEOPLE: out / "val.parquet"}
    for model in ("teacher", "student", "model"):
        viewer = Viewer(title=MODELS[model], colour=colour_name(model))
        paths[viewer] = stage_folder(out, summary, model) / "predictions.parquet"
    paths = {viewer: path for viewer, path in paths.items() if path.exists()}
    if not paths:
        return Gallery(strips=[])
    chosen = spread_rows(next(iter(paths.values())), NUM_IMAGES)
    image_ids = [image.image_id for image in chosen]
    columns = {viewer: rows_of(path, image_ids) for viewer, path in paths.items()}
    return _gallery(chosen, columns, classes)


def pseudo_gallery(out: Path, summary: Mapping[str, Any], classes: Sequence[str]) -> Gallery:
    """A few pool images with the pseudo labels that a student learns from."""
    chosen = spread_rows(stage_folder(out, summary, "pseudo") / "labels.parquet", NUM_IMAGES)
    return _gallery(chosen, {_PSEUDO: {image.image_id: image for image in chosen}}, classes)


def _gallery(
    chosen: Sequence[LabelledImage],
    columns: Mapping[Viewer, Mapping[int, LabelledImage]],
    classes: Sequence[str],
) -> Gallery:
    strips = []
    for image in chosen:
        picture = read_image(image.uri)
        if picture is None:
            continue
        rows = {
            viewer: column[image.image_id].labels
            for viewer, column in columns.items()
            if image.image_id in column
        }
        panels = _panels(picture, rows, classes)
        strips.append(Strip(name=PurePosixPath(image.uri).name, panels=panels))
    return Gallery(strips=strips)


def _panels(
    picture: Image.Image, rows: Mapping[Viewer, Labels], classes: Sequence[str]
) -> list[Panel]:
    human = rows.get(_PEOPLE)
    panels = []
    for viewer, labels in rows.items():
        comparable = viewer.is_measured and type(labels) is type(human)
        seen = Seen(
            picture=picture,
            labels=labels,
            truth=human if comparable else None,
            classes=classes,
            viewer=viewer,
        )
        drawing = draw(seen)
        panels.append(Panel(viewer=viewer, drawing=drawing, src=_data_uri(drawing.canvas)))
    return panels


def read_image(uri: str) -> Image.Image | None:
    """Read an image as training reads it; None, and a line in the log, if it cannot be read."""
    try:
        return Image.fromarray(images.decode(images.fetch(uri)))
    except images.ImageError as error:
        logger.warning("%s: left out of the report's gallery: %s", uri, error)
        return None


def _data_uri(canvas: Image.Image) -> str:
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
