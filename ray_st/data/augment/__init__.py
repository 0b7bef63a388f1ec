"""Augmentation: from a source image and its labels to a strong view of both.

In: pixels and `Labels` in source pixels. Out: the same in view pixels. Start at `colour.py`.
"""

from ray_st.data.augment.geometry import AugmentConfig, view

__all__ = ["AugmentConfig", "view"]
