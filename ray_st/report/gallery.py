"""Draw boxes on photographs: people and models side by side, and the pseudo labels.

In: LABEL_ROW Parquet of a run folder; images by their `uri`. Out: `Strip`s of JPEG data URIs.
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

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ray_st.data import images
from ray_st.data.labels import Detections
from ray_st.report.palette import DARK, MODELS
from ray_st.report.run_files import LabelledImage, rows_of, spread_rows, stage_folder

logger = logging.getLogger(__name__)

NUM_IMAGES = 6
MIN_SCORE = 0.3  # of a predicted box that is drawn
SIDE_PX = 320  # the longer side of every picture, small images enlarged
MAX_TAGS = 12  # more would hide the picture; the boxes are all drawn
_TAG_PX = 15


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture with its boxes."""

    title: str
    colour: str  # of palette
    count: int  # boxes drawn
    src: str  # data URI
    alt: str


@dataclass(frozen=True, kw_only=True)
class Strip:
    """The same image, seen by several."""

    name: str
    panels: list[Panel]


def validation_strips(out: Path, summary: Mapping[str, Any], classes: Sequence[str]) -> list[Strip]:
    """A few validation images as people and the models see them."""
    sources = {("Human labels", "human"): out / "val.parquet"}
    for model in ("teacher", "student", "model"):
        folder = stage_folder(out, summary, model)
        sources[MODELS[model], model] = folder / "predictions.parquet"
    sources = {column: path for column, path in sources.items() if path.exists()}
    if not sources:
        return []
    chosen = spread_rows(next(iter(sources.values())), NUM_IMAGES)
    image_ids = [image.image_id for image in chosen]
    columns = {column: rows_of(path, image_ids) for column, path in sources.items()}
    return _strips(chosen, columns, classes)


def pseudo_strips(out: Path, summary: Mapping[str, Any], classes: Sequence[str]) -> list[Strip]:
    """A few pool images with the pseudo labels that a student learns from."""
    chosen = spread_rows(stage_folder(out, summary, "pseudo") / "labels.parquet", NUM_IMAGES)
    columns = {("Pseudo labels", "pseudo"): {image.image_id: image for image in chosen}}
    return _strips(chosen, columns, classes)


_Column = tuple[str, str]  # title, colour


def _strips(
    chosen: Sequence[LabelledImage],
    columns: dict[_Column, dict[int, LabelledImage]],
    classes: Sequence[str],
) -> list[Strip]:
    strips = []
    for image in chosen:
        picture = read_image(image.uri)
        if picture is None:
            continue
        panels = [
            draw_panel(picture, rows[image.image_id], classes, title=title, colour=colour)
            for (title, colour), rows in columns.items()
            if image.image_id in rows
        ]
        strips.append(Strip(name=PurePosixPath(image.uri).name, panels=panels))
    return strips


def read_image(uri: str) -> Image.Image | None:
    """Read an image as training reads it; None, and a line in the log, if it cannot be read."""
    try:
        return Image.fromarray(images.decode(images.fetch(uri)))
    except images.ImageError as error:
        logger.warning("%s: left out of the report's gallery: %s", uri, error)
        return None


def draw_panel(
    picture: Image.Image, row: LabelledImage, classes: Sequence[str], *, title: str, colour: str
) -> Panel:
    """Draw the boxes of one row; those of people without a score, crowd regions not at all."""
    assert isinstance(row.labels, Detections)
    labels = row.labels[~row.labels.is_crowd]
    predicted = colour != "human"
    if colour in MODELS:
        labels = labels[labels.scores >= MIN_SCORE]
    labels = labels[np.argsort(-labels.scores, kind="stable")]
    tags = [_tag(labels, index, classes, with_score=predicted) for index in range(len(labels))]
    scale = SIDE_PX / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    canvas = picture.resize(size, Image.Resampling.BICUBIC)
    height, width = row.size_hw
    boxes = labels.boxes_xyxy * (np.array([size[0] / width, size[1] / height] * 2, np.float32))
    _draw(canvas, boxes, tags, colour)
    shown = f"{', '.join(tags[:MAX_TAGS])}{' and more' if len(tags) > MAX_TAGS else ''}"
    alt = f"{title}: {shown or 'no box'}"
    return Panel(title=title, colour=colour, count=len(tags), src=_data_uri(canvas), alt=alt)


def _tag(labels: Detections, index: int, classes: Sequence[str], *, with_score: bool) -> str:
    class_id = int(labels.class_ids[index])
    name = classes[class_id] if 0 <= class_id < len(classes) else f"class {class_id}"
    return f"{name} {labels.scores[index]:.2f}" if with_score else name


def _draw(canvas: Image.Image, boxes: np.ndarray, tags: Sequence[str], colour: str) -> None:
    """Boxes first, each with a dark rim that shows on any ground, then the tags over them."""
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.truetype(
        str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), _TAG_PX
    )
    for left, top, right, bottom in boxes.tolist():
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="#101418", width=4)
        draw.rectangle((left, top, right, bottom), outline=DARK[colour], width=2)
    for (left, top, _, _), tag in list(zip(boxes.tolist(), tags, strict=True))[:MAX_TAGS][::-1]:
        width, height = draw.textlength(tag, font=font) + 6, _TAG_PX + 4
        x = min(max(left - 1, 0), max(canvas.width - width, 0))
        y = top - height if top >= height else max(top, 0)
        draw.rectangle((x, y, x + width, y + height), fill=DARK[colour])
        draw.text((x + 3, y + height / 2), tag, fill="#101418", font=font, anchor="lm")


def _data_uri(canvas: Image.Image) -> str:
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
