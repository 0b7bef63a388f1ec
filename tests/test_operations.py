"""What a level means, either direction, amounts that scale with the image, and grey rectangles."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from PIL import Image

from ray_st.data.augment import AugmentConfig
from ray_st.data.augment.operations import (
    AUTOAUGMENT_RANGES,
    MAX_LEVEL,
    OPERATIONS,
    RANDAUGMENT_RANGES,
    apply_operation,
    names,
)
from ray_st.data.augment.scene import Scene
from ray_st.data.labels import ClassLabel, Detections

pytestmark = pytest.mark.pure

GREY = 128
SIGNED = ["Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"]


def rng(seed=0):
    return np.random.default_rng(seed)


def scene_of(pixels, labels=None, **more):
    labels = ClassLabel.unknown() if labels is None else labels
    more = {"size_hw": pixels.shape[:2], **more}
    return Scene(image=Image.fromarray(pixels), labels=labels, **more)


def applied(name, scene, level, *, seed=0, ranges=AUTOAUGMENT_RANGES, probability=1.0):
    made = apply_operation(scene, name, probability, level, ranges, rng(seed))
    return np.array(made.image)


def ramp(height, width):
    """Each pixel's red and green are its column and blue its row; none of it is 128."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x // 100, x % 100, y % 100], axis=2).astype(np.uint8)


# name: what it means at levels 0, 5 and 10 of AutoAugment; of RandAugment where that differs.
MEANINGS = {
    "Rotate_BBox": (0, 15, 30),
    "ShearX_BBox": (0, 0.15, 0.3),
    "ShearY_BBox": (0, 0.15, 0.3),
    "TranslateX_BBox": (0, 125, 250, 0, 50, 100),
    "TranslateY_BBox": (0, 125, 250, 0, 50, 100),
    "Color": (0.1, 1, 1.9),
    "Contrast": (0.1, 1, 1.9),
    "Brightness": (0.1, 1, 1.9),
    "Sharpness": (0.1, 1, 1.9),
    "Posterize": (0, 2, 4),
    "Solarize": (0, 128, 256),
    "SolarizeAdd": (0, 55, 110),
    "Cutout": (0, 50, 100, 0, 20, 40),
    "BBox_Cutout": (0, 0.375, 0.75),
}
WITHOUT = {"Identity", "AutoContrast", "Equalize", "Invert", "Flip"}


@pytest.mark.parametrize("name", MEANINGS)
def test_what_levels_mean(name):
    by_hand = MEANINGS[name]
    for ranges, expected in ((AUTOAUGMENT_RANGES, by_hand[:3]), (RANDAUGMENT_RANGES, by_hand[-3:])):
        found = [OPERATIONS[name].meaning(level / MAX_LEVEL, ranges) for level in (0, 5, 10)]
        assert found == pytest.approx(expected)
    assert {*MEANINGS, *WITHOUT} == set(OPERATIONS)


@pytest.mark.parametrize(
    ("name", "most"), [("Posterize", 4), ("Solarize", 256), ("SolarizeAdd", 110), ("Cutout", 100)]
)
def test_whole_numbers_are_cut_off_and_no_float_takes_one_away(name, most):
    for level in range(MAX_LEVEL + 1):
        found = OPERATIONS[name].meaning(level / MAX_LEVEL, AUTOAUGMENT_RANGES)
        assert found == floor(Fraction(level * most, MAX_LEVEL))


def test_posterize_keeps_one_bit_at_least():
    pixels = ramp(20, 300)
    for level in (0, 1, 2):
        assert (applied("Posterize", scene_of(pixels), level) == pixels // 128 * 128).all()


@pytest.mark.parametrize(
    "name", [*(f"{name}_BBox" for name in SIGNED), "SolarizeAdd", "Cutout", "BBox_Cutout"]
)
def test_level_0_changes_nothing(name):
    pixels = ramp(31, 46)
    labels = Detections.of([[3, 4, 20, 30]], [0])
    made = apply_operation(scene_of(pixels, labels), name, 1.0, 0, AUTOAUGMENT_RANGES, rng())
    np.testing.assert_array_equal(np.array(made.image), pixels)
    np.testing.assert_array_equal(made.labels.boxes_xyxy, labels.boxes_xyxy)


def test_solarize_changes_nothing_at_level_10_and_all_at_level_0():
    pixels = rng(1).integers(0, 256, (9, 9, 3), np.uint8)
    assert (applied("Solarize", scene_of(pixels), 10) == pixels).all()
    assert (applied("Solarize", scene_of(pixels), 0) == 255 - pixels).all()


@pytest.mark.parametrize("name", ["Color", "Contrast", "Brightness", "Sharpness"])
def test_level_5_changes_nothing(name):
    pixels = rng(1).integers(0, 256, (9, 9, 3), np.uint8)
    np.testing.assert_array_equal(applied(name, scene_of(pixels), 5), pixels)


@pytest.mark.parametrize(
    "name", [*(f"{n}_BBox" for n in SIGNED), *(f"{n}_Only_BBoxes" for n in SIGNED)]
)
def test_both_directions_come_as_often(name):
    pixels = ramp(12, 12)
    scene = scene_of(pixels, Detections.of([[0, 0, 12, 12]], [0]), unit_px=0.02)
    # Three times: within boxes, a third of the probability is left.
    made = [applied(name, scene, 10, seed=seed, probability=3).tobytes() for seed in range(400)]
    either = sorted(set(made))
    assert len(either) == 2
    assert abs(made.count(either[0]) - 200) < 4 * np.sqrt(400 / 4)  # four standard deviations


def shift_of(pixels, axis):
    """How far a ramp was moved to the left, or up."""
    y, x = np.argwhere((pixels != GREY).any(axis=2))[0]
    red, green, blue = pixels[y, x].astype(int)
    return 100 * red + green - x if axis == "X" else blue - y


@pytest.mark.parametrize(
    ("ranges", "most"), [(AUTOAUGMENT_RANGES, 250), (RANDAUGMENT_RANGES, 100), (None, 120)]
)
def test_translations_in_pixels(ranges, most):
    pixels = ramp(4, 600)
    labels = Detections.of([[0, 0, 600, 4]], [0])
    name = "TranslateX_BBox" if ranges else "TranslateX_Only_BBoxes"
    for level in (0, 5, 10):
        for unit_px in (1.0, 2.0, 0.4):
            scene = scene_of(pixels, labels, unit_px=unit_px)
            made = applied(name, scene, level, probability=3, ranges=ranges or AUTOAUGMENT_RANGES)
            assert abs(shift_of(made, "X")) == most * level / 10 * unit_px


def test_the_unit_is_what_a_pixel_is_of_an_image_of_640():
    config = AugmentConfig(policy="S4")
    assert config.unit_px((853, 1280)) == 2
    assert config.unit_px((1280, 853)) == 2
    assert config.unit_px((640, 480)) == 1
    assert config.unit_px((10, 32)) == 0.05
    assert AugmentConfig(policy="S4", reference_px=1280).unit_px((1280, 9)) == 1
    assert AugmentConfig(policy="S4", reference_px=0).unit_px((1280, 9)) == 1


def test_an_image_of_twice_the_size_is_moved_by_twice_the_pixels():
    for height, width in ((8, 320), (16, 640), (32, 1280)):
        unit_px = AugmentConfig(policy="S4").unit_px((height, width))
        labels = Detections.of([[width * 0.4, 0, width * 0.6, height]], [0])
        scene = scene_of(ramp(height, width), labels, unit_px=unit_px)
        made = apply_operation(scene, "TranslateX_BBox", 1.0, 10, RANDAUGMENT_RANGES, rng(1))
        shift = shift_of(np.array(made.image), "X")
        assert abs(shift) == 100 * width / 640
        middle = made.labels.boxes_xyxy[0, [0, 2]].mean()
        assert middle == pytest.approx(width / 2 - shift)


def covered(pixels):
    """Left, top, right, bottom of what is grey, which must be a whole rectangle."""
    is_grey = (pixels == GREY).all(axis=2)
    if not is_grey.any():
        return None
    (top, left), (bottom, right) = (
        np.argwhere(is_grey).min(axis=0),
        np.argwhere(is_grey).max(axis=0),
    )
    assert is_grey[top : bottom + 1, left : right + 1].all()
    return left, top, right + 1, bottom + 1


def slow_rectangle(size_hw, middle_xy, half_xy):
    """A pixel is covered whose middle lies within half a side, an axis."""
    found = [
        [index for index in range(size) if abs(index + 0.5 - middle) < half]
        for size, middle, half in zip(size_hw[::-1], middle_xy, half_xy, strict=True)
    ]
    if not all(found):
        return None
    return found[0][0], found[1][0], found[0][-1] + 1, found[1][-1] + 1


@pytest.mark.parametrize(("unit_px", "level"), [(0.1, 10), (0.1, 3), (0.05, 7), (1, 10), (0.02, 0)])
def test_cutout_covers_a_square_about_any_place(unit_px, level):
    pixels = ramp(30, 47)
    half, middles = floor(40 * level / 10) * unit_px, []
    for seed in range(60):
        scene = scene_of(pixels, unit_px=unit_px)
        made = applied("Cutout", scene, level, seed=seed, ranges=RANDAUGMENT_RANGES)
        draw = rng(seed)
        draw.random()  # whether it happens
        middle_xy = draw.uniform(0, (47, 30))
        middles.append(middle_xy)
        assert covered(made) == slow_rectangle((30, 47), middle_xy, (half, half))
        untouched = (made != GREY).any(axis=2)
        np.testing.assert_array_equal(made[untouched], pixels[untouched])
    assert np.ptp(middles, axis=0) == pytest.approx([47, 30], rel=0.15)


def test_bbox_cutout_covers_a_share_of_one_object_about_a_place_within_it():
    pixels = ramp(60, 80)
    labels = Detections.of(
        [[10, 5, 34, 21], [40, 30, 80, 60], [0, 0, 80, 60]],
        [0, 1, 2],
        is_crowd=[False, False, True],
    )
    chosen = []
    for seed in range(200):
        made = applied("BBox_Cutout", scene_of(pixels, labels), 10, seed=seed)
        left, top, right, bottom = covered(made)
        in_first = bottom <= 30  # its places end at 21; the other's begin at 30
        chosen.append(in_first)
        box, sides = ((10, 5, 34, 21), (18, 12)) if in_first else ((40, 30, 80, 60), (30, 22.5))
        # About a place in its box, so at most half a side past it; the crowd is never chosen.
        for low, high, first, last, side, limit in (
            (left, right, box[0], box[2], sides[0], 80),
            (top, bottom, box[1], box[3], sides[1], 60),
        ):
            assert first - side / 2 - 1 <= low
            assert high <= last + side / 2 + 1
            is_cut = low == 0 or high == limit
            assert high - low <= side + 1
            assert is_cut or high - low >= side - 1
    assert abs(sum(chosen) - 100) < 4 * np.sqrt(200 / 4)
    crowd = scene_of(pixels, labels[2:])
    assert (applied("BBox_Cutout", crowd, 10) == pixels).all()


def test_every_name_can_be_applied_to_every_kind_of_scene():
    assert len(names()) == len(set(names())) == 19 + 17
    for name in names():
        for pixels in (ramp(1, 1), ramp(3, 50)):
            for labels in (ClassLabel.of([1]), Detections.of(), Detections.of([[0, 0, 1, 1]], [0])):
                made = apply_operation(
                    scene_of(pixels, labels), name, 3, 10, AUTOAUGMENT_RANGES, rng()
                )
                assert np.array(made.image).shape == pixels.shape
                assert type(made.labels) is type(labels)
