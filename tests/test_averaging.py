"""A moving average of weights, by hand; and that it is only looked on."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_batch, tiny_state, tiny_task
from torch import nn

from ray_st.training.averaging import Average, averaged, decay_at
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import train_step

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CONFIG = TrainConfig(steps=40, warmup_steps=0, lr=0.01, ema_decay=0.9)


@pytest.mark.parametrize(
    ("step", "decay", "expected"),
    [
        (1, 0.9998, 2 / 11),  # (1 + 1) / (10 + 1)
        (9, 0.9998, 10 / 19),
        (90, 0.9998, 91 / 100),
        (44_989, 0.9998, 44_990 / 44_999),  # just below: 1 - 9 / 44999
        (44_991, 0.9998, 0.9998),  # 1 - 9 / 45001 is more
        (1, 0.1, 0.1),
        (1, 0.0, 0.0),
    ],
)
def test_the_decay_of_a_step(step, decay, expected):
    assert decay_at(step, decay) == pytest.approx(expected, rel=1e-12)


def test_an_average_by_hand():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, affine=False))
    nn.init.constant_(model[0].weight, 1.0)
    average = Average(model, 0.25)
    mean, count = average.model[1].running_mean, average.model[1].num_batches_tracked
    expected = 1.0
    for step, value in ((1, 2.0), (2, -3.0), (3, 7.0)):
        with torch.no_grad():
            model[0].weight.fill_(value)
            model[1].running_mean.fill_(10 * value - 10)  # from 0
            model[1].num_batches_tracked.fill_(step)
        average.update(step)
        share = (2 / 11, 0.25, 0.25)[step - 1]  # 3 / 12 is 1/4 too
        expected = share * expected + (1 - share) * value
        assert average.model[0].weight.item() == pytest.approx(expected)
        assert mean.item() == pytest.approx(10 * expected - 10, abs=1e-5)
        assert count.item() == step
        assert model[0].weight.item() == value


def test_an_average_of_what_never_moves_is_exactly_that():
    state = tiny_state(CONFIG)
    for step in range(1, 6):
        state.average.update(step)
    for name, value in state.model.state_dict().items():
        assert state.average.model.state_dict()[name].equal(value)


def test_training_does_not_notice():
    followed, alone = (tiny_state(config) for config in (CONFIG, replace(CONFIG, ema_decay=None)))
    for seed in range(3):
        for state, config in ((followed, CONFIG), (alone, replace(CONFIG, ema_decay=None))):
            train_step(state, tiny_batch(seed), tiny_task(), config)
    for name, value in alone.model.state_dict().items():
        assert followed.model.state_dict()[name].equal(value)
    assert alone.trained is alone.model
    trained = followed.trained
    assert trained is followed.average.model
    assert not trained.training
    assert not any(parameter.requires_grad for parameter in trained.parameters())
    assert trained.state_dict().keys() == alone.trained.state_dict().keys()
    moved = [not v.equal(alone.model.state_dict()[n]) for n, v in trained.state_dict().items()]
    assert sum(moved) > len(moved) / 2


def test_no_decay_follows_at_once():
    config = replace(CONFIG, ema_decay=0.0)
    state = tiny_state(config)
    train_step(state, tiny_batch(), tiny_task(), config)
    for name, value in state.model.state_dict().items():
        assert state.trained.state_dict()[name].equal(value)


def test_an_average_keeps_the_form_of_its_model():
    state = tiny_state(CONFIG)
    for mine, theirs in zip(state.trained.parameters(), state.model.parameters(), strict=True):
        assert mine.stride() == theirs.stride()
        assert mine.data_ptr() != theirs.data_ptr()
    assert averaged(state.model, replace(CONFIG, ema_decay=None)) is None
