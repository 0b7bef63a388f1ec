import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ray_st.config import UserError
from ray_st.data.augment import AugmentConfig
from ray_st.data.augment import view as view_of
from ray_st.data.augment.jitter import JITTER_PROBABILITY, jittered
from ray_st.data.images import PAD_RGB, Source
from ray_st.data.labels import IGNORE, ClassLabel, Detections, SegmentationMap

pytestmark = pytest.mark.pure

STILL = AugmentConfig(flip_probability=0, scale_jitter=(1, 1))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def view(pixels, labels, size_px, rng, config):
    return view_of(Source.of_pixels(pixels), labels, size_px, rng, config)


def test_no_jitter_and_no_flip_is_fit():
    pixels = np.full((20, 40, 3), 9, np.uint8)
    shown, labels = view(pixels, Detections.of([[4, 4, 20, 20]], [1]), 80, rng(), STILL)
    assert (shown[:40] == 9).all()
    assert (shown[40:] == PAD_RGB).all()
    assert labels.boxes_xyxy.tolist() == [[8, 8, 40, 40]]
    assert labels.areas_px.tolist() == [256]  # the source's area stays


def test_flip_mirrors_pixels_and_boxes():
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :5] = 200
    config = AugmentConfig(flip_probability=1, scale_jitter=(1, 1))
    shown, labels = view(pixels, Detections.of([[0, 2, 5, 9]], [0]), 20, rng(), config)
    assert labels.boxes_xyxy.tolist() == [[15, 2, 20, 9]]
    assert (shown[:10, 15:] == 200).all()
    assert (shown[:10, :15] == 0).all()


def test_larger_is_cropped_at_random_places():
    # A bright square; enlarged twice, the box must frame it wherever the crop fell.
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[16:24, 16:24] = 255
    config = AugmentConfig(flip_probability=0, scale_jitter=(2, 2))
    corners = set()
    for seed in range(20):
        shown, labels = view(pixels, Detections.of([[16, 16, 24, 24]], [0]), 40, rng(seed), config)
        left, top, right, bottom = labels.boxes_xyxy[0].astype(int)
        corners.add((left, top))
        assert (shown[top + 1 : bottom - 1, left + 1 : right - 1] > 150).all()
    assert len(corners) > 15


def test_smaller_is_padded_right_and_below():
    config = AugmentConfig(flip_probability=0, scale_jitter=(0.5, 0.5))
    shown, labels = view(
        np.zeros((40, 40, 3), np.uint8), Detections.of([[0, 0, 40, 40]], [0]), 40, rng(), config
    )
    assert (shown[:20, :20] == 0).all()
    assert (shown[20:] == PAD_RGB).all()
    assert labels.boxes_xyxy.tolist() == [[0, 0, 20, 20]]


def test_specks_are_dropped_and_crowds_stay():
    labels = Detections.of(
        [[0, 0, 30, 30], [5, 5, 5.5, 30], [2, 2, 9, 9]], [0, 1, 2], is_crowd=[True, False, False]
    )
    _, left = view(np.zeros((40, 40, 3), np.uint8), labels, 40, rng(), STILL)
    assert left.class_ids.tolist() == [0, 2]
    assert left.is_crowd.tolist() == [True, False]
    assert left.amount() == 1


def test_an_image_without_boxes_has_a_view():
    shown, labels = view(np.zeros((7, 3, 3), np.uint8), Detections.of(), 32, rng(), AugmentConfig())
    assert shown.shape == (32, 32, 3)
    assert len(labels) == 0


def test_without_colours_nothing_more_is_drawn():
    pixels, used, expected = np.zeros((40, 60, 3), np.uint8), rng(3), rng(3)
    view(pixels, Detections.of(), 32, used, AugmentConfig(scale_jitter=(2, 2)))
    expected.random()  # flip
    expected.uniform(2, 2)  # scale
    expected.integers(0, 43 - 32 + 1)  # 40 x 60 at 64: 43 x 64
    expected.integers(0, 64 - 32 + 1)
    assert used.bit_generator.state == expected.bit_generator.state


def test_colours_change_neither_place_nor_padding():
    pixels = rng(1).integers(0, 256, (30, 50, 3), np.uint8)
    labels = Detections.of([[10, 5, 40, 25]], [0])
    jitter = {"scale_jitter": (0.5, 2.0)}
    for seed in range(20):
        plain, boxes = view(pixels, labels, 48, rng(seed), AugmentConfig(**jitter))
        config = AugmentConfig(**jitter, colour_jitter=1.0, grey_probability=0.2)
        shown, same = view(pixels, labels, 48, rng(seed), config)
        np.testing.assert_array_equal(same.boxes_xyxy, boxes.boxes_xyxy)
        padding = (plain == PAD_RGB).all(axis=2)
        assert (shown[padding] == PAD_RGB).all()
        again, _ = view(pixels, labels, 48, rng(seed), config)
        np.testing.assert_array_equal(shown, again)


def test_grey_is_the_picture_without_its_colours():
    pixels = rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    config = AugmentConfig(flip_probability=0, scale_jitter=(1, 1), grey_probability=1)
    shown, _ = view(pixels, Detections.of(), 32, rng(), config)
    grey = np.array(Image.fromarray(pixels).convert("L"))
    np.testing.assert_array_equal(shown, grey[..., None].repeat(3, axis=2))


def test_jitter_leaves_one_image_in_five():
    pixels = rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    changed = [bool((jittered(pixels, 1.0, rng(seed)) != pixels).any()) for seed in range(300)]
    assert np.mean(changed) == pytest.approx(JITTER_PROBABILITY, abs=0.06)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_jitter_turns_hues_by_a_fifth_of_the_circle_at_most(strength):
    red = np.full((4, 4, 3), (200, 30, 30), np.uint8)
    turns = []
    for seed in range(200):
        hue, saturation, _ = colorsys.rgb_to_hsv(*jittered(red, strength, rng(seed))[0, 0] / 255)
        if saturation > 0.2:  # the hue of a near grey says nothing
            turns.append((hue + 0.5) % 1 - 0.5)
    assert 0.1 * strength < max(turns) < 0.2 * strength + 0.02
    assert -0.2 * strength - 0.02 < min(turns) < -0.1 * strength


def test_grey_pixels_stay_grey_but_not_as_bright():
    grey = np.full((4, 4, 3), 120, np.uint8)
    brightness = set()
    for seed in range(100):
        shown = jittered(grey, 0.5, rng(seed))
        assert (shown == shown[..., :1]).all()
        brightness.add(int(shown[0, 0, 0]))
    assert min(brightness) >= 120 * 0.6 - 1
    assert max(brightness) <= 120 * 1.4 + 1
    assert len(brightness) > 30


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    size_px=st.integers(1, 96),
    low=st.floats(0.1, 1),
    high=st.floats(1, 2),
    seed=st.integers(0, 2**32),
)
def test_boxes_stay_in_the_view_and_the_seed_decides(height, width, size_px, low, high, seed):
    draw = rng(seed)
    corners = draw.uniform(-0.2, 1.2, (6, 2, 2)) * (width, height)
    corners.sort(axis=1)
    labels = Detections.of(corners.reshape(6, 4), np.arange(6))
    pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    config = AugmentConfig(scale_jitter=(low, high))
    shown, kept = view(pixels, labels, size_px, rng(seed), config)
    assert shown.shape == (size_px, size_px, 3)
    assert kept.boxes_xyxy.dtype == np.float32
    assert (kept.boxes_xyxy >= 0).all()
    assert (kept.boxes_xyxy <= size_px).all()
    assert (kept.boxes_xyxy[:, 2:] - kept.boxes_xyxy[:, :2] >= 1).all()
    again, kept_again = view(pixels, labels, size_px, rng(seed), config)
    np.testing.assert_array_equal(shown, again)
    np.testing.assert_array_equal(kept.boxes_xyxy, kept_again.boxes_xyxy)


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    size_px=st.integers(5, 60),  # 50 / 5: the most that scale_jitter may be
    seed=st.integers(0, 2**32),
)
def test_a_class_map_goes_with_its_pixels(height, width, size_px, seed):
    # Each pixel's red is its class, and nothing is resized: flips and crops keep them together.
    pixels = rng(seed).integers(0, 254, (height, width, 3), dtype=np.uint8)
    scale = max(height, width) / size_px
    config = AugmentConfig(flip_probability=0.5, scale_jitter=(scale, scale))
    labels = SegmentationMap(class_map=pixels[:, :, 0])
    shown, moved = view(pixels, labels, size_px, rng(seed), config)
    is_image = moved.class_map != IGNORE
    assert is_image.sum() == min(height, size_px) * min(width, size_px)
    np.testing.assert_array_equal(shown[is_image][:, 0], moved.class_map[is_image])
    assert (shown[~is_image] == PAD_RGB).all()


@pytest.mark.parametrize("scale", [0.3, 0.77, 1.6])
def test_a_resized_class_map_stays_on_its_object(scale):
    pixels = np.zeros((40, 30, 3), np.uint8)
    class_map = np.zeros((40, 30), np.uint8)
    pixels[10:22, 8:20] = 255
    class_map[10:22, 8:20] = 1
    config = AugmentConfig(flip_probability=0.5, scale_jitter=(scale, scale))
    for seed in range(10):
        shown, moved = view(pixels, SegmentationMap(class_map=class_map), 48, rng(seed), config)
        bright, marked = shown[:, :, 0] > 127, moved.class_map == 1
        bright &= moved.class_map != IGNORE  # padding is bright too
        assert marked.sum() > 5
        # Bilinear and nearest may differ by half a pixel at the rim, but not about the middle.
        middles = [np.argwhere(each).mean(axis=0) for each in (bright, marked)]
        assert np.abs(middles[0] - middles[1]).max() < 0.5


def test_an_unknown_map_and_a_class_have_views():
    pixels = np.zeros((7, 3, 3), np.uint8)
    _, blank = view(pixels, SegmentationMap.unknown(), 32, rng(), AugmentConfig())
    assert blank.class_map.shape == (32, 32)
    assert (blank.class_map == IGNORE).all()
    _, same = view(pixels, ClassLabel.of([3]), 32, rng(), AugmentConfig(flip_probability=1))
    assert same.top_class_ids.tolist() == [3]


def test_the_pixels_do_not_depend_on_the_kind_of_labels():
    pixels = rng(3).integers(0, 256, (33, 21, 3), dtype=np.uint8)
    labels = (Detections.of(), SegmentationMap.unknown(), ClassLabel.unknown())
    shown = [view(pixels, one, 16, rng(5), AugmentConfig())[0] for one in labels]
    assert (shown[0] == shown[1]).all()
    assert (shown[0] == shown[2]).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flip_probability", 1.5),
        ("flip_probability", float("nan")),
        ("scale_jitter", (1.2, 0.8)),
        ("scale_jitter", (0, 1)),
        ("scale_jitter", (1, float("inf"))),
        ("scale_jitter", (1, 10.1)),
        ("layers", 21),
        ("scale_jitter", (1,)),
        ("colour_jitter", -0.1),
        ("colour_jitter", float("nan")),
        ("grey_probability", 1.01),
    ],
)
def test_wrong_settings_name_their_field(field, value):
    with pytest.raises(UserError, match=rf"augment\.{field}"):
        AugmentConfig(**{field: value})
