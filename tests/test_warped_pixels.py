"""Under a warp, an image, its class map and its boxes go to the same place; a class has none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listing import moved, rotation, shear_x, shear_y, translation
from PIL import Image

from ray_st.data.augment import warp
from ray_st.data.augment.operations import RANDAUGMENT_RANGES, apply_operation, names
from ray_st.data.augment.scene import Scene
from ray_st.data.labels import IGNORE, ClassLabel, Detections, SegmentationMap

pytestmark = pytest.mark.pure

# Each by an amount from -1 to 1, and where a pixel is then read.
WARPS = {
    warp.rotate: (90, lambda degrees, size_hw: rotation(degrees, size_hw)),
    warp.shear_x: (0.9, lambda shear, _: shear_x(shear)),
    warp.shear_y: (0.9, lambda shear, _: shear_y(shear)),
    warp.translate_x: (20, lambda pixels, _: translation(pixels, 0)),
    warp.translate_y: (20, lambda pixels, _: translation(0, pixels)),
}
CHANGES = st.sampled_from(list(WARPS))
AMOUNTS = st.floats(-1, 1)
SIDES = st.integers(1, 24)
SEEDS = st.integers(0, 2**32)


def rng(seed=0):
    return np.random.default_rng(seed)


def grey(plane):
    return Image.fromarray(np.repeat(plane[..., None], 3, axis=2))


@settings(max_examples=60, deadline=None)
@given(change=CHANGES, amount=AMOUNTS, h=SIDES, w=SIDES, seed=SEEDS)
def test_a_class_map_is_read_at_the_nearest_pixel(change, amount, h, w, seed):
    most, reading = WARPS[change]
    class_map, confidence = rng(seed).integers(0, 200, (2, h, w), np.uint8)
    labels = SegmentationMap(class_map=class_map, confidence=confidence)
    scene = Scene(image=grey(class_map), labels=labels, size_hw=(h, w))
    made = change(scene, most * amount)
    for found, plane in (
        (made.labels.class_map, class_map),
        (made.labels.confidence, confidence),
    ):
        expected, is_sure = moved(plane, reading(most * amount, (h, w)), IGNORE)
        np.testing.assert_array_equal(found[is_sure], expected[is_sure])
    # And as the image is, that shows the ids as grey; but what comes in from outside is IGNORE.
    shown, found = np.array(made.image)[..., 0], made.labels.class_map
    np.testing.assert_array_equal(found != IGNORE, made.labels.confidence != IGNORE)
    expected = np.where(found == IGNORE, warp.FILL_RGB[0], found)
    np.testing.assert_array_equal(shown, expected)
    np.testing.assert_array_equal(labels.class_map, class_map)


@settings(max_examples=100, deadline=None)
@given(
    change=CHANGES,
    amount=AMOUNTS,
    h=st.integers(20, 60),
    w=st.integers(20, 60),
    seed=SEEDS,
    halves=st.booleans(),
)
def test_an_objects_pixels_lie_in_its_box_and_reach_its_sides(change, amount, h, w, seed, halves):
    h, w = 2 * h, 2 * w
    left, right = 2 * np.sort(rng(seed).integers(0, w // 2 - 4, 2)) + (0, 8)
    top, bottom = 2 * np.sort(rng(seed + 1).integers(0, h // 2 - 4, 2)) + (0, 8)
    class_map = np.zeros((h, w), np.uint8)
    class_map[top:bottom, left:right] = 1
    image = grey(class_map * 255)
    if halves:
        image = image.reduce(2)
    argument = WARPS[change][0] * amount

    def made(labels):
        return change(Scene(image=image, labels=labels, size_hw=(h, w)), argument)

    by_box = made(Detections.of([[left, top, right, bottom]], [0]))
    by_map = made(SegmentationMap(class_map=class_map))
    np.testing.assert_array_equal(np.array(by_box.image), np.array(by_map.image))
    box = by_box.labels.boxes_xyxy[0]
    for shown, scale in (
        (by_map.labels.class_map == 1, 1),
        (np.array(by_box.image)[..., 0] == 255, 2 if halves else 1),
    ):
        # Where the border cuts a corner off, less is shown than the box says: it is the hull's.
        is_whole = (box[:2] > 0).all() and (box[2:] < (w, h)).all()
        assert shown.any() or not is_whole
        if not shown.any():
            continue
        low = np.argwhere(shown).min(axis=0)[::-1] * scale
        high = (np.argwhere(shown).max(axis=0)[::-1] + 1) * scale
        assert (low >= box[:2] - scale).all()
        assert (high <= box[2:] + scale).all()
        if is_whole:  # a corner of 45 degrees shows within 2 pixels of its tip
            assert (low <= box[:2] + 2 * scale).all()
            assert (high >= box[2:] - 2 * scale).all()


@pytest.mark.parametrize("change", WARPS)
def test_a_map_of_another_size_is_brought_to_its_image_first(change):
    small = rng().integers(0, 9, (10, 15), np.uint8)
    argument = WARPS[change][0] * 0.3
    large = np.kron(small, np.ones((2, 2), np.uint8))

    def made(class_map):
        labels = SegmentationMap(class_map=class_map)
        return change(Scene(image=grey(large), labels=labels, size_hw=(20, 30)), argument).labels

    np.testing.assert_array_equal(made(small).class_map, made(large).class_map)


@pytest.mark.parametrize("name", names())
def test_a_class_has_no_place(name):
    labels = ClassLabel.of([3, 1], [0.7, 0.2])
    scene = Scene(
        image=grey(np.arange(48, dtype=np.uint8).reshape(6, 8)), labels=labels, size_hw=(6, 8)
    )
    assert apply_operation(scene, name, 3, 10, RANDAUGMENT_RANGES, rng()).labels is labels


@settings(max_examples=60, deadline=None)
@given(h=SIDES, w=SIDES, seed=SEEDS)
def test_mirrored_twice_all_is_as_it_was(h, w, seed):
    pixels = rng(seed).integers(0, 256, (h, w, 3), np.uint8)
    corners = np.sort(rng(seed).integers(0, 100, (5, 2, 2)), axis=1).reshape(-1, 4)
    boxes = Detections.of(corners, range(5))
    for labels in (
        boxes,
        SegmentationMap(class_map=pixels[..., 0], confidence=pixels[..., 1]),
        SegmentationMap.unknown(),
        ClassLabel.of([2]),
    ):
        scene = Scene(image=Image.fromarray(pixels), labels=labels, size_hw=(h, w))
        once = warp.flip(scene)
        twice = warp.flip(once)
        np.testing.assert_array_equal(np.array(once.image), pixels[:, ::-1])
        np.testing.assert_array_equal(np.array(twice.image), pixels)
        for field, value in vars(labels).items():
            np.testing.assert_array_equal(getattr(twice.labels, field), value)
    mirrored = boxes.mirrored(w).boxes_xyxy
    np.testing.assert_array_equal(mirrored[:, [1, 3]], corners[:, [1, 3]])
    np.testing.assert_array_equal(mirrored[:, [0, 2]], w - corners[:, [2, 0]])


@pytest.mark.parametrize("change", WARPS)
def test_labels_that_know_nothing_still_do_not(change):
    for labels in (SegmentationMap.unknown(), Detections.unknown(), ClassLabel.unknown()):
        scene = Scene(image=Image.new("RGB", (9, 5)), labels=labels, size_hw=(5, 9))
        made = change(scene, 0.7)
        assert made.labels.amount() == 0
        assert type(made.labels) is type(labels)
