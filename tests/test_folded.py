"""BatchNorms that went into convolutions: the outputs stay, and what something else reads stays."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from timm.layers import BatchNormAct2d
from torch import nn

from ray_st.models import ModelConfig, build
from ray_st.models.folded import folded
from ray_st.models.retinanet import Outputs

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SMALL = {"channels": 16, "head_convs": 2, "image_size_px": 128}


def lived_in(model):
    """Statistics and factors as after a training, so that a fold that forgets one is seen."""
    torch.manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
        for name, value in model.named_parameters():
            if name.endswith("predict.weight"):
                value.normal_()
    return model.to(memory_format=torch.channels_last).eval()


def num_norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def tensors(outputs):
    return [outputs.class_logits, outputs.box_codes] if isinstance(outputs, Outputs) else [outputs]


def assert_same(got, expected):
    for a, b in zip(tensors(got), tensors(expected), strict=True):
        assert b.std() > 0
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * b.abs().max().item())


# What stays, of a RetinaNet with levels 3 to 5 or 3 to 7: two convolutions in each of two towers,
# one BatchNorm a level; and of an FPN with extras, those of the two levels that others start from.
HEAD_OF_3, HEAD_OF_5, READ_TWICE = 2 * 2 * 3, 2 * 2 * 5, 2


@pytest.mark.parametrize(
    ("task", "changes", "stay"),
    [
        ("detection", {"backbone": "resnet18"}, HEAD_OF_5 + READ_TWICE),
        ("detection", {"backbone": "resnet18", "levels": (3, 5)}, HEAD_OF_3),
        ("detection", {"backbone": "test_resnet", "levels": (3, 4)}, 2 * 2 * 2),
        ("detection", {"backbone": "efficientnet_b0", "levels": (3, 5)}, HEAD_OF_3),
        ("detection", {"backbone": "tf_mobilenetv2_100", "levels": (3, 5)}, HEAD_OF_3),
        ("detection", {"backbone": "mobilenetv3_small_050", "levels": (3, 5)}, HEAD_OF_3),
        # A BatchNorm before the convolutions of each of 16 blocks.
        ("detection", {"backbone": "resnetv2_50", "levels": (3, 5)}, HEAD_OF_3 + 16),
        ("detection", {"backbone": "spinenet49s", "pyramid": "none"}, HEAD_OF_5),
        (
            "segmentation",
            {
                "backbone": "mobilenetv3_small_050",
                "pyramid": "nasfpn",
                "separable": True,
                "pyramid_repeats": 2,
            },
            0,
        ),
        ("classification", {"backbone": "resnet18"}, 0),
        ("classification", {"backbone": "spinenet49s", "pyramid": "none"}, 0),
    ],
)
def test_the_outputs_stay_and_what_can_be_folded_is(task, changes, stay):
    torch.manual_seed(0)
    model = lived_in(build(ModelConfig(**{**SMALL, **changes}), task, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pixels = torch.randint(0, 256, (2, 3, 97, 131), dtype=torch.uint8)
    got = folded(model, torch.empty(1, 3, 128, 128, dtype=torch.uint8, device="meta"))
    assert num_norms(model) > num_norms(got) == stay
    assert not got.training
    assert {name: value.tolist() for name, value in got.named_buffers(recurse=False)} == {
        "mean": model.mean.tolist(),
        "std": model.std.tolist(),
    }
    for module in got.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert_same(got(pixels), model(pixels))
    after = model.state_dict()  # the model that came is as it was
    assert all(value.equal(after[name]) for name, value in before.items())


def test_a_head_that_levels_share_stays():
    model = lived_in(build(ModelConfig(**SMALL, backbone="test_resnet"), "detection", 2))
    got = folded(model, torch.zeros(1, 3, 128, 128, dtype=torch.uint8))
    for name, value in model.classes.state_dict().items():
        assert got.classes.state_dict()[name].equal(value), name


class Net(nn.Module):
    """A convolution and a BatchNorm, put together by a test."""

    def __init__(self, forward, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv, self.norm, self._forward = nn.Conv2d(3, 3, 3, padding=1), norm(3), forward

    def forward(self, x):
        return self._forward(self, x)


class Doubled(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Standardised(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean(), self.bias, padding=1)


def through(net, x):
    return net.norm(net.conv(x))


def added(net, x):
    y = net.conv(x)
    return net.norm(y) + y


def looked_at_before(net, x):
    y = net.conv(x)
    gate = y.mean()
    return net.norm(y) * gate


def view_kept(net, x):
    y = net.conv(x)
    flat = y.flatten(1)
    return net.norm(y).flatten(1) + flat


def handed_out(net, x):
    y = net.conv(x)
    return {"normed": net.norm(y), "raw": [y]}


def both_twice(net, x):
    return through(net, through(net, x))


def conv_twice(net, x):
    return net.norm(net.conv(net.conv(x)))


def norm_twice(net, x):
    return net.norm(net.norm(net.conv(x)))


def norm_first(net, x):
    return net.conv(net.norm(x))


def between(net, x):
    return net.norm(net.conv(x).relu())


def changed_in_place(net, x):
    return net.norm(net.conv(x).mul_(2))


def weight_elsewhere(net, x):
    return through(net, x) + net.conv.weight.sum()


@pytest.mark.parametrize(
    "forward",
    [
        added,
        looked_at_before,
        view_kept,
        handed_out,
        both_twice,
        conv_twice,
        norm_twice,
        norm_first,
        between,
        changed_in_place,
        weight_elsewhere,
    ],
)
def test_what_something_else_reads_stays(forward):
    net = lived_in(Net(forward))
    assert num_norms(folded(net, torch.zeros(1, 3, 5, 7))) == 1


def test_modules_that_do_more_than_their_class_stay():
    assert num_norms(folded(lived_in(Net(through, Doubled)), torch.zeros(1, 3, 5, 5))) == 1
    net = Net(through)
    net.conv = Standardised(3, 3, 3, padding=1)
    assert num_norms(folded(lived_in(net), torch.zeros(1, 3, 5, 5))) == 1
    batch_statistics = Net(through, lambda c: nn.BatchNorm2d(c, track_running_stats=False)).eval()
    assert num_norms(folded(batch_statistics, torch.zeros(1, 3, 5, 5))) == 1


@pytest.mark.parametrize("act", [nn.ReLU, nn.SiLU, None])
def test_the_activation_inside_a_norm_stays(act):
    net = lived_in(Net(through, lambda c: BatchNormAct2d(c, act_layer=act, apply_act=bool(act))))
    net.norm.drop = nn.Hardtanh(-0.5, 0.5)  # something to see where drop stands
    got, x = folded(net, torch.zeros(1, 3, 5, 5)), torch.randn(2, 3, 6, 8)
    assert num_norms(got) == 0
    with torch.no_grad():
        torch.testing.assert_close(got(x), net(x), rtol=1e-5, atol=1e-6)


def test_weights_that_two_convolutions_share_stay():
    net = Net(lambda net, x: through(net, net.other(x)))
    net.other = nn.Conv2d(3, 3, 3, padding=1)
    net.other.weight = net.conv.weight
    assert num_norms(folded(lived_in(net), torch.zeros(1, 3, 4, 4))) == 1


def test_a_pair_that_two_parents_hold():
    inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    net = Net(lambda net, x: net.again[1](net.again[0](x)))
    net.conv, net.norm, net.again = inner[0], inner[1], inner
    got, x = folded(lived_in(net), torch.zeros(1, 3, 4, 4)), torch.randn(1, 3, 4, 4)
    assert num_norms(got) == 0
    with torch.no_grad():
        torch.testing.assert_close(got(x), net(x), rtol=1e-5, atol=1e-6)
