"""Augmentation: from a source image and its labels to a strong view of both.

In: an image and `Labels` in source pixels. Out: pixels and labels of a view. Start at `scene.py`.
"""

from ray_st.data.augment.config import AugmentConfig
from ray_st.data.augment.view import view

__all__ = ["AugmentConfig", "view"]
