"""L = (L_h + alpha * (mean_h / mean_p) * L_p) / (1 + alpha), by hand."""

import json
import math

import pytest
import torch

from ray_st.data.labels import Origin
from ray_st.tasks.task import LossSums
from ray_st.training.loss_balance import LossBalance, balanced_loss

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

H, P = int(Origin.HUMAN), int(Origin.PSEUDO)
ALPHAS = [0.0, 0.25, 1.0, 4.0, 100.0]


def start(alpha=1.0, *, normalised=True, decay=0.99):
    return LossBalance.start(alpha=alpha, normalised=normalised, decay=decay)


def images(sums, counts, offset=1.0):
    sums = torch.as_tensor(sums, dtype=torch.float32)
    if not sums.requires_grad:
        sums = sums.clone().requires_grad_()
    counts = torch.tensor(counts, dtype=torch.float32)
    return LossSums(sums=sums, counts=counts, parts={}, count_offset=offset)


def weighed(balance, sums, origins, is_valid=None):
    """The balanced loss, and its gradient by the sum of each image."""
    is_valid = [True] * len(origins) if is_valid is None else is_valid
    origins = torch.tensor(origins, dtype=torch.int64)
    loss = balanced_loss(sums, origins, torch.tensor(is_valid, dtype=torch.bool), balance)
    (gradient,) = torch.autograd.grad(loss.to_differentiate, sums.sums, retain_graph=True)
    return loss, gradient


# L_h = (3 + 5) / (2 + 1 + 1) = 2; L_p = (6 + 14) / (3 + 1 + 1) = 4
MIXED = {"sums": [3.0, 6.0, 5.0, 14.0], "counts": [2.0, 3.0, 1.0, 1.0]}
MIXED_ORIGINS = [H, P, H, P]


def test_losses_are_sums_over_counts_and_the_offset():
    loss, _ = weighed(start(), images(**MIXED), MIXED_ORIGINS)
    assert loss.losses.tolist() == [2.0, 4.0]
    assert loss.seen.tolist() == [True, True]


def test_alpha_0_is_the_human_loss_exactly():
    balance = start(0.0, decay=0.5)
    for scale in (1.0, 7.0, 1e-4):
        sums = images([3.0, 6.0 * scale, 5.0, 14.0], MIXED["counts"])
        loss, gradient = weighed(balance, sums, MIXED_ORIGINS)
        assert loss.total.item() == loss.to_differentiate.item() == 2.0
        assert gradient.tolist() == [0.25, 0.0, 0.25, 0.0]  # 1 / (2 + 1 + 1)
        balance = loss.balance


@pytest.mark.parametrize("alpha", ALPHAS)
def test_where_both_means_equal_their_losses_the_total_is_the_human_loss(alpha):
    balance = start(alpha)
    for _ in range(3):  # constant losses: the averages equal them at every step
        loss, _ = weighed(balance, images(**MIXED), MIXED_ORIGINS)
        assert loss.total.item() == pytest.approx(2.0, rel=1e-6)
        balance = loss.balance


def three_steps(scale, *, normalised):
    """Totals and gradients by two weights, for pseudo losses `scale` times as large."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.5, 2.0], requires_grad=True)
    balance, found = start(2.0, normalised=normalised, decay=0.7), []
    factor = torch.tensor([1.0, scale, 1.0, scale])
    for _ in range(3):
        features = torch.rand(4, 2, generator=generator) + 0.1
        sums = images((features @ weights) * factor, [2.0, 3.0, 1.0, 0.0])
        loss = balanced_loss(sums, torch.tensor(MIXED_ORIGINS), torch.ones(4).bool(), balance)
        (gradient,) = torch.autograd.grad(loss.to_differentiate, weights)
        found.append(torch.cat([loss.total.detach()[None], gradient]))
        balance = loss.balance
    return torch.stack(found)


@pytest.mark.parametrize("scale", [1e-3, 0.1, 30.0, 1e3])
def test_the_scale_of_the_pseudo_loss_changes_nothing(scale):
    expected = three_steps(1.0, normalised=True)
    torch.testing.assert_close(three_steps(scale, normalised=True), expected, rtol=1e-5, atol=0)
    plain = three_steps(1.0, normalised=False)
    assert (three_steps(scale, normalised=False) / plain - 1).abs().min() > 0.3


@pytest.mark.parametrize("exponent", [-10, -3, 10])
def test_a_scale_that_rounds_nothing_changes_no_bit(exponent):
    # Products with powers of two are exact: whatever else a scale changes, its rounding did.
    expected = three_steps(1.0, normalised=True)
    assert torch.equal(three_steps(2.0**exponent, normalised=True), expected)


def test_plain_is_the_weighted_sum():
    loss, gradient = weighed(start(0.5, normalised=False), images(**MIXED), MIXED_ORIGINS)
    assert loss.total.item() == 2 + 0.5 * 4
    assert gradient.tolist() == pytest.approx([1 / 4, 0.5 / 5, 1 / 4, 0.5 / 5])


def test_the_averages_of_three_steps():
    balance = start(decay=0.9)
    assert balance.means.tolist() == [0.0, 0.0]
    both = torch.tensor([True, True])
    balance = balance.updated(torch.tensor([2.0, 10.0]), both)
    assert balance.means.tolist() == pytest.approx([2.0, 10.0])  # 0.2 / 0.1, 1 / 0.1
    balance = balance.updated(torch.tensor([4.0, 77.0]), torch.tensor([True, False]))
    # human (0.9 * 0.2 + 0.1 * 4) / (0.9 * 0.1 + 0.1) = 0.58 / 0.19; pseudo as it was
    assert balance.means.tolist() == pytest.approx([0.58 / 0.19, 10.0])
    balance = balance.updated(torch.tensor([8.0, 20.0]), both)
    # human (0.9 * 0.58 + 0.8) / (0.9 * 0.19 + 0.1); pseudo (0.9 * 1 + 0.1 * 20) / (0.09 + 0.1)
    assert balance.means.tolist() == pytest.approx([1.322 / 0.271, 2.9 / 0.19])


def test_decay_0_knows_only_the_last_step():
    balance = start(decay=0.0)
    for losses in ([2.0, 3.0], [5.0, 7.0]):
        balance = balance.updated(torch.tensor(losses), torch.tensor([True, True]))
        assert balance.means.tolist() == losses


def test_pseudo_images_without_a_box_count_with_the_offset_alone():
    loss, gradient = weighed(start(3.0), images([4.0, 6.0], [1.0, 0.0]), [H, P])
    assert loss.losses.tolist() == [2.0, 6.0]  # 4 / (1 + 1), 6 / (0 + 1)
    # factors 1/4 and 3/4 * 2/6 = 1/4; over the normalisers 2 and 1
    assert gradient.tolist() == pytest.approx([1 / 8, 1 / 4])


def test_nothing_to_divide_by_gives_no_infinity():
    loss, gradient = weighed(start(), images([0.0, 0.0], [0.0, 0.0], offset=0.0), [H, P])
    assert loss.total.item() == 0.0
    assert gradient.isfinite().all()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_without_a_pseudo_image_the_step_is_the_human_loss(alpha):
    balance = weighed(start(alpha), images(**MIXED), MIXED_ORIGINS)[0].balance
    unreadable = images([3.0, 9e9, 5.0, math.nan], MIXED["counts"])
    valid = [True, False, True, False]
    for sums, origins, is_valid in (
        (images([3.0, 5.0], [2.0, 1.0]), [H, H], None),
        (unreadable, MIXED_ORIGINS, valid),
    ):
        loss, gradient = weighed(balance, sums, origins, is_valid)
        assert loss.total.item() == 2.0
        assert loss.seen.tolist() == [True, False]
        human = torch.tensor(origins) == H
        assert gradient.tolist() == torch.where(human, 0.25, 0.0).tolist()
        assert loss.balance.means[P] == balance.means[P]
        assert loss.balance.means[H].item() == pytest.approx(2.0)


def test_without_a_human_image_the_pseudo_loss_takes_its_place():
    only_pseudo = images([6.0, 14.0], [3.0, 1.0])
    loss, _ = weighed(start(4.0), only_pseudo, [P, P])
    assert loss.total.item() == 4.0  # nothing is known of mean_h yet: the ratio is 1
    balance = weighed(start(4.0), images(**MIXED), MIXED_ORIGINS)[0].balance
    loss, gradient = weighed(balance, only_pseudo, [P, P])
    assert loss.total.item() == pytest.approx(2.0)  # mean_h / mean_p * L_p = 2 / 4 * 4
    assert gradient.tolist() == pytest.approx([0.1, 0.1])  # 2 / 4 / (3 + 1 + 1)
    assert loss.balance.means[H] == balance.means[H]
    loss, _ = weighed(start(0.0), only_pseudo, [P, P])
    assert loss.total.item() == 0.0


@pytest.mark.parametrize("normalised", [True, False])
def test_what_an_unreadable_image_would_have_cost_does_not_leak(normalised):
    balance = start(2.0, normalised=normalised)
    expected, _ = weighed(balance, images([3.0, 6.0], [2.0, 3.0]), [H, P])
    for dirt in (math.nan, math.inf, -math.inf):
        sums = images([3.0, dirt, 6.0, dirt], [2.0, dirt, 3.0, 50.0])
        loss, gradient = weighed(balance, sums, [H, H, P, P], [True, False, True, False])
        assert loss.total == expected.total
        assert loss.losses.tolist() == expected.losses.tolist()
        assert loss.balance.state_dict() == expected.balance.state_dict()
        assert gradient[[1, 3]].tolist() == [0.0, 0.0]
        assert gradient.isfinite().all()


@pytest.mark.parametrize("normalised", [True, False])
def test_a_step_without_any_image_moves_nothing(normalised):
    balance = start(normalised=normalised)
    balance = weighed(balance, images(**MIXED), MIXED_ORIGINS)[0].balance
    for sums, origins, is_valid in (
        (images([], []), [], None),
        (images([math.nan], [1.0]), [H], [False]),
    ):
        loss, gradient = weighed(balance, sums, origins, is_valid)
        assert loss.total.item() == 0.0
        assert gradient.tolist() == [0.0] * len(origins)
        assert loss.balance.state_dict() == balance.state_dict()


def test_no_gradient_flows_through_the_averages():
    # One weight w: L_h = 2w / (1 + 1) = w, L_p = 6w^2 / (2 + 1) = 2w^2; alpha 3, decay 1/2.
    balance, found = start(3.0, decay=0.5), []
    for value in (2.0, 3.0):
        w = torch.tensor(value, requires_grad=True)
        sums = images(torch.stack([2 * w, 6 * w * w]), [1.0, 2.0])
        loss = balanced_loss(sums, torch.tensor([H, P]), torch.ones(2).bool(), balance)
        loss.to_differentiate.backward()
        found.append(w.grad.item())
        balance = loss.balance
    # w = 2: ratio 2 / 8, (1 + 3 * 1/4 * 4w) / 4 = 7/4; through the averages it would be 1.
    # w = 3: totals 1/2 * (1, 4) + 1/2 * (3, 18) = (2, 11); (1 + 3 * 2/11 * 12) / 4 = 83/44.
    assert found == pytest.approx([7 / 4, 83 / 44])
    assert not balance.totals.requires_grad
    assert not balance.weights.requires_grad


def test_state_goes_through_json_exactly():
    balance = start(3.0, decay=0.9)
    for losses in ([1 / 3, 1e-7], [math.pi, 1e9]):
        balance = balance.updated(torch.tensor(losses), torch.tensor([True, True]))
    resumed = start(3.0, decay=0.9).resumed(json.loads(json.dumps(balance.state_dict())))
    assert resumed.totals.dtype == balance.totals.dtype
    assert resumed.totals.equal(balance.totals)
    assert resumed.weights.equal(balance.weights)
    sums = images(**MIXED)
    assert weighed(resumed, sums, MIXED_ORIGINS)[0].total == (
        weighed(balance, sums, MIXED_ORIGINS)[0].total
    )
