"""Draw boxes, each with its class and score.

In: `Seen` with `Detections`. Out: a `Drawing`. Next: `class_map.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ray_st.data.labels import Detections
from ray_st.report.drawing.drawing import Drawing, Seen
from ray_st.report.palette import DARK

MIN_SCORE = 0.3  # of a box that is drawn, of all that a model predicted
MAX_TAGS = 12  # more would hide the picture; the boxes are all drawn
_TAG_PX = 15


def draw_boxes(seen: Seen) -> Drawing:
    """Draw the likeliest boxes; those of people without a score, crowd regions not at all."""
    labels: Detections = seen.labels[~seen.labels.is_crowd]
    if seen.viewer.is_measured:
        labels = labels.above(MIN_SCORE)
    labels = labels[np.argsort(-labels.scores, kind="stable")]
    tags = [_tag(seen, labels, index) for index in range(len(labels))]
    canvas = seen.enlarged()
    scale_xy = np.array(canvas.size) / seen.picture.size
    _draw(canvas, labels.boxes_xyxy * np.tile(scale_xy, 2), tags, DARK[seen.viewer.colour])
    words = f"{', '.join(tags[:MAX_TAGS])}{' and more' if len(tags) > MAX_TAGS else ''}"
    return Drawing(
        canvas=canvas,
        caption=f"{len(tags)} {'box' if len(tags) == 1 else 'boxes'}",
        words=words or "no box",
        note=f"Predicted boxes from score {MIN_SCORE}." if seen.viewer.is_measured else "",
    )


def _tag(seen: Seen, labels: Detections, index: int) -> str:
    name = seen.class_name(int(labels.class_ids[index]))
    return name if seen.viewer.is_human else f"{name} {labels.scores[index]:.2f}"


def _draw(canvas: Image.Image, boxes: np.ndarray, tags: Sequence[str], colour: str) -> None:
    """Boxes first, each with a dark rim that shows on any ground, then the tags over them."""
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.truetype(
        str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), _TAG_PX
    )
    for left, top, right, bottom in boxes.tolist():
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="#101418", width=4)
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)
    for (left, top, _, _), tag in list(zip(boxes.tolist(), tags, strict=True))[:MAX_TAGS][::-1]:
        width, height = draw.textlength(tag, font=font) + 6, _TAG_PX + 4
        x = min(max(left - 1, 0), max(canvas.width - width, 0))
        y = top - height if top >= height else max(top, 0)
        draw.rectangle((x, y, x + width, y + height), fill=colour)
        draw.text((x + 3, y + height / 2), tag, fill="#101418", font=font, anchor="lm")
