"""A step whose numbers went bad leaves no trace but its number."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from tiny import tiny_batch, tiny_model, tiny_state, tiny_task
from torch import nn

from ray_st.training.checkpoints import finite
from ray_st.training.guard import Skipped, Statistics, untouched
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import train_step

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CONFIG = TrainConfig(steps=40, warmup_steps=0, lr=0.01, batch_size=4, ema_decay=0.9)


def statistics_of(model):
    return {name: value.clone() for name, value in model.named_buffers()}


def all_of(state):
    """Everything that a step may change, besides its count."""
    return copy.deepcopy(
        {
            "weights": dict(state.model.state_dict()),
            "average": dict(state.average.model.state_dict()),
            "optimizer": state.optimizer.state_dict()["state"],
            "balance": state.balance.state_dict(),
        }
    )


def assert_same(got, expected):
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(got[name], value)
    elif isinstance(expected, torch.Tensor):
        assert got.equal(expected)
    else:
        assert got == expected


def first_conv(model):
    return next(module for module in model.modules() if isinstance(module, nn.Conv2d))


def bad_inputs(model):
    """From the first layer on nothing is a number; returns how to mend it."""
    return first_conv(model).register_forward_pre_hook(lambda _, inputs: (inputs[0] * math.nan,))


def bad_gradient(model):
    """The loss is a number, its gradient is none."""
    return first_conv(model).weight.register_hook(lambda gradient: gradient * math.inf)


def test_a_forward_pass_of_no_numbers_poisons_statistics_and_they_come_back():
    model = tiny_model().train()
    statistics = Statistics(model)
    with torch.no_grad():
        model(tiny_batch().pixels)
        statistics.keep()
        before = statistics_of(model)
        mended = bad_inputs(model)
        model(tiny_batch().pixels)
    mended.remove()
    assert not all(value.isfinite().all() for value in statistics_of(model).values())
    counts = [value for name, value in model.named_buffers() if name.endswith("tracked")]
    assert {int(count) for count in counts} == {2}
    statistics.restore()
    assert_same(statistics_of(model), before)


def test_untouched_is_nothing_moved_and_nothing_drawn():
    model = tiny_model().train()
    before, drawn = statistics_of(model), torch.get_rng_state()
    with untouched(model), torch.no_grad():
        model(tiny_batch().pixels)
        torch.rand(3)
        assert not torch.get_rng_state().equal(drawn)
    assert_same(statistics_of(model), before)
    assert torch.get_rng_state().equal(drawn)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("spoil", [bad_inputs, bad_gradient])
def test_a_bad_step_changes_nothing_but_the_count(spoil, accumulate, optimizer):
    config = replace(CONFIG, accumulate=accumulate, optimizer=optimizer)
    state, batch = tiny_state(config), tiny_batch(num_human=2, num_pseudo=2)
    for _ in range(2):
        train_step(state, batch, tiny_task(), config)
    before = all_of(state)
    mended = spoil(state.model)
    row = train_step(state, batch, tiny_task(), config).as_row()
    mended.remove()
    assert_same(all_of(state), before)
    assert (state.step, state.skipped) == (3, Skipped(total=1, in_a_row=1))
    assert (row["step"], row["skipped_steps"]) == (3, 1)
    assert not math.isfinite(row["gradient_norm"])
    assert math.isfinite(row["loss"]) == (spoil is bad_gradient)
    means = state.balance.means.tolist()
    assert [row["mean_human"], row["mean_pseudo"]] == means
    assert finite(row)["gradient_norm"] is None
    train_step(state, batch, tiny_task(), config)
    assert (state.step, state.skipped) == (4, Skipped(total=1, in_a_row=0))
    assert all(value.isfinite().all() for value in state.model.state_dict().values())
    assert not state.model.state_dict()["boxes.predict.weight"].equal(
        before["weights"]["boxes.predict.weight"]
    )


def test_after_a_bad_step_a_run_goes_on_as_without_it():
    # The rate does not change, so a step less is all that the bad one can have cost.
    config = replace(CONFIG, warmup_steps=40, warmup_lr=0.0099999)
    alone, spoilt = tiny_state(config), tiny_state(config)
    for seed in (1, 2):
        train_step(alone, tiny_batch(seed), tiny_task(), config)
    train_step(spoilt, tiny_batch(1), tiny_task(), config)
    mended = bad_inputs(spoilt.model)
    train_step(spoilt, tiny_batch(9), tiny_task(), config)
    mended.remove()
    spoilt.step = 1
    train_step(spoilt, tiny_batch(2), tiny_task(), config)
    assert_same(all_of(spoilt), all_of(alone))


def test_the_first_step_may_be_bad():
    config = replace(CONFIG, accumulate=2)
    state = tiny_state(config)
    before = all_of(state)
    mended = bad_inputs(state.model)
    row = train_step(state, tiny_batch(), tiny_task(), config).as_row()
    mended.remove()
    assert_same(all_of(state), before)
    assert row["ratio"] is None
    assert row["mean_human"] == 0.0
    assert state.balance.weights.tolist() == [0.0, 0.0]


def test_steps_are_counted_in_a_row_and_in_all():
    skipped, seen = Skipped(), []
    for is_finite in (False, False, True, False, True, True):
        skipped = skipped.after(is_finite=is_finite)
        seen.append((skipped.total, skipped.in_a_row))
    assert seen == [(1, 1), (2, 2), (2, 0), (3, 1), (3, 0), (3, 0)]


def test_a_model_without_statistics():
    model = nn.Linear(2, 1)
    statistics = Statistics(model)
    statistics.keep()
    statistics.restore()
