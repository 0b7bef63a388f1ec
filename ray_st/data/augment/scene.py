"""An image in the middle of being varied, together with what is known of it.

In: an RGB image, perhaps decoded at a fraction of its size, and `Labels` in source pixels.
Out: `Scene`, which the operations take and give. Next: `colour.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image

from ray_st.data.labels import Labels


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Pixels and labels that belong together. Operations give a new one; they change none."""

    image: Image.Image  # RGB
    labels: Labels  # in source pixels
    size_hw: tuple[int, int]  # of the source; `image` may be smaller, never of another shape
    unit_px: float = 1.0  # source pixels in one pixel of a policy's listing

    @property
    def ratio_xy(self) -> tuple[float, float]:
        """Pixels of `image` in one of the source, an axis; 1 unless it was decoded smaller."""
        return self.image.width / self.size_hw[1], self.image.height / self.size_hw[0]

    def shown(self, image: Image.Image) -> Scene:
        """Give the same scene other pixels."""
        return replace(self, image=image)
