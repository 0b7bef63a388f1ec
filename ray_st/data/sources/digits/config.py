"""How large the demo world is, and how hard.

In: what a user wrote under `digits:`. Out: `DigitsConfig`. Next: `handwriting.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_st.config import require


@dataclass(frozen=True, kw_only=True)
class DigitsConfig:
    """How large the demo world is, and how hard."""

    labeled_scenes: int = 40
    """Scenes with human labels (train)."""

    val_scenes: int = 120
    """Scenes for measuring (val)."""

    pool_scenes: int = 600
    """Scenes without labels for the student (pool)."""

    labeled_digits: int = 150
    """Different handwritten digits that the labelled scenes are made of; fewer is harder."""

    scene_px: int = 96
    """Side of a scene, pixels."""

    digits_per_scene: tuple[int, int] = (1, 4)
    """Fewest and most digits in a scene; scenes to be classified hold one, whatever this says."""

    digit_px: tuple[int, int] = (20, 36)
    """Smallest and largest side of a digit's 8x8 cell in the scene, pixels."""

    classes: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """Which digits there are."""

    turn_deg: float = 12.0
    """Most that a digit is turned to either side, degrees."""

    contrast: tuple[float, float] = (0.25, 0.6)
    """Least and most that a digit is lighter or darker than its ground, as a share of white."""

    noise: float = 0.06
    """Grain over the whole scene: standard deviation as a share of white, 0..1."""

    seed: int = 0
    """Seed of everything."""

    def __post_init__(self) -> None:
        (low, high), (faint, strong) = self.digits_per_scene, self.contrast
        has_turn = 0 <= self.turn_deg <= 45
        rules = {
            "labeled_scenes": (self.labeled_scenes >= 1, "at least 1"),
            "val_scenes": (self.val_scenes >= 1, "at least 1"),
            "pool_scenes": (self.pool_scenes >= 1, "at least 1"),
            "digits_per_scene": (1 <= low <= high, "two numbers from 1, the smaller first"),
            "turn_deg": (has_turn, "from 0 to 45"),
            "digit_px": (
                8 <= self.digit_px[0] <= self.digit_px[1]
                and (not has_turn or self._turned_px(self.digit_px[1]) <= self.scene_px),
                "two numbers from 8, the smaller first, that fit into scene_px when turned",
            ),
            "classes": (
                0 < len(set(self.classes)) == len(self.classes)
                and set(self.classes) <= {*range(10)},
                "different digits from 0 to 9",
            ),
            "labeled_digits": (self.labeled_digits >= len(self.classes), "one a class or more"),
            "contrast": (
                0 < faint <= strong <= 1,
                "two numbers above 0 and at most 1, the smaller first",
            ),
            "noise": (0 <= self.noise <= 1, "from 0 to 1"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        for field, (is_met, rule) in rules.items():
            require(is_met, f"digits.{field}", rule, getattr(self, field))

    def _turned_px(self, side_px: int) -> int:
        """Side of the square that a cell fills once it is turned as far as it may be."""
        turn = math.radians(self.turn_deg)
        half = side_px * (math.cos(turn) + math.sin(turn)) / 2
        return math.ceil(side_px / 2 + half) - math.floor(side_px / 2 - half)
