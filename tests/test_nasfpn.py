"""NAS-FPN: its table, its merges by hand, one cell written out, sizes, gradients."""

import math

import pytest
import torch

from ray_st.models.nasfpn import CELL, FINEST, NASFPN, OUTPUTS, attend, resample

pytestmark = pytest.mark.pure
torch.set_num_threads(1)


def taps(size_hw, channels=(4, 6, 8), finest=3):
    torch.manual_seed(1)
    sides = [[math.ceil(side / 2 ** (finest + i)) for side in size_hw] for i in range(3)]
    return [torch.randn(2, c, *sides[i]) for i, c in enumerate(channels)]


def pyramid(channels=8, repeats=1, *, in_channels=(4, 6, 8), separable=False, act="relu"):
    torch.manual_seed(0)
    return NASFPN(in_channels, channels, repeats, separable=separable, act=act)


def test_what_nobody_takes_is_added_to_the_output_of_its_level():
    """The rule of the paper's code, applied node by node, gives the column of the table."""
    levels, taken = [FINEST + i for i in range(5)], set()
    for at, node in enumerate(CELL, start=5):
        taken |= set(node.inputs)
        left = [j for j in range(at) if j not in taken and levels[j] == node.level]
        if at not in OUTPUTS.values():
            left = []
        assert left == ([] if node.also is None else [node.also])
        taken |= set(left)
        levels.append(node.level)
    assert taken | set(OUTPUTS.values()) == set(range(12))
    assert {levels[at]: at for at in OUTPUTS.values()} == OUTPUTS


def test_attention_by_hand():
    coarse = torch.tensor([[[[1.0, -2.0], [0.0, 3.0]], [[-1.0, -4.0], [-5.0, -1.5]]]])
    fine = torch.tensor([[[[10.0, 20.0], [30.0, 40.0]], [[1.0, 2.0], [3.0, 4.0]]]])
    weights = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(1))  # of the largest of each channel
    expected = torch.stack([coarse[0, c] + fine[0, c] * weights[c] for c in range(2)])[None]
    torch.testing.assert_close(attend(coarse, fine), expected)


@pytest.mark.parametrize("size_hw", [(16, 8), (13, 9), (1, 2)])
@pytest.mark.parametrize("levels_up", [1, 2, 3])
def test_resampling_to_a_coarser_level_is_the_largest_of_each_window(size_hw, levels_up):
    torch.manual_seed(0)
    x, step = torch.randn(2, 3, *size_hw), 2**levels_up
    height, width = (math.ceil(side / step) for side in size_hw)
    expected = torch.empty(2, 3, height, width)
    for row in range(height):
        for column in range(width):
            rows, columns = slice(row * step, (row + 1) * step), slice(column * step, None)
            expected[:, :, row, column] = x[:, :, rows, columns][..., :step].amax(dim=(2, 3))
    assert torch.equal(resample(x, levels_up, (height, width)), expected)


def test_resampling_to_a_finer_level_repeats():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    fine = resample(x, -1, (4, 4))[0, 0]
    assert fine.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert resample(x, -1, (3, 4))[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4]]


@pytest.mark.parametrize("size_hw", [(128, 128), (97, 150)])
def test_one_cell_written_out(size_hw):
    model = pyramid().eval()
    inputs = taps(size_hw)
    with torch.no_grad():
        actual = model(inputs)
        p3, p4, p5 = (lateral(tap) for lateral, tap in zip(model.laterals, inputs, strict=True))
        assert p5 is inputs[2]  # of the right width already
        p6 = resample(p5, 1, [math.ceil(side / 2) for side in p5.shape[2:]])
        p7 = resample(p6, 1, [math.ceil(side / 2) for side in p6.shape[2:]])
        size = {i: tuple(x.shape[2:]) for i, x in enumerate((p3, p4, p5, p6, p7), start=3)}
        conv = model.cells[0].convs

        def weight(x):
            return x.amax(dim=(2, 3), keepdim=True).sigmoid()

        p6_at_4 = resample(p6, -2, size[4])
        n5 = conv[0](p6_at_4 + p4 * weight(p6_at_4))
        n6 = conv[1](p4 + n5)
        n7 = conv[2](p3 + resample(n6, -1, size[3]))
        n8 = conv[3](n6 + resample(n7, 1, size[4]))
        n8_at_5, n7_at_5 = resample(n8, 1, size[5]), resample(n7, 2, size[5])
        n9 = conv[4](n8_at_5 + n7_at_5 * weight(n8_at_5) + p5)
        n9_at_7, n6_at_7 = resample(n9, 2, size[7]), resample(n6, 3, size[7])
        n10 = conv[5](n9_at_7 + n6_at_7 * weight(n9_at_7) + p7)
        n10_at_6, n9_at_6 = resample(n10, -1, size[6]), resample(n9, 1, size[6])
        n11 = conv[6](n10_at_6 + n9_at_6 * weight(n10_at_6))
    for found, expected in zip(actual, (n7, n8, n9, n11, n10), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("separable", [False, True])
def test_parameters_by_hand(separable):
    conv = 9 * 8 + 8 * 8 + 8 if separable else 9 * 8 * 8 + 8
    laterals = sum((c if separable else 0) + c * 8 + 8 + 2 * 8 for c in (4, 6))
    expected = laterals + 3 * 7 * (conv + 2 * 8)
    model = pyramid(repeats=3, separable=separable)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("act", ["relu", "swish"])
def test_gradient_reaches_every_parameter(separable, act):
    model = pyramid(repeats=2, separable=separable, act=act).train()
    sum(x.square().sum() for x in model(taps((128, 96)))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_taps_of_a_backbone_that_rounds_down_are_merged_too():
    """A ConvNeXt halves 13 to 6; levels 6 and 7 follow from what it gives."""
    model = pyramid(in_channels=(8, 8, 8)).eval()
    inputs = [torch.randn(1, 8, *size) for size in ((13, 27), (6, 13), (3, 6))]
    assert [tuple(x.shape[2:]) for x in model(inputs)] == [
        (13, 27),
        (6, 13),
        (3, 6),
        (2, 3),
        (1, 2),
    ]


def test_a_pyramid_with_all_five_taps_pools_none():
    model = pyramid(in_channels=(4, 4, 4, 4, 4)).eval()
    inputs = [torch.randn(1, 4, 32 // 2**i, 32 // 2**i) for i in range(5)]
    assert len(model.laterals) == 5
    assert [x.shape[-1] for x in model(inputs)] == [32, 16, 8, 4, 2]
