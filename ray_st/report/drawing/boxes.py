"""Draw boxes, each with its class and score.

In: `Seen` with `Detections`. Out: a `Drawing`. Next: `class_map.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ray_st.data.labels import Detections
from ray_st.report.class_colours import NUM_COLOURS, class_colours
from ray_st.report.drawing.drawing import Drawing, Seen, Swatch
from ray_st.report.lettering import font
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
    boxes = labels.boxes_xyxy * np.tile(scale_xy, 2)
    if seen.by_class:
        _draw(canvas, boxes, [_colour(class_id) for class_id in labels.class_ids.tolist()])
    else:
        colour = DARK[seen.viewer.colour]
        _draw(canvas, boxes, [colour] * len(boxes))
        _write(canvas, boxes, tags, colour)
    words = f"{', '.join(tags[:MAX_TAGS])}{' and more' if len(tags) > MAX_TAGS else ''}"
    return Drawing(
        canvas=canvas,
        caption=f"{len(tags)} {'box' if len(tags) == 1 else 'boxes'}",
        words=words or "no box",
        legend=_legend(seen, labels) if seen.by_class else (),
        note=f"Predicted boxes from score {MIN_SCORE}." if seen.viewer.is_measured else "",
    )


def _tag(seen: Seen, labels: Detections, index: int) -> str:
    name = seen.class_name(int(labels.class_ids[index]))
    return name if seen.viewer.is_human else f"{name} {labels.scores[index]:.2f}"


def _legend(seen: Seen, labels: Detections) -> tuple[Swatch, ...]:
    ids = np.unique(labels.class_ids).tolist()
    return tuple(Swatch(i, seen.class_name(i), _colour(i)) for i in ids)


def _colour(class_id: int) -> str:
    """As on class maps, but for the first, a grey that marks the background there."""
    return f"#{bytes(class_colours()[1 + class_id % (NUM_COLOURS - 1)]).hex()}"


def _draw(canvas: Image.Image, boxes: np.ndarray, colours: Sequence[str]) -> None:
    """Draw each box with a dark rim that shows on any ground."""
    draw = ImageDraw.Draw(canvas)
    for (left, top, right, bottom), colour in zip(boxes.tolist(), colours, strict=True):
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="#101418", width=4)
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)


def _write(canvas: Image.Image, boxes: np.ndarray, tags: Sequence[str], colour: str) -> None:
    """Write the tags over the boxes, that of the likeliest on top."""
    draw, letters = ImageDraw.Draw(canvas), font(_TAG_PX)
    for (left, top, _, _), tag in list(zip(boxes.tolist(), tags, strict=True))[:MAX_TAGS][::-1]:
        width, height = draw.textlength(tag, font=letters) + 6, _TAG_PX + 4
        x = min(max(left - 1, 0), max(canvas.width - width, 0))
        y = top - height if top >= height else max(top, 0)
        draw.rectangle((x, y, x + width, y + height), fill=colour)
        draw.text((x + 3, y + height / 2), tag, fill="#101418", font=letters, anchor="lm")
