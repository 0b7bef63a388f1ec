"""Boxes under warps: each becomes the hull of what it framed, and none is lost."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as vision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors

from ray_st.data.augment import AugmentConfig, view, warp
from ray_st.data.augment.operations import RANDAUGMENT_RANGES, apply_operation, names
from ray_st.data.augment.scene import Scene
from ray_st.data.images import Source
from ray_st.data.labels import Detections

pytestmark = pytest.mark.pure

SIDES = st.integers(1, 90)
SEEDS = st.integers(0, 2**32)
RIM = 0.05  # of a side: what is left of a box that leaves the image


def rng(seed=0):
    return np.random.default_rng(seed)


def scene_of(labels, size_hw, **more):
    pixels = rng(1).integers(0, 256, (*size_hw, 3), np.uint8)
    return Scene(image=Image.fromarray(pixels), labels=labels, size_hw=size_hw, **more)


def any_boxes(seed, size_hw, past=0.2):
    """Up to six boxes; some reach past the border, some are crowds, some are specks."""
    draw = rng(seed)
    count = int(draw.integers(0, 7))
    corners = draw.uniform(-past, 1 + past, (count, 2, 2)) * size_hw[::-1]
    corners[:, 1] += 0.01
    return Detections.of(
        np.sort(corners, axis=1).reshape(-1, 4),
        draw.integers(0, 9, count),
        scores=draw.random(count),
        is_crowd=draw.random(count) < 0.3,
        areas_px=draw.uniform(1, 99, count),
    )


# Each warp by an amount from -1 to 1: what is called, and where a point goes, in other words.
def turned(x, y, degrees, size_hw):
    middle = complex(size_hw[1] / 2, -size_hw[0] / 2)  # y upwards
    there = middle + (complex(x, -y) - middle) * complex(
        math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    )
    return there.real, -there.imag


WARPS = {
    "rotate": (
        lambda scene, amount: warp.rotate(scene, 90 * amount),
        lambda x, y, amount, size_hw: turned(x, y, 90 * amount, size_hw),
    ),
    "shear_x": (
        lambda scene, amount: warp.shear_x(scene, 0.9 * amount),
        lambda x, y, amount, _: (x - 0.9 * amount * y, y),
    ),
    "shear_y": (
        lambda scene, amount: warp.shear_y(scene, 0.9 * amount),
        lambda x, y, amount, _: (x, y - 0.9 * amount * x),
    ),
    "translate_x": (
        lambda scene, amount: warp.translate_x(scene, 60 * amount),
        lambda x, y, amount, _: (x - 60 * amount, y),
    ),
    "translate_y": (
        lambda scene, amount: warp.translate_y(scene, 60 * amount),
        lambda x, y, amount, _: (x, y - 60 * amount),
    ),
}


def slow_box(box, where, size_hw, rim):
    """Hull of what many points of the border become, clipped; a box that is gone is a rim.

    And whether it only just touches the image: there, rounding decides whether it is gone.
    """
    left, top, right, bottom = box
    steps = np.linspace(0, 1, 9)
    across, down = left + steps * (right - left), top + steps * (bottom - top)
    border = [(x, y) for x in across for y in (top, bottom)]
    border += [(x, y) for y in down for x in (left, right)]
    points = np.array([where(x, y) for x, y in border])
    hull, is_touching = [], False
    for axis, side in ((0, size_hw[1]), (1, size_hw[0])):
        first, last = points[:, axis].min(), points[:, axis].max()
        is_touching |= min(abs(last), abs(first - side)) < 1e-3
        low, high = min(max(first, 0), side), min(max(last, 0), side)
        if last <= 0:
            high = rim * side
        elif first >= side:
            low = (1 - rim) * side
        hull.append((low, high))
    return [hull[0][0], hull[1][0], hull[0][1], hull[1][1]], is_touching


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(WARPS)), amount=st.floats(-1, 1), h=SIDES, w=SIDES, seed=SEEDS)
def test_boxes_are_the_hulls_of_their_points(name, amount, h, w, seed):
    change, where = WARPS[name]
    labels = any_boxes(seed, (h, w))
    found = change(scene_of(labels, (h, w)), amount).labels
    for one, is_crowd, box in zip(
        found.boxes_xyxy, found.is_crowd, labels.boxes_xyxy.tolist(), strict=True
    ):
        rim = 0 if is_crowd else RIM  # an ignored rim would hide empty ground
        moved = lambda x, y: where(x, y, amount, (h, w))  # noqa: E731
        expected, is_touching = slow_box(box, moved, (h, w), rim)
        assert is_touching or np.abs(one - expected).max() < 1e-3


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(names()), level=st.floats(0, 30), h=SIDES, w=SIDES, seed=SEEDS)
def test_no_operation_loses_a_box_or_changes_what_was_given(name, level, h, w, seed):
    labels = any_boxes(seed, (h, w))
    scene = scene_of(labels, (h, w), unit_px=max(h, w) / 640)
    pixels, boxes = np.array(scene.image), labels.boxes_xyxy.copy()
    made = apply_operation(scene, name, 3, level, RANDAUGMENT_RANGES, rng(seed))
    for field in ("class_ids", "scores", "is_crowd", "areas_px"):
        np.testing.assert_array_equal(getattr(made.labels, field), getattr(labels, field))
    found = made.labels.boxes_xyxy
    assert (found.shape, found.dtype) == (boxes.shape, np.float32)
    assert np.isfinite(found).all()
    assert (found[:, 2:] >= found[:, :2]).all()
    if name.endswith("_BBox"):
        assert (found >= 0).all()
        assert (found <= np.float32([w, h, w, h])).all()
    elif name != "Flip":
        np.testing.assert_array_equal(found, boxes)
    np.testing.assert_array_equal(labels.boxes_xyxy, boxes)
    np.testing.assert_array_equal(np.array(scene.image), pixels)
    again = apply_operation(scene, name, 3, level, RANDAUGMENT_RANGES, rng(seed))
    np.testing.assert_array_equal(again.labels.boxes_xyxy, found)
    np.testing.assert_array_equal(np.array(again.image), np.array(made.image))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["rotate", "shear_x", "shear_y"]),
    amount=st.floats(-1, 1),
    h=SIDES,
    w=SIDES,
    seed=SEEDS,
)
def test_torchvision_moves_boxes_to_the_same_places(kind, amount, h, w, seed):
    labels = any_boxes(seed, (h, w), past=0)
    boxes = torch.from_numpy(labels.boxes_xyxy)
    given_boxes = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(h, w))
    if kind == "rotate":
        theirs = vision.rotate(given_boxes, 90 * amount)
    else:
        degrees = math.degrees(math.atan(0.9 * amount))
        shear = [degrees, 0] if kind == "shear_x" else [0, degrees]
        options = {"angle": 0, "translate": [0, 0], "scale": 1.0, "center": [0, 0]}
        theirs = vision.affine(given_boxes, shear=shear, **options)
    found = WARPS[kind][0](scene_of(labels, (h, w)), amount).labels.boxes_xyxy
    expected = theirs.numpy().reshape(-1, 4)
    is_shown = (expected[:, 2:] - expected[:, :2] > 1e-3).all(axis=1)  # else it leaves a rim here
    np.testing.assert_allclose(found[is_shown], expected[is_shown], atol=1e-3)


def test_a_box_that_leaves_the_image_becomes_a_rim():
    labels = Detections.of([[10, 10, 30, 20], [60, 5, 90, 45]], [0, 1])
    scene = scene_of(labels, (50, 100))
    by = {
        (warp.translate_x, 200): [[0, 10, 5, 20], [0, 5, 5, 45]],
        (warp.translate_x, -200): [[95, 10, 100, 20], [95, 5, 100, 45]],
        (warp.translate_x, 30): [[0, 10, 5, 20], [30, 5, 60, 45]],  # just gone
        (warp.translate_y, 200): [[10, 0, 30, 2.5], [60, 0, 90, 2.5]],
        (warp.translate_y, -200): [[10, 47.5, 30, 50], [60, 47.5, 90, 50]],
        (warp.shear_x, 3): [[0, 10, 5, 20], [0, 5, 75, 45]],
    }
    for (change, amount), expected in by.items():
        found = change(scene, amount).labels
        np.testing.assert_allclose(found.boxes_xyxy, expected, atol=1e-4)
        assert found.class_ids.tolist() == [0, 1]


def test_crowds_move_too_but_are_no_objects():
    labels = Detections.of([[10, 10, 30, 20], [60, 5, 90, 45]], [0, 1], is_crowd=[True, False])
    found = warp.translate_x(scene_of(labels, (50, 100)), 5).labels
    assert found.boxes_xyxy.tolist() == [[5, 10, 25, 20], [55, 5, 85, 45]]
    assert found.is_crowd.tolist() == [True, False]
    assert found.objects_xyxy().tolist() == [[55, 5, 85, 45]]


@pytest.mark.parametrize("name", ["S2", "S4"])
def test_a_box_that_never_was_in_the_image_does_not_come_in(name):
    pixels = np.zeros((50, 50, 3), np.uint8)
    nan = float("nan")
    corners = [[100, 100, 400, 400], [-90, 0, -10, 50], [nan, 1, 2, 3], [10, 10, 40, 40]]
    labels = Detections.of(corners, range(4))
    config = AugmentConfig(policy=name)
    seen = [
        view(Source.of_pixels(pixels), labels, 64, np.random.default_rng(seed), config)[1]
        for seed in range(200)
    ]
    assert {class_id for one in seen for class_id in one.class_ids.tolist()} == {3}
