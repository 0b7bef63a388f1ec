"""A scene decoded at half its size is varied as the whole one is, and its labels are the same."""

import numpy as np
import pytest
from PIL import Image

from ray_st.data.affine import Affine
from ray_st.data.augment.operations import RANDAUGMENT_RANGES, apply_operation, names
from ray_st.data.augment.scene import Scene
from ray_st.data.labels import Detections, SegmentationMap

pytestmark = pytest.mark.pure

SIZE_HW = (121, 159)  # halves to 61 x 80: neither side of it is exactly half
UNIT_PX = 0.25  # 100 pixels of a listing are 25
BOXES = [[20, 15, 90, 70], [100.5, 60.2, 150, 110.9], [30, 80, 60, 118]]


def smooth():
    y, x = np.mgrid[0 : SIZE_HW[0], 0 : SIZE_HW[1]]
    waves = [np.sin(x / 23) + np.cos(y / 19), np.sin((x + y) / 31), x / 160 + y / 240]
    scaled = [20 + 210 * (wave - wave.min()) / np.ptp(wave) for wave in waves]
    return Image.fromarray(np.stack(scaled, axis=2).astype(np.uint8))


WHOLE = smooth()
HALF = WHOLE.resize((80, 61), Image.Resampling.BOX)


def varied(image, labels, name, level, seed):
    scene = Scene(image=image, labels=labels, size_hw=SIZE_HW, unit_px=UNIT_PX)
    draw = np.random.default_rng(seed)
    made = apply_operation(scene, name, 3, level, RANDAUGMENT_RANGES, draw)
    assert (made.size_hw, made.unit_px) == (scene.size_hw, scene.unit_px)
    assert made.image.size == image.size
    return made


def places(y, x):
    """Left, top, right, bottom of a pixel of the half image, in pixels of the whole one."""
    across, down = SIZE_HW[1] / HALF.width, SIZE_HW[0] / HALF.height
    return x * across, y * down, (x + 1) * across, (y + 1) * down


def around(pixels):
    """Darkest and brightest of the whole image about each pixel of the half one, 2 pixels wide."""
    low, high = (np.empty((HALF.height, HALF.width, 3), int) for _ in range(2))
    for y, x in np.ndindex(low.shape[:2]):
        left, top, right, bottom = map(int, places(y, x))
        near = pixels[max(0, top - 2) : bottom + 3, max(0, left - 2) : right + 3]
        low[y, x], high[y, x] = near.min(axis=(0, 1)), near.max(axis=(0, 1))
    return low, high


def on_a_border():
    """Pixels of the half image that are in part within a box: it is changed with all of them."""
    found = np.zeros((HALF.height, HALF.width), bool)
    for y, x in np.ndindex(found.shape):
        left, top, right, bottom = places(y, x)
        for low_x, low_y, high_x, high_y in BOXES:
            meets = left < high_x and low_x < right and top < high_y and low_y < bottom
            lies_in = low_x <= left and right <= high_x and low_y <= top and bottom <= high_y
            found[y, x] |= meets and not lies_in
    return found


# Its step is a whole number of pixels, 2 or 10 here, so that in a small box it is another change.
@pytest.mark.parametrize("name", [name for name in names() if name != "Equalize_Only_BBoxes"])
def test_half_the_size_is_the_same_picture_and_the_same_labels(name):
    labels = Detections.of(BOXES, [0, 1, 2])
    for level, seed in ((4, 0), (10, 1)):
        whole, half = (varied(image, labels, name, level, seed) for image in (WHOLE, HALF))
        np.testing.assert_array_equal(half.labels.boxes_xyxy, whole.labels.boxes_xyxy)
        low, high = around(np.array(whole.image))
        found = np.array(half.image).astype(int)
        # A half pixel shows something of what is about it, to the rounding of two steps.
        is_within = ((low - 2 <= found) & (found <= high + 2)).all(axis=2)
        if name.endswith("_Only_BBoxes"):
            is_within |= on_a_border()
        assert is_within.all(), level


def test_a_thin_image_is_not_half_as_high_as_it_was():
    # 3 x 160 is read as 2 x 80. Each warp reads there what it reads here, an axis by its own ratio.
    ratio_xy = Scene(
        image=Image.new("RGB", (80, 2)), labels=Detections.of(), size_hw=(3, 160)
    ).ratio_xy
    assert ratio_xy == pytest.approx((1 / 2, 2 / 3))
    places = np.random.default_rng(0).uniform(0, (160, 3), (9, 2))
    for warp in (Affine.rotation(20, (3, 160)), Affine(b=0.3, c=7), Affine(d=-0.2, f=1.5)):
        expected = read(warp, places) * ratio_xy
        np.testing.assert_allclose(read(warp.scaled(ratio_xy), places * ratio_xy), expected)


def read(warp, places_xy):
    a, b, c, d, e, f = warp.coefficients
    return np.array([(a * x + b * y + c, d * x + e * y + f) for x, y in places_xy])


@pytest.mark.parametrize("name", ["Rotate_BBox", "ShearX_BBox", "ShearY_BBox", "TranslateX_BBox"])
def test_a_class_map_of_the_source_is_the_same_under_either(name):
    class_map = np.random.default_rng(0).integers(0, 5, SIZE_HW, np.uint8)
    maps = [
        varied(image, SegmentationMap(class_map=class_map), name, 7, 3).labels.class_map
        for image in (WHOLE, HALF)
    ]
    np.testing.assert_array_equal(*maps)
    assert (maps[0] != class_map).any()
