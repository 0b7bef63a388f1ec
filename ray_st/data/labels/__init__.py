"""What is known of one image, and who said so: three kinds of `Labels`, plain numpy.

In: nothing. Out: `Origin`, `Detections`, `SegmentationMap`, `ClassLabel`. No torch, no Ray.
Start at `labels.py`.
"""

from ray_st.data.labels.class_label import ClassLabel
from ray_st.data.labels.detections import Detections
from ray_st.data.labels.labels import Labels, Origin
from ray_st.data.labels.segmentation_map import IGNORE, SegmentationMap

KINDS: tuple[type[Labels], ...] = (Detections, SegmentationMap, ClassLabel)

__all__ = ["IGNORE", "KINDS", "ClassLabel", "Detections", "Labels", "Origin", "SegmentationMap"]
