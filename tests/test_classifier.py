"""Pixels to one logit a class."""

import pytest
import torch

from ray_st.models import ModelConfig, build

pytestmark = pytest.mark.pure
torch.set_num_threads(1)


def classifier(backbone="resnet10t", levels=(3, 5), **changes):
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=backbone, levels=levels, channels=16, image_size_px=128, **changes
    )
    return build(config, "classification", 7)


def pixels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize("size_hw", [(64, 64), (97, 131)])
def test_it_is_linear_in_the_mean_of_the_coarsest_map(size_hw):
    model, views = classifier().eval(), pixels(2, 3, *size_hw)
    (top,) = model.features(views)
    weight, bias = model.predict.weight, model.predict.bias
    mean = top.sum(dim=(2, 3)) / top[0, 0].numel()
    torch.testing.assert_close(model(views), mean @ weight.T + bias, atol=1e-5, rtol=1e-5)
    assert model.backbone.channels == [512]


def test_of_spinenet_it_is_the_mean_of_five_means():
    model = classifier("spinenet49s", (3, 7), pyramid="none").eval()
    views = pixels(2, 3, 96, 128)
    maps = model.features(views)
    mean = sum(x.mean(dim=(2, 3)) for x in maps) / 5
    torch.testing.assert_close(model(views), model.predict(mean))


def test_coarsest_level_within_the_backbone_is_the_one_that_is_pooled():
    assert classifier(levels=(3, 4)).backbone.channels == [256]
    assert classifier(levels=(3, 7)).backbone.channels == [512]


def test_plain_transformers_classify():
    model = classifier("test_vit", (4, 4)).eval()
    assert model(pixels(2, 3, 160, 160)).shape == (2, 7)


def test_logits_are_float32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert classifier().eval()(pixels(1, 3, 64, 64)).dtype == torch.float32
