"""Pixels to class logits at stride 4."""

import math

import pytest
import torch

from ray_st.models import ModelConfig, build

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SMALL = {"backbone": "resnet10t", "channels": 16, "head_convs": 1, "image_size_px": 128}


def segmenter(levels=(3, 5), **changes):
    torch.manual_seed(0)
    return build(ModelConfig(**{**SMALL, "levels": levels, **changes}), "segmentation", 4)


def pixels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize("size_hw", [(64, 64), (97, 131), (66, 30)])
@pytest.mark.parametrize(
    "changes",
    [
        {"levels": (2, 5)},
        {"levels": (3, 3)},
        {"levels": (3, 7), "pyramid": "nasfpn", "pyramid_repeats": 1, "separable": True},
        {"levels": (2, 6), "pyramid": "nasfpn", "pyramid_repeats": 1},
        {"levels": (3, 7), "pyramid": "none", "backbone": "spinenet49s"},
    ],
)
def test_logits_stand_at_every_fourth_pixel(changes, size_hw):
    logits = segmenter(**changes).eval()(pixels(1, 3, *size_hw))
    assert logits.shape == (1, 4, *(math.ceil(side / 4) for side in size_hw))
    assert logits.dtype == torch.float32


def loops_bilinear(x, size_hw):
    """Half-pixel centres, the border repeated: one output pixel at a time."""
    height, width = x.shape[-2:]
    y = torch.empty(*x.shape[:2], *size_hw)
    for row in range(size_hw[0]):
        for column in range(size_hw[1]):
            v = min(max((row + 0.5) * height / size_hw[0] - 0.5, 0), height - 1)
            u = min(max((column + 0.5) * width / size_hw[1] - 0.5, 0), width - 1)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            a, b = v - top, u - left
            y[:, :, row, column] = (1 - a) * (
                (1 - b) * x[:, :, top, left] + b * x[:, :, top, right]
            ) + a * ((1 - b) * x[:, :, bottom, left] + b * x[:, :, bottom, right])
    return y


@pytest.mark.parametrize("size_hw", [(64, 96), (45, 70)])
def test_levels_are_brought_to_stride_4_and_summed(size_hw):
    model, views = segmenter((2, 4)).eval(), pixels(1, 3, *size_hw)
    quarter = tuple(math.ceil(side / 4) for side in size_hw)
    with torch.no_grad():
        fused = sum(loops_bilinear(x, quarter) for x in model.pyramid(model.features(views)))
        conv, norm, _ = model.convs[0]
        expected = model.predict(norm(conv(fused)).relu())
        torch.testing.assert_close(model(views), expected, atol=1e-4, rtol=1e-4)


def test_head_starts_small_and_without_bias():
    model = segmenter(channels=64)
    for conv in (model.convs[0][0], model.predict):
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert conv.bias.abs().max() == 0


def test_no_convolution_before_the_logits():
    assert segmenter(head_convs=0).eval()(pixels(1, 3, 64, 64)).shape == (1, 4, 16, 16)


def test_logits_are_float32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert segmenter().eval()(pixels(1, 3, 64, 64)).dtype == torch.float32


def test_images_do_not_see_each_other_in_eval():
    model, views = segmenter().eval(), pixels(3, 3, 64, 64)
    torch.testing.assert_close(model(views[1:2]), model(views)[1:2])
