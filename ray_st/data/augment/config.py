"""The `augment:` section of a recipe: one of the paper's four policies, whole or varied.

In: a recipe. Out: `AugmentConfig`, which gives the `Policy` and the scale jitter.
Next: `framing.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import ClassVar, Literal

from ray_st.config import require
from ray_st.data.augment.policies import AUTOAUGMENT, RANDAUGMENT, Policy, require_known

_MAX_SCALE = 10  # of the view's side: larger would be memory for pixels that are cropped
_MAX_LAYERS = 20
_MAX_MAGNITUDE = 30  # beyond the listing's 10 the operations go on in proportion

# Paper, section 3.1: flip and jitter; with AutoAugment; with a larger jitter; with RandAugment.
_SCALE_JITTER = {"S1": (0.8, 1.2), "S2": (0.8, 1.2), "S3": (0.5, 2.0), "S4": (0.5, 2.0)}
_USED_BY = {
    "autoaugment": ("S2", "S3"),
    "sub_policies": ("S2", "S3"),
    "layers": ("S4",),
    "magnitude": ("S4",),
    "operations": ("S4",),
    "reference_px": ("S2", "S3", "S4"),
}


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How strongly training images are varied. `augment: S4` in a recipe sets the policy alone."""

    SHORTHAND: ClassVar[str] = "policy"

    policy: Literal["S1", "S2", "S3", "S4"] = "S1"
    """S1 flip and scale jitter; S2 and AutoAugment; S3 S2 with a larger jitter; S4 RandAugment."""

    scale_jitter: tuple[float, float] | None = None
    """Smallest and largest long side of an image, as a multiple of the view's side; by default the
    policy's: 0.8 1.2 for S1 and S2, 0.5 2.0 for S3 and S4."""

    flip_probability: float = 0.5
    """Chance that an image is mirrored left to right, 0..1."""

    autoaugment: Literal["v0", "v1", "v2", "v3", "none"] = "v0"
    """AutoAugment's table for detection that S2 and S3 draw from; none: `sub_policies` alone."""

    sub_policies: tuple[str, ...] = ()
    """Lines of your own for that table, such as "Rotate_BBox .6/10 + Color 1/6"."""

    layers: int = 2
    """How many of RandAugment's operations an image gets (S4)."""

    magnitude: float = 10.0
    """Level of RandAugment's operations (S4), 0 to 30; the paper's is 10. Warps grow with it,
    blends are neutral at 5, Posterize and Solarize grow weaker."""

    operations: tuple[str, ...] = RANDAUGMENT
    """What RandAugment draws from (S4)."""

    reference_px: int = 640
    """Long side of the images that amounts in pixels were made for; they scale with each image's
    own. 640 is COCO's; 0 takes amounts as pixels of the source, whatever its size."""

    colour_jitter: float = 0.0
    """Strength, 0..1, of random brightness, contrast, saturation and hue; SimCLR's is 1."""

    grey_probability: float = 0.0
    """Chance that a view loses its colours, 0..1; SimCLR's is 0.2."""

    def __post_init__(self) -> None:
        for name in ("flip_probability", "colour_jitter", "grey_probability"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"augment.{name}", "from 0 to 1", value, "0 changes none")
        low, high = self.jitter
        require(
            0 < low <= high <= _MAX_SCALE,
            "augment.scale_jitter",
            f"two numbers above 0 and up to {_MAX_SCALE}, the smaller first",
            self.scale_jitter,
            "0.8 and 1.2 are the paper's Augment-S1",
        )
        require(
            1 <= self.layers <= _MAX_LAYERS,
            "augment.layers",
            f"from 1 to {_MAX_LAYERS}",
            self.layers,
            "S1 has no operations",
        )
        require(
            0 <= self.magnitude <= _MAX_MAGNITUDE,
            "augment.magnitude",
            f"from 0 to {_MAX_MAGNITUDE}",
            self.magnitude,
            "10 is the paper's",
        )
        require(
            self.reference_px >= 0,
            "augment.reference_px",
            "0 or more",
            self.reference_px,
            "640 is COCO's, 0 takes amounts as they stand",
        )
        self._check_table()

    def _check_table(self) -> None:
        for field in fields(self):
            users = _USED_BY.get(field.name, (self.policy,))
            value = getattr(self, field.name)
            require(
                self.policy in users or value == field.default,
                f"augment.{field.name}",
                f"its default{_shown(field.default)} with augment.policy {self.policy}",
                value,
                f"{' and '.join(users)} {'uses' if len(users) == 1 else 'use'} it",
            )
        for name in self.operations:
            require_known(name, "augment.operations")
        require(len(self.operations) > 0, "augment.operations", "one or more names", ())
        _ = self.drawn  # sub-policies are read, or refused
        require(
            self.autoaugment != "none" or len(self.sub_policies) > 0,
            "augment.sub_policies",
            "one line or more with augment.autoaugment none",
            self.sub_policies,
        )

    @property
    def jitter(self) -> tuple[float, float]:
        """The range of scales."""
        if self.scale_jitter is None:
            return _SCALE_JITTER[self.policy]
        require(
            len(self.scale_jitter) == 2, "augment.scale_jitter", "two numbers", self.scale_jitter
        )
        return self.scale_jitter

    @cached_property
    def drawn(self) -> Policy:
        """The table that every image draws from; an empty one for S1."""
        if self.policy == "S1":
            return Policy()
        if self.policy == "S4":
            return Policy.randaugment(self.operations, layers=self.layers, magnitude=self.magnitude)
        lines = (*AUTOAUGMENT.get(self.autoaugment, ()), *self.sub_policies)
        return Policy.autoaugment(lines, "augment.sub_policies")

    def unit_px(self, size_hw: tuple[int, int]) -> float:
        """Source pixels in one pixel of a policy's listing, for an image of this size."""
        return max(size_hw) / self.reference_px if self.reference_px else 1.0


def _shown(default: object) -> str:
    return f" ({default})" if isinstance(default, int | float | str) else ""
