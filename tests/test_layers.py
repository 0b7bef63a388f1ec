"""The bricks: sizes, and what stochastic depth drops."""

import math

import pytest
import torch

from ray_st.models.layers import DropPath, at_size, conv, level_size

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 7), (96, 97), (640, 1280)])
@pytest.mark.parametrize("level", [0, 2, 7])
def test_a_level_has_the_size_of_so_many_rounded_up_halvings(size_hw, level):
    expected = size_hw
    for _ in range(level):
        expected = tuple(math.ceil(side / 2) for side in expected)
    assert level_size(torch.empty(1, 3, *size_hw), level) == expected


def test_nearest_neighbour_takes_the_pixel_below():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert at_size(x, (2, 3)) is x
    rows, columns = torch.arange(3) * 2 // 3, torch.arange(5) * 3 // 5
    assert torch.equal(at_size(x, (3, 5)), x[:, :, rows][:, :, :, columns])


def test_separable_convolution_is_each_channel_alone_then_a_mix():
    torch.manual_seed(0)
    layer = conv(2, 3, 3, separable=True)
    assert sum(p.numel() for p in layer.parameters()) == 2 * 9 + 2 * 3 + 3
    depthwise, pointwise = layer
    x = torch.randn(1, 2, 4, 5)
    alone = [
        torch.nn.functional.conv2d(x[:, c : c + 1], depthwise.weight[c : c + 1], padding=1)
        for c in range(2)
    ]
    expected = [
        sum(pointwise.weight[k, c, 0, 0] * alone[c][:, 0] for c in range(2)) + pointwise.bias[k]
        for k in range(3)
    ]
    torch.testing.assert_close(layer(x), torch.stack(expected, dim=1))


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    drop, x = DropPath(0.25).train(), torch.full((4000, 2, 1, 3), 3.0)
    y = drop(x)
    kept = y.flatten(1) != 0
    assert torch.equal(kept.all(dim=1), kept.any(dim=1))
    assert set(y.unique().tolist()) == {0.0, 4.0}
    assert y.mean().item() == pytest.approx(3.0, rel=0.05)


def test_drop_path_does_nothing_outside_training_or_at_rate_0():
    x = torch.ones(64, 1, 1, 1)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0).train()(x) is x
