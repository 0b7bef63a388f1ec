"""Operations within boxes: each box's pixels as an image of their own; boxes and the rest stay."""

import numpy as np
import pytest
from listing import (
    GREY,
    autocontrast,
    brightness,
    color,
    contrast,
    equalize,
    flip,
    invert,
    moved,
    posterize,
    rotation,
    sharpness,
    shear_x,
    shear_y,
    solarize,
    solarize_add,
    translation,
)
from PIL import Image

from ray_st.data.augment.operations import AUTOAUGMENT_RANGES, apply_operation, names
from ray_st.data.augment.scene import Scene
from ray_st.data.labels import ClassLabel, Detections, SegmentationMap

pytestmark = pytest.mark.pure

LEVEL = 5
ALWAYS = 3.0  # a third of a probability is left within boxes
UNIT_PX = 0.05
# They do not touch; the second one's sides lie within pixels, and each has another shape.
BOXES = [[2, 3, 12, 15], [14.2, 4.7, 29.6, 11.3], [0, 18, 30, 25]]
INSIDE = [(2, 3, 12, 15), (14, 4, 30, 12), (0, 18, 30, 25)]  # whole pixels that they touch

# As `test_operation_pixels` has them of whole images.
PLAIN = {
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
    "Posterize": lambda pixels: posterize(pixels, 2),
    "Solarize": lambda pixels: solarize(pixels, 128),
    "SolarizeAdd": lambda pixels: solarize_add(pixels, 55),
    "Color": lambda pixels: color(pixels, 1.0),
    "Contrast": lambda pixels: contrast(pixels, 1.0),
    "Brightness": lambda pixels: brightness(pixels, 1.0),
    "Sharpness": lambda pixels: sharpness(pixels, 1.0),
    "Flip": flip,
}
MOVING = {
    "Rotate": lambda sign, size_hw: rotation(sign * 15, size_hw),
    "ShearX": lambda sign, _: shear_x(sign * 0.15),
    "ShearY": lambda sign, _: shear_y(sign * 0.15),
    "TranslateX": lambda sign, _: translation(sign * 3, 0),  # of 120 x 5 / 10 at 1 / 20
    "TranslateY": lambda sign, _: translation(0, sign * 3),
}
ONLY = "_Only_BBoxes"


def noise(height=25, width=30):
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def made_of(name, pixels, labels, *, seed=0, level=LEVEL, probability=ALWAYS, **more):
    more = {"size_hw": pixels.shape[:2], "unit_px": UNIT_PX, **more}
    scene = Scene(image=Image.fromarray(pixels), labels=labels, **more)
    draw = np.random.default_rng(seed)
    made = apply_operation(scene, name, probability, level, AUTOAUGMENT_RANGES, draw)
    assert made.labels is labels
    np.testing.assert_array_equal(np.array(scene.image), pixels)
    return np.array(made.image)


def outside(shape_hw):
    is_outside = np.ones(shape_hw, bool)
    for left, top, right, bottom in INSIDE:
        is_outside[top:bottom, left:right] = False
    return is_outside


def test_no_operation_is_left_out():
    found = {name.removesuffix(ONLY) for name in names() if name.endswith(ONLY)}
    assert found == {*PLAIN, *MOVING, "Cutout"}


@pytest.mark.parametrize("level", [LEVEL, 10])
@pytest.mark.parametrize("name", PLAIN)
def test_a_change_of_colour_is_that_of_each_crop(name, level):
    if level == 10 and name in ("Color", "Contrast", "Brightness", "Sharpness"):
        change = {"Color": color, "Contrast": contrast, "Brightness": brightness}
        change = {**change, "Sharpness": sharpness}[name]
        expected_of, most = lambda pixels: change(pixels, 1.9), 1  # rounded or cut off
    elif level == 10 and name in ("Posterize", "Solarize", "SolarizeAdd"):
        arguments = {"Posterize": 4, "Solarize": 256, "SolarizeAdd": 110}
        change = {"Posterize": posterize, "Solarize": solarize, "SolarizeAdd": solarize_add}[name]
        expected_of, most = lambda pixels: change(pixels, arguments[name]), 0
    else:
        expected_of, most = PLAIN[name], 1 if name == "AutoContrast" else 0
    pixels = noise()
    found = made_of(name + ONLY, pixels, Detections.of(BOXES, [0, 1, 2]), level=level)
    expected = pixels.copy()
    for left, top, right, bottom in INSIDE:
        expected[top:bottom, left:right] = expected_of(pixels[top:bottom, left:right])
    assert np.abs(found.astype(int) - expected).max() <= most
    np.testing.assert_array_equal(found[outside((25, 30))], pixels[outside((25, 30))])


@pytest.mark.parametrize("name", MOVING)
def test_what_moves_stays_in_its_box(name):
    pixels, directions = noise(), set()
    for seed in range(12):
        found = made_of(name + ONLY, pixels, Detections.of(BOXES, [0, 1, 2]), seed=seed)
        np.testing.assert_array_equal(found[outside((25, 30))], pixels[outside((25, 30))])
        for i, (left, top, right, bottom) in enumerate(INSIDE):
            crop, size_hw = pixels[top:bottom, left:right], (bottom - top, right - left)
            agreeing = []
            for sign in (1, -1):
                expected, is_sure = moved(crop, MOVING[name](sign, size_hw), GREY)
                same = found[top:bottom, left:right][is_sure] == expected[is_sure]
                agreeing.append(bool(same.all()))
            assert sum(agreeing) == 1
            directions.add((i, agreeing[0]))
    assert len(directions) == 6  # either way in each box


def test_cutout_covers_a_part_of_each_box():
    pixels = noise()
    pixels[(pixels == GREY).all(axis=2)] = 0
    for seed in range(40):
        made = made_of(f"Cutout{ONLY}", pixels, Detections.of(BOXES, [0, 1, 2]), seed=seed, level=6)
        is_grey = (made == GREY).all(axis=2)
        assert not is_grey[outside((25, 30))].any()
        np.testing.assert_array_equal(made[~is_grey], pixels[~is_grey])
        for left, top, right, bottom in INSIDE:
            crop = is_grey[top:bottom, left:right]
            rows, columns = (np.flatnonzero(crop.any(axis=axis)) for axis in (1, 0))
            assert crop.sum() == len(rows) * len(columns)
            # A side of 2 x 50 x 6 / 10 at 1 / 20, but for what lies past the crop.
            for covered, size in ((rows, bottom - top), (columns, right - left)):
                is_cut = covered[0] == 0 or covered[-1] == size - 1
                assert len(covered) == 3 or (is_cut and 1 <= len(covered) <= 3)


def test_boxes_are_changed_a_third_as_often_as_the_listing_says():
    pixels = noise(4, 40)
    labels = Detections.of([[4 * i, 0, 4 * i + 4, 4] for i in range(10)], range(10))
    changed = np.zeros(10)
    for seed in range(400):
        made = made_of(f"Invert{ONLY}", pixels, labels, seed=seed, probability=0.6)
        is_inverted = (made == 255 - pixels).all(axis=2).reshape(4, 10, 4)
        is_same = (made == pixels).all(axis=2).reshape(4, 10, 4)
        each = is_inverted.all(axis=(0, 2))
        assert (each != is_same.all(axis=(0, 2))).all()
        changed += each
    # Each box by itself: 400 draws of probability .2, to four standard deviations.
    assert np.abs(changed - 80).max() < 4 * np.sqrt(400 * 0.2 * 0.8)


def test_overlapping_boxes_are_changed_in_any_order():
    pixels = noise()
    labels = Detections.of([[0, 0, 20, 20], [10, 10, 30, 25]], [0, 1])

    def flipped(order):
        result = pixels.copy()
        for left, top, right, bottom in order:
            result[top:bottom, left:right] = flip(result[top:bottom, left:right])
        return result

    both = [(0, 0, 20, 20), (10, 10, 30, 25)]
    either = [flipped(both).tobytes(), flipped(both[::-1]).tobytes()]
    made = [made_of(f"Flip{ONLY}", pixels, labels, seed=seed).tobytes() for seed in range(100)]
    assert set(made) == set(either)
    assert abs(made.count(either[0]) - 50) < 4 * np.sqrt(100 / 4)


def test_what_hangs_over_the_border_is_cut_and_crowds_are_left_alone():
    pixels = noise()
    labels = Detections.of(
        [[-9, -9, 5, 6], [25, 20, 99, 99], [-9, 2, -1, 9], [30, 0, 40, 9], [10, 10, 14, 14]],
        range(5),
        is_crowd=[False, False, False, False, True],
    )
    expected = pixels.copy()
    expected[:6, :5] = 255 - pixels[:6, :5]
    expected[20:, 25:] = 255 - pixels[20:, 25:]
    np.testing.assert_array_equal(made_of(f"Invert{ONLY}", pixels, labels), expected)


@pytest.mark.parametrize(
    "labels",
    [
        ClassLabel.of([1]),
        SegmentationMap(class_map=np.ones((25, 30), np.uint8)),
        Detections.of(),
        SegmentationMap.unknown(),
    ],
)
def test_without_boxes_nothing_changes(labels):
    for name in PLAIN:
        np.testing.assert_array_equal(made_of(name + ONLY, noise(), labels), noise())


def test_boxes_lie_in_source_pixels_however_small_the_image_was_read():
    pixels = noise(25, 30)
    labels = Detections.of(np.array(BOXES) * (2, 4, 2, 4), range(3))
    found = made_of(f"Invert{ONLY}", pixels, labels, size_hw=(100, 60))
    np.testing.assert_array_equal(
        found, made_of(f"Invert{ONLY}", pixels, Detections.of(BOXES, range(3)))
    )
    # And Contrast counts the source's pixels of each box: 8 times as many.
    found = made_of(f"Contrast{ONLY}", pixels, labels, size_hw=(100, 60), level=0)
    for left, top, right, bottom in INSIDE:
        grey = (bottom - top) * (right - left) * 8 // 256
        expected = [int(grey + 0.1 * (int(v) - grey)) for v in pixels[top, left]]
        assert np.abs(found[top, left].astype(int) - expected).max() <= 1
