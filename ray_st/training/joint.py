"""Joint training: images with a class each, learned beside the task on the same backbone.

In: numbers from a recipe. Out: `JointConfig`, the section `train.joint`. Source: paper.md, joint
training (Table 7). Next: `schedule.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_st.config import require


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
        for name in ("batch_size", "image_size_px"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"train.joint.{name}", "at least 1", value)
            rule = "left out without train.joint.images"
            require(value is None or self.is_on, f"train.joint.{name}", rule, value)
        require(self.weight >= 0, "train.joint.weight", "0 or more", self.weight)

    def side_px(self, own_px: int) -> int:
        """Side of the views of these images, where the task's have `own_px`."""
        return self.image_size_px or own_px

    @property
    def is_on(self) -> bool:
        """Whether there is such a stream."""
        return self.images is not None
