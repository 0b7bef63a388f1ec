"""One scene: digits on a textured ground, and where each of them lies.

In: digits to choose from, `DigitsConfig`, a generator. Out: `Scene`, which gives the truth as boxes
or as a class map. Next: `worlds.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ray_st.data.boxes import iou
from ray_st.data.labels import Detections
from ray_st.data.sources.digits.config import DigitsConfig
from ray_st.data.sources.digits.handwriting import Digits

_MAX_IOU = 0.1  # digits may touch, but not hide each other
_PLACE_TRIES = 20
_INK = 0.3  # opacity from which a pixel belongs to the digit, and so to its box


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One digit in a scene."""

    ink: np.ndarray  # opacity (h, w), 0..1
    left: int
    top: int
    class_id: int

    @property
    def is_ink(self) -> np.ndarray:
        """Which pixels belong to the digit, (h, w)."""
        return self.ink > _INK

    @property
    def box_xyxy(self) -> np.ndarray:
        """The tightest box around them, in pixels of the scene."""
        ys, xs = (np.flatnonzero(self.is_ink.any(axis=axis)) for axis in (1, 0))
        corners = [
            xs[0] + self.left,
            ys[0] + self.top,
            xs[-1] + 1 + self.left,
            ys[-1] + 1 + self.top,
        ]
        return np.array(corners, np.float32)

    def on(self, canvas: np.ndarray) -> np.ndarray:
        """The part of a canvas that it covers; a view, to be written to."""
        return canvas[self.top : self.top + len(self.ink), self.left : self.left + len(self.ink[0])]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Pixels, and what is drawn in them."""

    pixels: np.ndarray  # RGB uint8 (scene_px, scene_px, 3)
    drawn: tuple[Drawn, ...]  # one at least; later ones lie over earlier ones

    def boxes(self) -> Detections:
        """Boxes of all the ink of each digit, hidden ink too."""
        boxes = np.array([one.box_xyxy for one in self.drawn])
        return Detections.of(boxes, [one.class_id for one in self.drawn])

    def class_map(self) -> np.ndarray:
        """Class of each pixel, uint8 (scene_px, scene_px): 0 for the ground, then the digits'."""
        values = np.zeros(self.pixels.shape[:2], np.uint8)
        for one in self.drawn:
            one.on(values)[one.is_ink] = one.class_id + 1
        return values


def draw(digits: Digits, config: DigitsConfig, rng: np.random.Generator) -> Scene:
    """Make one scene; the same generator state gives the same scene."""
    canvas = _ground(config.scene_px, rng)
    drawn: list[Drawn] = []
    low, high = config.digits_per_scene
    for _ in range(int(rng.integers(low, high + 1))):
        which = int(rng.integers(len(digits[0])))
        side_px = int(rng.integers(config.digit_px[0], config.digit_px[1] + 1))
        ink = _inked(digits[0][which], side_px, config.turn_deg, rng)
        one = _placed(ink, int(digits[1][which]), drawn, config.scene_px, rng)
        if one is None:
            continue
        under, alpha = one.on(canvas), ink[:, :, None]
        under[:] = under * (1 - alpha) + _colour(under, config.contrast, rng) * alpha
        drawn.append(one)
    canvas += rng.normal(0, config.noise, canvas.shape)
    pixels = (np.clip(canvas, 0, 1) * 255).round().astype(np.uint8)
    return Scene(pixels=pixels, drawn=tuple(drawn))


def _ground(side_px: int, rng: np.random.Generator) -> np.ndarray:
    """Texture: a colour, a slope across it, and smooth blotches of two sizes; float RGB 0..1."""
    y, x = np.mgrid[0:side_px, 0:side_px] / side_px - 0.5
    turn = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(turn) * x + np.sin(turn) * y)[:, :, None] * rng.uniform(-0.3, 0.3, 3)
    canvas: np.ndarray = rng.uniform(0.25, 0.75, 3) + slope
    for cells, strength in ((4, 0.12), (14, 0.08)):
        for channel in range(3):
            blotches = rng.normal(0, strength, (cells, cells)).astype(np.float32)
            smooth = Image.fromarray(blotches).resize((side_px, side_px), Image.Resampling.BICUBIC)
            canvas[:, :, channel] += np.asarray(smooth)
    textured: np.ndarray = np.clip(canvas, 0, 1)
    return textured


def _inked(cell: np.ndarray, side_px: int, most_deg: float, rng: np.random.Generator) -> np.ndarray:
    """Enlarge and turn an 8x8 digit; give its opacity, 0..1."""
    image = Image.fromarray(cell.astype(np.float32))
    image = image.resize((side_px, side_px), Image.Resampling.BICUBIC)
    turn_deg = float(rng.uniform(-most_deg, most_deg))
    image = image.rotate(turn_deg, Image.Resampling.BICUBIC, expand=True)
    # Steeper than the scan: a pen's edge is sharper than 8 pixels can show.
    ink: np.ndarray = np.clip((np.asarray(image) - 0.3) / 0.5, 0, 1)
    return ink


def _placed(
    ink: np.ndarray, class_id: int, others: list[Drawn], side_px: int, rng: np.random.Generator
) -> Drawn | None:
    """Draw places until one hides no other digit; None where the scene is too full."""
    boxes = np.array([one.box_xyxy for one in others])
    for _ in range(_PLACE_TRIES):
        left = int(rng.integers(0, side_px - ink.shape[1] + 1))
        top = int(rng.integers(0, side_px - ink.shape[0] + 1))
        one = Drawn(ink=ink, left=left, top=top, class_id=class_id)
        if not others or iou(one.box_xyxy[None], boxes).max() <= _MAX_IOU:
            return one
    return None


def _colour(
    under: np.ndarray, contrast: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Draw a colour that is seen on this ground: lighter or darker, wherever there is room."""
    mean = under.mean(axis=(0, 1))
    step = rng.uniform(*contrast) * (1 if mean.mean() < 0.5 else -1)
    colour: np.ndarray = np.clip(mean + step + rng.uniform(-0.12, 0.12, 3), 0, 1)
    return colour
