"""Settings of training: what is refused, the learning rate by hand, what decays."""

import math

import pytest
import torch

from ray_st.config import UserError
from ray_st.training.schedule import TrainConfig, learning_rate, make_optimizer

pytestmark = pytest.mark.pure

CONFIG = TrainConfig(lr=0.1, steps=110, warmup_steps=10)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.001),  # a hundredth of the peak
        (5, 0.1 * (0.01 + 0.99 / 2)),
        (9, 0.1 * (0.01 + 0.99 * 0.9)),
        (10, 0.1),  # the peak
        (35, 0.05 * (1 + math.sqrt(0.5))),  # a quarter on: cos 45 degrees
        (60, 0.05),  # half way
        (110, 0.0),
        (500, 0.0),  # never up again
    ],
)
def test_learning_rate_by_hand(step, expected):
    assert learning_rate(step, CONFIG) == pytest.approx(expected, abs=1e-12)


def test_learning_rate_without_warmup_and_of_one_step():
    assert learning_rate(0, TrainConfig(lr=0.2, warmup_steps=0)) == 0.2
    assert learning_rate(0, TrainConfig(lr=0.2, warmup_steps=0, steps=1)) == 0.2


def test_no_step_of_a_run_is_without_a_rate():
    rates = [learning_rate(step, CONFIG) for step in range(CONFIG.steps)]
    assert min(rates) > 0
    assert rates.index(max(rates)) == 10
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"alpha": -1.0}, "train.alpha"),
        ({"alpha": math.nan}, "train.alpha"),
        ({"steps": 0}, "train.steps"),
        ({"batch_size": 0}, "train.batch_size"),
        ({"batch_size": 6, "num_workers": 4}, "train.batch_size"),
        ({"pseudo_batch_size": 5, "num_workers": 2}, "train.pseudo_batch_size"),
        ({"pseudo_batch_size": 0}, "train.pseudo_batch_size"),
        ({"mean_decay": 1.0}, "train.mean_decay"),
        ({"mean_decay": -0.1}, "train.mean_decay"),
        ({"lr": 0.0}, "train.lr"),
        ({"clip_norm": 0.0}, "train.clip_norm"),
        ({"warmup_steps": -1}, "train.warmup_steps"),
        ({"weight_decay": -1e-4}, "train.weight_decay"),
        ({"num_workers": -1}, "train.num_workers"),
        ({"max_failures": -1}, "train.max_failures"),
        ({"seed": -1}, "train.seed"),
        ({"cpus_per_worker": 0}, "train.cpus_per_worker"),
        ({"loaders": 0}, "train.loaders"),
        ({"log_every": 0}, "train.log_every"),
        ({"checkpoint_every": 0}, "train.checkpoint_every"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_field(changes, field):
    with pytest.raises(UserError) as caught:
        TrainConfig(**changes)
    line = str(caught.value)
    assert line.startswith(f"{field}: must be ")
    assert f"got {changes[field.removeprefix('train.')]!r}" in line
    assert "\n" not in line


def test_as_many_pseudo_images_as_human_ones_unless_said():
    assert TrainConfig(batch_size=6).num_pseudo == 6
    assert TrainConfig(batch_size=6, pseudo_batch_size=2).num_pseudo == 2
    assert TrainConfig(batch_size=7, num_workers=0).num_pseudo == 7


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weights_decay_and_biases_and_norms_do_not(name):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2)
    )
    model[2].weight.requires_grad = False  # frozen: in no group
    optimizer = make_optimizer(model, TrainConfig(optimizer=name, lr=0.5, weight_decay=0.25))
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.25, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight)]
    expected = [model[0].bias, model[1].weight, model[1].bias, model[2].bias]
    assert [id(p) for p in free["params"]] == [id(p) for p in expected]
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}
    assert type(optimizer) is {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name]
    assert name == "adamw" or decayed["momentum"] == 0.9
