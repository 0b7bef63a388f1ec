"""Pixels to outputs: shapes, initialisation, what is shared and what is not."""

import math

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from ray_st.config import UserError
from ray_st.models import ModelConfig, build
from ray_st.models.backbone import Backbone
from ray_st.models.fpn import FPN
from ray_st.models.retinanet import ANCHORS_PER_LOCATION

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SMALL = {"backbone": "resnet10t", "channels": 16, "head_convs": 2, "image_size_px": 128}


def small_model(levels=(3, 4), num_classes=5, *, task="detection", **changes):
    torch.manual_seed(0)
    return build(ModelConfig(**{**SMALL, "levels": levels, **changes}), task, num_classes)


def pixels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize("levels", [(2, 3), (3, 4), (3, 7), (5, 6)])
@pytest.mark.parametrize("size_hw", [(96, 96), (97, 131)])
def test_outputs_have_nine_anchors_at_every_place_of_every_level(levels, size_hw):
    outputs = small_model(levels).eval()(pixels(2, 3, *size_hw))
    expected = tuple(
        tuple(math.ceil(side / 2**level) for side in size_hw)
        for level in range(levels[0], levels[1] + 1)
    )
    assert outputs.feature_sizes == expected
    num_anchors = ANCHORS_PER_LOCATION * sum(h * w for h, w in expected)
    assert outputs.class_logits.shape == (2, num_anchors, 5)
    assert outputs.box_codes.shape == (2, num_anchors, 4)


def test_logits_stand_in_the_order_row_column_shape():
    model = small_model((3, 3)).eval()
    nn.init.normal_(model.classes.predict.weight, 0.0, 1.0)
    maps = model.pyramid(model.features(pixels(1, 3, 64, 96)))
    x = maps[0]
    for conv, norm in zip(model.classes.convs, model.classes.norms[0], strict=True):
        x = norm(conv(x)).relu()
    raw = model.classes.predict(x)  # (1, 9 * 5, 8, 12)
    flat = model.classes(maps)
    for row, column, shape, k in [(0, 0, 0, 0), (2, 5, 3, 4), (7, 11, 8, 1)]:
        at = (row * 12 + column) * ANCHORS_PER_LOCATION + shape
        assert flat[0, at, k] == raw[0, shape * 5 + k, row, column]


def test_every_class_starts_at_one_percent_and_every_box_at_its_anchor():
    outputs = small_model().eval()(pixels(2, 3, 96, 96))
    torch.testing.assert_close(
        outputs.class_logits.sigmoid(),
        torch.full_like(outputs.class_logits, 0.01),
        atol=1e-4,
        rtol=0,
    )
    assert outputs.box_codes.abs().max() < 0.01


def test_initialisation_is_the_papers():
    model = small_model(channels=64)
    for tower in (model.classes, model.boxes):
        for conv in tower.convs:
            assert conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
            assert conv.bias.abs().max() == 0
        assert tower.predict.weight.std().item() == pytest.approx(1e-5, rel=0.05)
    assert torch.all(model.classes.predict.bias == torch.tensor(-math.log(99)))
    assert model.boxes.predict.bias.abs().max() == 0


def test_head_shares_convolutions_over_levels_but_not_batchnorm():
    three, five = small_model((3, 5)), small_model((3, 7))
    per_norm = 2 * 16  # weight and bias of one BatchNorm of 16 channels

    def head(model):
        return sum(p.numel() for t in (model.classes, model.boxes) for p in t.parameters())

    assert head(five) - head(three) == 2 * 2 * 2 * per_norm  # levels, towers, convolutions


@pytest.mark.parametrize(
    "backbone",
    ["resnet10t", "resnet50", "mobilenetv3_small_100", "lcnet_050", "tf_efficientnet_b0"],
)
@pytest.mark.parametrize("levels", [(3, 4), (3, 6)])
def test_gradient_flows_to_every_parameter(backbone, levels):
    model = small_model(levels, backbone=backbone)
    outputs = model(pixels(2, 3, 128, 128))
    (outputs.class_logits.square().sum() + outputs.box_codes.sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_images_do_not_see_each_other_in_eval_and_order_is_kept():
    model = small_model().eval()
    views = pixels(3, 3, 64, 64)
    whole = model(views).class_logits
    shuffled = model(views[[2, 0, 1]]).class_logits
    alone = model(views[1:2]).class_logits
    torch.testing.assert_close(shuffled, whole[[2, 0, 1]])
    torch.testing.assert_close(alone, whole[1:2])


def test_outputs_are_float32_under_autocast():
    model = small_model().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(pixels(1, 3, 64, 64))
    assert outputs.class_logits.dtype == outputs.box_codes.dtype == torch.float32


def test_memory_format_does_not_change_the_result():
    model = small_model().eval()
    views = pixels(2, 3, 64, 64)
    expected = model(views).class_logits
    model = model.to(memory_format=torch.channels_last)
    actual = model(views.contiguous(memory_format=torch.channels_last)).class_logits
    torch.testing.assert_close(actual, expected)


def test_pyramid_is_lateral_plus_upsampled_then_extra_levels():
    torch.manual_seed(0)
    fpn = FPN([4, 6], 8, 4).eval()
    fine, coarse = torch.randn(1, 4, 5, 7), torch.randn(1, 6, 3, 4)
    p3, p4, p5, p6 = fpn([fine, coarse])
    top = fpn.laterals[1](coarse)
    rows, columns = torch.arange(5) * 3 // 5, torch.arange(7) * 4 // 7  # nearest
    merged = fpn.laterals[0](fine) + top[:, :, rows][:, :, :, columns]
    raw_p5 = fpn.extras[0](fpn.smooths[1](top))
    torch.testing.assert_close(p3, fpn.norms[0](fpn.smooths[0](merged)))
    torch.testing.assert_close(p4, fpn.norms[1](fpn.smooths[1](top)))
    torch.testing.assert_close(p5, fpn.norms[2](raw_p5))
    torch.testing.assert_close(p6, fpn.norms[3](fpn.extras[1](raw_p5.relu())))


def test_backbone_ends_after_the_last_tap():
    def size(levels):
        return sum(p.numel() for p in Backbone("mobilenetv3_small_100", levels).parameters())

    assert size((3, 4)) < size((3, 5)) == size((3, 7))


@pytest.mark.parametrize("wrong", ["resnt18", "spinnet49"])
def test_unknown_backbone_names_the_nearest(wrong):
    right = {"resnt18": "resnet18", "spinnet49": "spinenet49"}[wrong]
    with pytest.raises(UserError, match=rf"model\.backbone.*'{wrong}'.*{right}"):
        small_model(backbone=wrong)


def test_backbone_without_the_stride_says_which_it_has():
    with pytest.raises(UserError, match=r"stride \[4, 8\].*\[16\]"):
        small_model((2, 4), backbone="vit_tiny_patch16_224")


@pytest.mark.parametrize("backbone", ["ghostnet_050", "densenet121"])
def test_backbone_without_stochastic_depth_says_so(backbone):
    with pytest.raises(UserError, match=rf"^model\.drop_path: must be 0 with '{backbone}'"):
        small_model(backbone=backbone, drop_path=0.2)


def test_stochastic_depth_of_a_timm_backbone_grows_to_the_rate():
    model = small_model((3, 5), drop_path=0.2)
    rates = [each.drop_prob for each in model.modules() if isinstance(each, DropPath)]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.2)


SPINENET = {"backbone": "spinenet49s", "pyramid": "none", "levels": (3, 7)}
NASFPN = {"pyramid": "nasfpn", "levels": (3, 7), "pyramid_repeats": 2}


@pytest.mark.parametrize("changes", [SPINENET, NASFPN])
@pytest.mark.parametrize("size_hw", [(128, 128), (97, 150)])
def test_every_pyramid_gives_the_head_its_five_levels(changes, size_hw):
    outputs = small_model(**changes).eval()(pixels(1, 3, *size_hw))
    assert outputs.feature_sizes == tuple(
        tuple(math.ceil(side / 2**level) for side in size_hw) for level in range(3, 8)
    )


@pytest.mark.parametrize("task", ["detection", "segmentation", "classification"])
@pytest.mark.parametrize("changes", [SPINENET, NASFPN, {**NASFPN, "levels": (2, 6)}])
def test_gradient_flows_through_every_pyramid_and_task(task, changes):
    model = small_model(task=task, **changes, drop_path=0.1)
    outputs = model(pixels(2, 3, 128, 128))
    tensors = [outputs] if isinstance(outputs, torch.Tensor) else [*vars(outputs).values()][:2]
    sum(x.square().sum() for x in tensors).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_head_width_of_its_own():
    model = small_model(channels=16, head_channels=24)
    for tower in (model.classes, model.boxes):
        assert [tuple(conv.weight.shape) for conv in tower.convs] == [
            (24, 16, 3, 3),
            (24, 24, 3, 3),
        ]
        assert tower.predict.weight.shape[1] == 24
    segmenter = small_model(task="segmentation", channels=16, head_channels=24)
    assert segmenter.predict.weight.shape == (5, 24, 1, 1)


def test_activation_is_the_heads_and_the_pyramids_but_not_the_backbones():
    model = small_model(**NASFPN, activation="swish")
    silu = {name for name, each in model.named_modules() if isinstance(each, nn.SiLU)}
    relu = {name for name, each in model.named_modules() if isinstance(each, nn.ReLU)}
    assert {name.split(".")[0] for name in silu} == {"pyramid", "classes", "boxes"}
    assert {name.split(".")[0] for name in relu} == {"backbone"}


@pytest.mark.parametrize("task", ["detection", "segmentation", "classification"])
def test_normalisation_constants_are_part_of_the_weights(task):
    model = small_model(task=task)
    assert model.state_dict()["mean"].shape == model.state_dict()["std"].shape == (1, 3, 1, 1)
    views = pixels(2, 3, 64, 64)
    shown = []
    model.backbone.register_forward_pre_hook(lambda _, args: shown.append(args[0]))
    model.eval()(views)
    for channel, mean, std in ((0, 0.485, 0.229), (1, 0.456, 0.224), (2, 0.406, 0.225)):
        expected = (views[:, channel] / 255 - mean) / std
        torch.testing.assert_close(shown[0][:, channel], expected, atol=1e-5, rtol=1e-5)


def norms(model):
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    mine = {name: m for name, m in found.items() if not name.startswith("backbone.network")}
    return mine, {name: m for name, m in found.items() if name not in mine}


def test_batchnorm_is_set_in_what_we_build_and_its_momentum_everywhere():
    plain = norms(small_model(backbone="tf_efficientnet_b0"))
    both = norms(small_model(backbone="tf_efficientnet_b0", norm_eps=1e-4, norm_momentum=0.003))
    assert {(m.eps, m.momentum) for m in plain[0].values()} == {(1e-5, 0.1)}
    assert {m.eps for m in plain[1].values()} == {m.eps for m in both[1].values()} == {1e-3}
    assert {(m.eps, m.momentum) for m in both[0].values()} == {(1e-4, 0.003)}
    assert {m.momentum for m in both[1].values()} == {0.003}
    ours, foreign = norms(small_model(**SPINENET, norm_eps=1e-4))
    assert ({m.eps for m in ours.values()}, foreign) == ({1e-4}, {})


def test_unknown_task():
    with pytest.raises(UserError, match=r"^task: must be one of .*'detection'.*got 'pose'"):
        small_model(task="pose")
