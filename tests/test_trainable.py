"""What moves the weights."""

import pytest
import torch
from torch import nn

from ray_st.training.schedule import TrainConfig
from ray_st.training.trainable import make_optimizer

pytestmark = pytest.mark.pure
torch.set_num_threads(1)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weights_decay_and_biases_and_norms_do_not(name):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2)
    )
    model[2].weight.requires_grad = False  # frozen: in no group
    config = TrainConfig(optimizer=name, lr=0.5, weight_decay=0.25, momentum=0.75)
    optimizer = make_optimizer(model, config)
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.25, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight)]
    expected = [model[0].bias, model[1].weight, model[1].bias, model[2].bias]
    assert [id(p) for p in free["params"]] == [id(p) for p in expected]
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}
    assert type(optimizer) is {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name]
    assert name == "adamw" or decayed["momentum"] == 0.75


def test_momentum_by_hand():
    weight = nn.Linear(1, 1, bias=False)
    nn.init.constant_(weight.weight, 1.0)
    config = TrainConfig(momentum=0.5, weight_decay=0.0, lr=0.1)
    optimizer = make_optimizer(weight, config)
    for expected in (0.9, 0.75, 0.575):  # steps of 0.1, 0.15, 0.175 for a gradient of 1
        weight.weight.grad = torch.ones(1, 1)
        optimizer.step()
        assert weight.weight.item() == pytest.approx(expected)
