"""Every operation's pixels: against torchvision's, and against slow words of the listing."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as vision
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

from ray_st.data.augment.operations import OPERATIONS, RANDAUGMENT_RANGES
from ray_st.data.augment.scene import Scene
from ray_st.data.labels import ClassLabel

pytestmark = pytest.mark.pure

UNIT_PX = 0.04  # a picture of 25 pixels: what moves by 100 at level 10 moves by 4
LEVELS = [0, 3, 5, 8, 10]


def noise(height, width, low=0, high=256):
    return np.random.default_rng(7).integers(low, high, (height, width, 3), np.uint8)


def smooth(height, width):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 4 * x, 60 + 5 * y, 90 + 2 * (x + y)], axis=2).astype(np.uint8)


PICTURES = {
    "noise": noise(17, 23),
    "dull": noise(16, 20, 90, 140),
    "smooth": smooth(19, 25),
    "flat": np.full((4, 6, 3), (0, 77, 255), np.uint8),
    "two values": np.where(noise(20, 21) < 200, np.uint8(3), np.uint8(250)),
    "row": noise(1, 24),
    "column": noise(24, 1),
    "pixel": noise(1, 1),
}


def changed(name, pixels, level, seed=0, unit_px=UNIT_PX):
    scene = Scene(
        image=Image.fromarray(pixels),
        labels=ClassLabel.unknown(),
        size_hw=pixels.shape[:2],
        unit_px=unit_px,
    )
    made = OPERATIONS[name](scene, level, RANDAUGMENT_RANGES, np.random.default_rng(seed))
    assert made.image.mode == "RGB"
    return np.array(made.image)


def factor(level):
    return 1.8 * level / 10 + 0.1


def bits(level):
    return max(1, 4 * level // 10)


def shift(level):
    return 100 * level / 10 * UNIT_PX


PLAIN = {
    "Identity": lambda pixels, _: pixels,
    "AutoContrast": lambda pixels, _: autocontrast(pixels),
    "Equalize": lambda pixels, _: equalize(pixels),
    "Invert": lambda pixels, _: invert(pixels),
    "Posterize": lambda pixels, level: posterize(pixels, bits(level)),
    "Solarize": lambda pixels, level: solarize(pixels, 256 * level // 10),
    "SolarizeAdd": lambda pixels, level: solarize_add(pixels, 110 * level // 10),
    "Color": lambda pixels, level: color(pixels, factor(level)),
    "Contrast": lambda pixels, level: contrast(pixels, factor(level)),
    "Brightness": lambda pixels, level: brightness(pixels, factor(level)),
    "Sharpness": lambda pixels, level: sharpness(pixels, factor(level)),
    "Flip": lambda pixels, _: flip(pixels),
}
# By 1: AutoContrast's scale is a float that may fall short of a whole number; grey and smoothed
# values are rounded by Pillow and cut off by TensorFlow; so are mixtures just below a whole number.
OFF_BY_ONE = {"AutoContrast", "Color", "Contrast", "Brightness", "Sharpness"}

# Of level and size, either way.
MOVING = {
    "Rotate_BBox": lambda level, size_hw: rotation(30 * level / 10, size_hw),
    "ShearX_BBox": lambda level, _: shear_x(0.3 * level / 10),
    "ShearY_BBox": lambda level, _: shear_y(0.3 * level / 10),
    "TranslateX_BBox": lambda level, _: translation(shift(level), 0),
    "TranslateY_BBox": lambda level, _: translation(0, shift(level)),
}


def test_no_operation_is_left_out():
    assert {*PLAIN, *MOVING, "Cutout", "BBox_Cutout"} == set(OPERATIONS)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", PLAIN)
def test_a_change_of_colour_is_the_listings(name, picture):
    for level in LEVELS:
        pixels = PICTURES[picture]
        found, expected = changed(name, pixels, level), PLAIN[name](pixels, level)
        most = 1 if name in OFF_BY_ONE else 0
        assert np.abs(found.astype(int) - expected).max() <= most, level


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", MOVING)
def test_what_moves_is_read_at_the_nearest_pixel(name, picture):
    pixels = PICTURES[picture]
    for level in LEVELS:
        found = changed(name, pixels, level)
        agreeing = []
        for sign in (1, -1):
            expected, is_sure = moved(pixels, MOVING[name](sign * level, pixels.shape[:2]), GREY)
            assert is_sure.mean() > 0.9
            agreeing.append((found[is_sure] == expected[is_sure]).all())
        assert any(agreeing), level


def turned(image, degrees):
    return vision.rotate(image, degrees, fill=[GREY] * 3)


def sheared(image, x, y):
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    options = {"angle": 0, "translate": [0, 0], "scale": 1.0, "center": [0, 0]}
    return vision.affine(image, shear=degrees, fill=[GREY] * 3, **options)


def shifted(image, x, y):
    options = {"angle": 0, "scale": 1.0, "shear": [0, 0]}
    return vision.affine(image, translate=[x, y], fill=[GREY] * 3, **options)


# Of an image and a level; torchvision knows neither SolarizeAdd, Cutout nor the listing's Contrast.
VISION = {
    "AutoContrast": lambda image, _: vision.autocontrast(image),
    "Equalize": lambda image, _: vision.equalize(image),
    "Invert": lambda image, _: vision.invert(image),
    "Posterize": lambda image, level: vision.posterize(image, bits(level)),
    "Solarize": lambda image, level: vision.solarize(image, min(255, 256 * level // 10)),
    "Color": lambda image, level: vision.adjust_saturation(image, factor(level)),
    "Brightness": lambda image, level: vision.adjust_brightness(image, factor(level)),
    "Sharpness": lambda image, level: vision.adjust_sharpness(image, factor(level)),
    "Flip": lambda image, _: vision.horizontal_flip(image),
    "Rotate_BBox": lambda image, level: turned(image, 3 * level),
    "ShearX_BBox": lambda image, level: sheared(image, 0.03 * level, 0),
    "ShearY_BBox": lambda image, level: sheared(image, 0, 0.03 * level),
    "TranslateX_BBox": lambda image, level: shifted(image, -round(shift(level)), 0),
    "TranslateY_BBox": lambda image, level: shifted(image, 0, -round(shift(level))),
}
WHOLE_STEPS = [0, 5, 10]  # torchvision shifts a PIL image by whole pixels only


def closest(found, candidates):
    return min((np.abs(found.astype(int) - one) for one in candidates), key=np.sum)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", VISION)
def test_torchvision_makes_the_same_of_an_image(name, picture):
    pixels = PICTURES[picture]
    for level in WHOLE_STEPS:
        signs = (1, -1) if name in MOVING else (1,)
        if name == "Solarize" and level == 10:
            continue  # at 256 nothing changes; torchvision ends at 255, where white does
        image = Image.fromarray(pixels)
        candidates = [np.array(VISION[name](image, sign * level)) for sign in signs]
        assert closest(changed(name, pixels, level), candidates).max() == 0, level


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", VISION)
def test_torchvision_makes_nearly_the_same_of_a_tensor(name, picture):
    pixels = PICTURES[picture]
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    for level in WHOLE_STEPS:
        signs = (1, -1) if name in MOVING else (1,)
        if name == "Solarize" and level == 10:
            continue
        candidates = [VISION[name](tensor, sign * level) for sign in signs]
        arrays = [candidate.permute(1, 2, 0).numpy() for candidate in candidates]
        found = closest(changed(name, pixels, level), arrays)
        if name in MOVING:  # where a place lies between two pixels, either is the nearest
            _, is_sure = moved(pixels, MOVING[name](level, pixels.shape[:2]), GREY)
            _, is_sure_too = moved(pixels, MOVING[name](-level, pixels.shape[:2]), GREY)
            assert found[is_sure & is_sure_too].max() == 0, level
        else:  # its tensors' grey is cut off where Pillow's is rounded; AutoContrast as above
            assert found.max() <= (1 if name in ("AutoContrast", "Color") else 0), level


def test_the_listings_contrast_blends_with_the_number_of_pixels():
    for height, width, grey in ((32, 40, 5), (3, 853, 9), (4, 640, 10)):  # 3 x 853 is 10 x 256 - 1
        black = np.zeros((height, width, 3), np.uint8)
        assert (changed("Contrast", black, 0) == int(0.9 * grey)).all()
    # From 256 x 256 pixels on it is white, and no more than white.
    for side in (256, 300):
        assert (changed("Contrast", np.zeros((side, 256, 3), np.uint8), 0) == int(0.9 * 255)).all()


def test_contrast_counts_the_pixels_of_the_source_at_whatever_size_it_was_read():
    scene = Scene(
        image=Image.fromarray(np.zeros((16, 20, 3), np.uint8)),
        labels=ClassLabel.unknown(),
        size_hw=(32, 40),
    )
    found = OPERATIONS["Contrast"](scene, 0, RANDAUGMENT_RANGES, np.random.default_rng(0))
    assert (np.array(found.image) == int(0.9 * (32 * 40 // 256))).all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_levels_past_the_listings_go_on(name):
    pixels = PICTURES["smooth"]
    made = changed(name, pixels, 30)
    assert made.shape == pixels.shape
    assert (made == changed(name, pixels, 30)).all()
