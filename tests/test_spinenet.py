"""SpineNet: its table, its resampling against loops, sizes, gradients."""

import math

import pytest
import torch
from torch import nn

from ray_st.models.layers import DropPath
from ray_st.models.spinenet import NODES, OUTPUTS, SIZES, STEM, Node, Size, SpineNet, _Resample

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

ROWS = (STEM, STEM, *NODES)
THIN = Size(width_scale=0.1, alpha=0.5, repeats=2)


def thin(*, channels=8, act="relu", drop_path=0.0):
    torch.manual_seed(0)
    return SpineNet(THIN, channels=channels, act=act, drop_path=drop_path)


def test_every_node_is_used():
    """What no later node takes as a parent is an output, or is added to one of its own shape."""
    taken = {parent for node in NODES for parent in node.parents}
    left = set(range(len(ROWS))) - taken - set(OUTPUTS.values())
    assert left == {node.also for node in NODES if node.also is not None} == {11}
    for at, node in enumerate(ROWS):
        assert all(parent < at for parent in node.parents) or node is STEM
        if node.also is not None:
            assert (node.level, node.kind) == (ROWS[node.also].level, ROWS[node.also].kind)
    assert {ROWS[at].level: at for at in OUTPUTS.values()} == OUTPUTS


@pytest.mark.parametrize("size_hw", [(64, 64), (96, 160), (97, 131), (33, 200)])
def test_maps_have_the_sizes_of_their_levels(size_hw):
    maps = thin().eval()(torch.randn(1, 3, *size_hw))
    assert [tuple(x.shape) for x in maps] == [
        (1, 8, *(math.ceil(side / 2**level) for side in size_hw)) for level in range(3, 8)
    ]


def test_gradient_reaches_every_parameter_of_the_smallest_real_one():
    model = SpineNet(SIZES["spinenet49s"], channels=128, act="swish", drop_path=0.2).train()
    maps = model(torch.randn(2, 3, 96, 128))
    sum(x.square().sum() for x in maps).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(x.isfinite().all() for x in maps)


@pytest.mark.parametrize("name", SIZES)
def test_gradient_reaches_every_parameter_at_every_size_made_thin(name):
    size = SIZES[name]._replace(width_scale=0.1)
    model = SpineNet(size, channels=8, act="relu", drop_path=0.0).train()
    sum(x.square().sum() for x in model(torch.randn(2, 3, 65, 67))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_stochastic_depth_grows_over_the_15_nodes_and_spares_the_stem():
    model = thin(drop_path=0.3)

    def rates(part):
        return [each.rate for each in part.modules() if isinstance(each, DropPath)]

    assert rates(model.stem) + rates(model.first) == [0.0] * 4
    expected = [0.3 * (i + 1) / 15 for i in range(15) for _ in range(THIN.repeats)]
    assert rates(model.nodes) == pytest.approx(expected)


@pytest.mark.parametrize(("act", "kind"), [("relu", nn.ReLU), ("swish", nn.SiLU)])
def test_activation_is_the_one_asked_for(act, kind):
    found = {type(each) for each in thin(act=act).modules() if isinstance(each, nn.ReLU | nn.SiLU)}
    assert found == {kind}


def test_convolutions_start_with_variance_1_over_fan_in_cut_at_two_deviations():
    size = SIZES["spinenet49s"]
    model = SpineNet(size, channels=128, act="relu", drop_path=0.0)
    weight = model.stem[0][0].weight  # 64 x 3 x 7 x 7
    std = 1 / math.sqrt(3 * 49)
    assert weight.std().item() == pytest.approx(std, rel=0.05)
    assert weight.abs().max() <= 2 * std / 0.8796


def loops_conv(x, weight, stride):
    """Convolution of one image with zero padding of kernel // 2, by its definition."""
    out, _, kernel, _ = weight.shape
    height, width = (math.ceil(side / stride) for side in x.shape[1:])
    y = torch.zeros(out, height, width)
    for row in range(height):
        for column in range(width):
            for i in range(kernel):
                for j in range(kernel):
                    at = row * stride + i - kernel // 2, column * stride + j - kernel // 2
                    if 0 <= at[0] < x.shape[1] and 0 <= at[1] < x.shape[2]:
                        y[:, row, column] += weight[:, :, i, j] @ x[:, at[0], at[1]]
    return y


def loops_pool(x, kernel, stride):
    height, width = (math.ceil(side / stride) for side in x.shape[1:])
    y = torch.empty(len(x), height, width)
    for row in range(height):
        for column in range(width):
            top, left = row * stride - kernel // 2, column * stride - kernel // 2
            window = x[:, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
            y[:, row, column] = window.amax(dim=(1, 2))
    return y


@pytest.mark.parametrize("size_hw", [(32, 16), (19, 27), (1, 1)])
@pytest.mark.parametrize(
    ("parent", "node"),
    [
        (Node(2, "residual", (0, 0)), Node(2, "bottleneck", (0, 0))),
        (Node(4, "bottleneck", (0, 0)), Node(5, "residual", (0, 0))),  # convolution only
        (Node(4, "residual", (0, 0)), Node(6, "residual", (0, 0))),  # then a pool of 3, stride 2
        (Node(4, "residual", (0, 0)), Node(7, "bottleneck", (0, 0))),  # then a pool of 5, stride 4
        (Node(5, "bottleneck", (0, 0)), Node(3, "residual", (0, 0))),  # up by 4
    ],
)
def test_resampling_equals_loops(parent, node, size_hw):
    torch.manual_seed(0)
    size = Size(width_scale=0.04, alpha=0.5, repeats=1)  # levels 2, 3, 4: 2, 5, 10 wide
    layer = _Resample(parent, node, size, "relu").eval()
    convs = [each.weight.detach() for each in layer.modules() if isinstance(each, nn.Conv2d)]
    x = torch.randn(convs[0].shape[1], *size_hw)
    shift = node.level - parent.level
    target = tuple(
        math.ceil(side / 2**shift) if shift > 0 else side * 2**-shift for side in size_hw
    )
    with torch.no_grad():
        actual = layer(x[None], target)[0]

    unit = 1 / math.sqrt(1 + 1e-5)  # an untrained BatchNorm in evaluation
    y = (loops_conv(x, convs[0], 1) * unit).relu()
    if shift > 0:
        y = (loops_conv(y, convs[1], 2) * unit).relu()
    if shift > 1:
        y = loops_pool(y, 3 if shift == 2 else 5, 2 ** (shift - 1))
    if shift < 0:
        y = y.repeat_interleave(2**-shift, dim=1).repeat_interleave(2**-shift, dim=2)
    torch.testing.assert_close(actual, loops_conv(y, convs[-1], 1) * unit)
