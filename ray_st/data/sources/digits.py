"""The demo world: real handwritten digits pasted on textured grounds, with exact boxes.

In: `DigitsConfig`, and scikit-learn's 1797 digits of 8x8 pixels. Out: a folder with JPEGs and three
COCO files: `train` (few labels), `val`, and `pool`, whose truth only measures pseudo labels. No
digit stands in two of them. The same seed writes the same bytes. Next: `../views.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from ray_st.config import require
from ray_st.data.boxes import iou
from ray_st.data.labels import Detections, Origin
from ray_st.data.rows import pack
from ray_st.data.sources.coco import write_coco

_SPLITS = ("train", "val", "pool")
_JPEG_QUALITY = 92
_MAX_IOU = 0.1  # digits may touch, but not hide each other
_PLACE_TRIES = 20
_MAX_TURN_DEG = 12.0
_INK = 0.3  # opacity from which a pixel belongs to the digit, and so to its box


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
    """Fewest and most digits in a scene."""

    digit_px: tuple[int, int] = (20, 36)
    """Smallest and largest side of a digit's 8x8 cell in the scene, pixels."""

    classes: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """Which digits there are."""

    noise: float = 0.06
    """Grain over the whole scene: standard deviation as a share of white, 0..1."""

    seed: int = 0
    """Seed of everything."""

    def __post_init__(self) -> None:
        low, high = self.digits_per_scene
        rules = {
            "labeled_scenes": (self.labeled_scenes >= 1, "at least 1"),
            "val_scenes": (self.val_scenes >= 1, "at least 1"),
            "pool_scenes": (self.pool_scenes >= 1, "at least 1"),
            "digits_per_scene": (1 <= low <= high, "two numbers from 1, the smaller first"),
            "digit_px": (
                # A turned cell is wider than an upright one, by 1.2 at most.
                8 <= self.digit_px[0] <= self.digit_px[1] <= self.scene_px / 1.25,
                "two numbers from 8 to scene_px / 1.25, the smaller first",
            ),
            "classes": (
                0 < len(set(self.classes)) == len(self.classes)
                and set(self.classes) <= {*range(10)},
                "different digits from 0 to 9",
            ),
            "labeled_digits": (self.labeled_digits >= len(self.classes), "one a class or more"),
            "noise": (0 <= self.noise <= 1, "from 0 to 1"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        for field, (is_met, rule) in rules.items():
            require(is_met, f"digits.{field}", rule, getattr(self, field))


def write_digits(out: Path, config: DigitsConfig) -> None:
    """Write `out/images/{train,val,pool}/*.jpg` and `out/instances_{train,val,pool}.json`."""
    counts = (config.labeled_scenes, config.val_scenes, config.pool_scenes)
    parts = split_digits(config)
    for number, (split, count) in enumerate(zip(_SPLITS, counts, strict=True)):
        folder = out / "images" / split
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("[0-9]" * 6 + ".jpg"):
            stale.unlink()  # of a larger world written here before
        uris, labels = [], []
        for i in range(count):
            rng = np.random.default_rng([config.seed, number, i])
            pixels, truth = _scene(parts[number], config, rng)
            uris.append(str((folder / f"{i:06d}.jpg").absolute()))
            Image.fromarray(pixels).save(uris[-1], quality=_JPEG_QUALITY)
            labels.append(truth)
        rows = pack(
            image_ids=range(count),
            uris=uris,
            sizes_hw=[(config.scene_px, config.scene_px)] * count,
            labels=labels,
            origin=Origin.HUMAN,
        )
        names = [str(digit) for digit in config.classes]
        write_coco(out / f"instances_{split}.json", rows=rows, classes=names)


_Digits = tuple[np.ndarray, np.ndarray]  # ink (n, 8, 8) 0..1, class ids (n,)


def split_digits(config: DigitsConfig) -> tuple[_Digits, _Digits, _Digits]:
    """Deal the digits out to train, val and pool, so that each has all classes alike.

    Raises UserError for more labelled digits than there are to share.
    """
    source = load_digits()
    drawn = np.random.default_rng(config.seed).permutation(len(source.target))
    ranked: list[tuple[int, int, int]] = []  # rank within its class, class id, index
    for class_id, digit in enumerate(config.classes):
        of_class = drawn[source.target[drawn] == digit]
        ranked += [(rank, class_id, int(i)) for rank, i in enumerate(of_class)]
    ranked.sort()  # round robin over the classes
    require(
        config.labeled_digits <= len(ranked) // 2,
        "digits.labeled_digits",
        f"at most {len(ranked) // 2}, half of what scikit-learn has of these classes",
        config.labeled_digits,
    )
    num_val = (len(ranked) - config.labeled_digits) // 3
    index = np.array([i for _, _, i in ranked])
    class_ids = np.array([class_id for _, class_id, _ in ranked])
    cuts = np.split(
        np.arange(len(ranked)), [config.labeled_digits, config.labeled_digits + num_val]
    )
    train, val, pool = ((source.images[index[cut]] / 16.0, class_ids[cut]) for cut in cuts)
    return train, val, pool


def _scene(
    digits: _Digits, config: DigitsConfig, rng: np.random.Generator
) -> tuple[np.ndarray, Detections]:
    """Make one scene: RGB uint8 pixels and the truth."""
    canvas = _ground(config.scene_px, rng)
    found: list[np.ndarray] = []
    class_ids: list[int] = []
    low, high = config.digits_per_scene
    for _ in range(int(rng.integers(low, high + 1))):
        which = int(rng.integers(len(digits[0])))
        ink = _drawn(
            digits[0][which], int(rng.integers(config.digit_px[0], config.digit_px[1] + 1)), rng
        )
        spot = _free_spot(ink, found, config.scene_px, rng)
        if spot is None:
            continue
        left, top = spot
        under = canvas[top : top + ink.shape[0], left : left + ink.shape[1]]
        alpha = ink[:, :, None]
        under[:] = under * (1 - alpha) + _colour(under, rng) * alpha
        found.append(_tight_box(ink) + np.array([left, top, left, top], np.float32))
        class_ids.append(int(digits[1][which]))
    canvas += rng.normal(0, config.noise, canvas.shape)
    pixels = (np.clip(canvas, 0, 1) * 255).round().astype(np.uint8)
    return pixels, Detections.of(np.array(found), class_ids)


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


def _drawn(cell: np.ndarray, side_px: int, rng: np.random.Generator) -> np.ndarray:
    """Enlarge and turn an 8x8 digit; give its opacity, 0..1."""
    image = Image.fromarray(cell.astype(np.float32))
    image = image.resize((side_px, side_px), Image.Resampling.BICUBIC)
    turn_deg = float(rng.uniform(-_MAX_TURN_DEG, _MAX_TURN_DEG))
    image = image.rotate(turn_deg, Image.Resampling.BICUBIC, expand=True)
    # Steeper than the scan: a pen's edge is sharper than 8 pixels can show.
    ink: np.ndarray = np.clip((np.asarray(image) - 0.3) / 0.5, 0, 1)
    return ink


def _tight_box(ink: np.ndarray) -> np.ndarray:
    is_ink = ink > _INK
    ys, xs = np.flatnonzero(is_ink.any(axis=1)), np.flatnonzero(is_ink.any(axis=0))
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float32)


def _free_spot(
    ink: np.ndarray, found: list[np.ndarray], side_px: int, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Draw places until one hides no other digit; None where the scene is too full."""
    box = _tight_box(ink)
    for _ in range(_PLACE_TRIES):
        left = int(rng.integers(0, side_px - ink.shape[1] + 1))
        top = int(rng.integers(0, side_px - ink.shape[0] + 1))
        moved = box + np.array([left, top, left, top], np.float32)
        if not found or iou(moved[None], np.array(found)).max() <= _MAX_IOU:
            return left, top
    return None


def _colour(under: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a colour that is seen on this ground: lighter or darker, wherever there is room."""
    mean = under.mean(axis=(0, 1))
    step = rng.uniform(0.25, 0.6) * (1 if mean.mean() < 0.5 else -1)
    colour: np.ndarray = np.clip(mean + step + rng.uniform(-0.12, 0.12, 3), 0, 1)
    return colour
