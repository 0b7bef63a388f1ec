"""Joint training: images with a class each, learned beside the task on the same backbone.

In: numbers from a recipe. Out: `JointConfig`, the section `train.joint`. Source: paper.md, joint
training (Table 7). Next: `schedule.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_st.config import require
from ray_st.data.placed import require_side


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """A third stream, of classified images; off unless `images` names some."""

    images: str | None = None
    """Classified images to learn from as well, classes:DIR, a folder a class; null: none."""
    batch_size: int | None = None
    """Classified images a step, over all workers; by default as many as train.batch_size."""
    weight: float = 1.0
    """Weight of their loss, as train.alpha is that of the pseudo loss, >= 0."""
    image_size_px: int | None = None
    """Side of their views; by default model.image_size_px."""

    def __post_init__(self) -> None:
        images = self.batch_size
        require(images is None or images >= 1, "train.joint.batch_size", "at least 1", images)
        require_side(self.image_size_px, "train.joint.image_size_px")
        require(self.weight >= 0, "train.joint.weight", "0 or more", self.weight)
        if self.is_on:
            return
        for name in ("batch_size", "image_size_px", "weight"):
            value, rule = getattr(self, name), "left out without train.joint.images"
            is_left_out = value == getattr(type(self), name)
            require(is_left_out, f"train.joint.{name}", rule, value, "name some or remove it")

    def side_px(self, own_px: int) -> int:
        """Side of the views of these images, where the task's have `own_px`."""
        return self.image_size_px or own_px

    @property
    def is_on(self) -> bool:
        """Whether there is such a stream."""
        return self.images is not None
