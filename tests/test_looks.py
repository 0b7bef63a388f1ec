"""Which views a teacher takes of an image, and how the image lies in each."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ray_st.config import UserError
from ray_st.data.images import PAD_RGB, Source, fit
from ray_st.data.placed import fitted_hw
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.looks import Looks, looks_of, views
from ray_st.models import ModelConfig

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SIZES_HW = [(64, 64), (101, 37), (37, 101), (3, 500), (1, 1), (20, 64)]


@pytest.mark.parametrize(
    "scales", [(), (0.0,), (-1.0,), (4.01,), (float("nan"),), (float("inf"),), (1.0, 0.5, 1.0)]
)
def test_scales_that_are_none(scales):
    said = f"label.scales: must be one or more, each above 0, at most 4.0 and once, got {scales!r}"
    with pytest.raises(UserError, match=f"^{re.escape(said)}"):
        LabelConfig(scales=scales)


def looked(scales, *, flip=False, task="detection", **model):
    return looks_of(LabelConfig(scales=scales, flip=flip), ModelConfig(**model), task)


@pytest.mark.parametrize(
    ("scales", "model", "sides"),
    [
        ((1.0,), {}, [256]),
        ((1.0,), {"image_size_px": 301}, [301]),  # as it is trained, whatever the stride
        # Stride 32 is the coarsest of a backbone; P6 and P7 are made from it at any size.
        ((0.5, 0.75, 1.0, 1.25, 1.5, 1.75), {"image_size_px": 512}, [896, 768, 640, 512, 384, 256]),
        ((0.7,), {"image_size_px": 512}, [352]),  # 358.4
        ((1.1, 1.0), {"image_size_px": 301}, [320, 301]),  # 331.1 = 10.3 * 32
        ((0.75,), {"image_size_px": 192, "levels": (3, 5)}, [160]),  # 144 = 4.5 * 32: upwards
        ((0.75, 0.5), {"image_size_px": 64, "levels": (3, 4)}, [48, 32]),  # in steps of 16
        ((1.0, 0.45), {}, [256, 128]),  # 115.2 = 3.6 * 32: just the coarsest stride
        ((4.0,), {}, [1024]),
    ],
)
def test_sides_by_hand(scales, model, sides):
    model = {"backbone": "test_resnet", **model}
    found = looked(scales, **model)
    assert found == Looks(sides_px=tuple(sides))
    assert found.largest_px == max(sides)
    assert found.is_single == (len(sides) == 1)
    assert looked(scales[::-1], **model) == found  # an order that a user chose says nothing
    mirrored = looked(scales, flip=True, **model)
    assert mirrored.sides_px == tuple(sides)
    assert not mirrored.is_single
    assert mirrored.card == {"sides_px": sides, "flip": True}


@pytest.mark.parametrize(
    ("scales", "model", "said"),
    [
        (
            (1.0, 0.4),
            {},
            "label.scales: must be scales of model.image_size_px 256 that come to the coarsest "
            "stride 128 or more, got (1.0, 0.4); the least comes to 96",
        ),
        (
            (0.5, 1.0, 1.05),
            {},
            "label.scales: must be scales of model.image_size_px 256 that come to sizes apart, in "
            "steps of 32, got (0.5, 1.0, 1.05); they come to [128, 256, 256]",
        ),
    ],
)
def test_scales_that_do_not_suit_the_model(scales, model, said):
    with pytest.raises(UserError) as caught:
        looked(scales, **model)
    assert str(caught.value) == said


def test_a_backbone_that_knows_one_size_only():
    model = {"backbone": "vit_tiny_patch16_224", "image_size_px": 224, "levels": (4, 4)}
    task = "classification"
    assert looked((1.0,), task=task, **model, flip=True).sides_px == (224,)
    with pytest.raises(UserError) as caught:
        looked((1.0, 0.5), task=task, **model)
    said = str(caught.value)
    assert said.startswith(
        "label.scales: must be 1 with model.backbone 'vit_tiny_patch16_224', which takes no views "
        "of 112 px ("
    )
    assert said.endswith("); leave it out")
    assert "\n" not in said


def batch(sizes_hw, side, seed=0):
    """Smooth pictures in fitted views, as a teacher gets them, and the pictures."""
    rng = np.random.default_rng(seed)
    pictures = []
    for height, width in sizes_hw:
        coarse = rng.integers(0, 256, (-(-height // 8) + 1, -(-width // 8) + 1, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        pictures.append(np.asarray(image))
    pixels = [fit(Source.of_pixels(picture), side) for picture in pictures]
    shape = (len(pixels), side, side, 3)
    stacked = torch.from_numpy(np.array(pixels, np.uint8).reshape(shape))
    return stacked.permute(0, 3, 1, 2), pictures


def as_images(view):
    return view.permute(0, 2, 3, 1).numpy()


def test_every_view_has_its_image_top_left_and_padding_elsewhere():
    decoded, _ = batch(SIZES_HW, 64)
    looks = Looks(sides_px=(64, 48, 16), flip=True)
    seen = [(view.clone(), shown) for view, shown in views(decoded, SIZES_HW, looks)]
    assert [(shown.side_px, shown.is_mirrored) for _, shown in seen] == [
        (64, False), (64, True), (48, False), (48, True), (16, False), (16, True),
    ]  # fmt: skip
    for view, shown in seen:
        assert view.dtype == torch.uint8
        assert view.shape == (len(SIZES_HW), 3, *shown.size_hw)
        assert view.is_contiguous(memory_format=torch.channels_last)
        assert shown.size_hw == (shown.side_px, shown.side_px)
        for image, size_hw, area_hw in zip(as_images(view), SIZES_HW, shown.areas_hw, strict=True):
            assert area_hw == fitted_hw(size_hw, shown.side_px)
            is_padding = np.ones(shown.size_hw, bool)
            is_padding[: area_hw[0], : area_hw[1]] = False
            assert (image[is_padding] == PAD_RGB).all()
    assert seen[0][0].equal(decoded)
    for (plain, shown), (turned, turned_shown) in zip(seen[::2], seen[1::2], strict=True):
        assert turned_shown.areas_hw == shown.areas_hw
        images = zip(as_images(plain), as_images(turned), shown.areas_hw, strict=True)
        for one, other, (height, width) in images:
            np.testing.assert_array_equal(one[:height, :width], other[:height, :width][:, ::-1])


def test_smaller_views_are_the_large_ones_shrunk_over_all_pixels():
    decoded, _ = batch(SIZES_HW, 64)
    whole = as_images(decoded)
    for view, shown in views(decoded, SIZES_HW, Looks(sides_px=(64, 48, 16))):
        for i, (height, width) in enumerate(shown.areas_hw):
            old_h, old_w = fitted_hw(SIZES_HW[i], 64)
            area = Image.fromarray(whole[i, :old_h, :old_w])
            expected = np.asarray(area.resize((width, height), Image.Resampling.BILINEAR), int)
            off = as_images(view)[i, :height, :width] - expected
            assert np.abs(off).max() <= 1
            assert abs(off.mean()) < 0.25  # rounded, not cut off


def test_a_smaller_view_looks_like_the_image_decoded_at_that_size():
    sizes_hw = [(200, 171), (90, 200)]
    decoded, pictures = batch(sizes_hw, 128)
    *_, (view, _) = views(decoded, sizes_hw, Looks(sides_px=(128, 64)))
    for one, picture in zip(as_images(view), pictures, strict=True):
        expected = fit(Source.of_pixels(picture), 64).astype(int)
        assert np.abs(one - expected).mean() < 2
        assert np.abs(np.roll(one, 1, axis=1) - expected).mean() > 10  # moved by a pixel


@pytest.mark.parametrize("sizes_hw", [[], [(5, 9)]])
def test_no_image_and_one(sizes_hw):
    decoded, _ = batch(sizes_hw, 32)
    seen = [*views(decoded, sizes_hw, Looks(sides_px=(32, 16), flip=True))]
    assert [view.shape for view, _ in seen] == [(len(sizes_hw), 3, s, s) for s in (32, 32, 16, 16)]


@settings(deadline=None, max_examples=40)
@given(
    sizes_hw=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_an_image_is_seen_the_same_whatever_stands_beside_it(sizes_hw, seed):
    decoded, _ = batch(sizes_hw, 48, seed)
    looks = Looks(sides_px=(48, 32), flip=True)
    together = [view for view, _ in views(decoded, sizes_hw, looks)]
    for i, size_hw in enumerate(sizes_hw):
        alone = views(decoded[i : i + 1], [size_hw], looks)
        assert all(
            one.equal(all_[i : i + 1]) for (one, _), all_ in zip(alone, together, strict=True)
        )
