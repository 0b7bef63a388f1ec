"""What somebody sees on a picture, drawn: one drawer for each kind of labels.

In: a picture and `Labels`. Out: a `Drawing`. Read `drawing.py`, then the drawers. Next:
`../gallery.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ray_st.data.labels import ClassLabel, Detections, Labels, SegmentationMap
from ray_st.report.drawing.boxes import draw_boxes
from ray_st.report.drawing.class_label import draw_class_label
from ray_st.report.drawing.class_map import draw_class_map
from ray_st.report.drawing.drawing import Drawing, Seen, Swatch, Viewer

_DRAWERS: Final[dict[type[Labels], Callable[[Seen], Drawing]]] = {
    Detections: draw_boxes,
    SegmentationMap: draw_class_map,
    ClassLabel: draw_class_label,
}

__all__ = ["Drawing", "Seen", "Swatch", "Viewer", "draw"]


def draw(seen: Seen) -> Drawing:
    """Draw labels of any kind."""
    return _DRAWERS[type(seen.labels)](seen)
