"""Say the class of a whole picture, and whether people agree.

In: `Seen` with a `ClassLabel`. Out: a `Drawing`. Next: `../gallery.py`.
"""

from __future__ import annotations

from ray_st.data.labels import ClassLabel
from ray_st.report.drawing.drawing import Drawing, Seen


def draw_class_label(seen: Seen) -> Drawing:
    """Leave the picture as it is; the likeliest class stands in the caption."""
    labels: ClassLabel = seen.labels
    known = len(labels.top_class_ids) > 0
    caption = seen.class_name(int(labels.top_class_ids[0])) if known else "no class"
    if known and not seen.viewer.is_human:
        caption = f"{caption} {labels.top_scores[0]:.2f}"
    is_right = None
    if seen.truth is not None and len(seen.truth.top_class_ids):
        # A picture without a class counts as wrong, as in the accuracy.
        is_right = bool(known and labels.top_class_ids[0] == seen.truth.top_class_ids[0])
    verdict = {True: ", right", False: ", wrong", None: ""}[is_right]
    return Drawing(
        canvas=seen.enlarged(),
        caption=caption,
        words=f"{caption}{verdict}",
        is_right=is_right,
    )
