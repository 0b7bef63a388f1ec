"""What moves the weights, and in which form a model is trained."""

import os
import shutil

import pytest
import safetensors.torch
import timm
import torch
from tiny import tiny_model
from torch import nn

from ray_st.training.schedule import TrainConfig
from ray_st.training.trainable import compiled, make_optimizer, with_synchronised_norms

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

GANG = TrainConfig(sync_batchnorm=True, use_gpu=True, num_workers=2)


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


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_synchronised_norms_are_the_same_model(name):
    # timm's EfficientNets keep the activation inside the BatchNorm.
    model = timm.create_model(name)
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        model.train()(pixels)  # running statistics that are not their start
        expected = model.eval()(pixels)
    before, parameters = model.state_dict(), [id(p) for p in model.parameters()]
    with_norms = with_synchronised_norms(model, GANG)
    norms = [m for m in with_norms.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert [id(p) for p in with_norms.parameters()] == parameters
    assert with_norms.state_dict().keys() == before.keys()
    with torch.no_grad():
        assert with_norms(pixels).equal(expected)
    assert model.load_state_dict(with_norms.state_dict())


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(use_gpu=True, num_workers=2),
        TrainConfig(sync_batchnorm=True, num_workers=1),
        TrainConfig(sync_batchnorm=True, num_workers=0),
    ],
)
def test_norms_stay_where_there_is_nothing_to_synchronise(config):
    model = tiny_model()
    assert with_synchronised_norms(model, config) is model
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="needs a C++ compiler")
def test_a_compiled_run_saves_what_a_plain_one_loads(tmp_path):
    # The smallest network: compiling even the tiny detector takes half a minute on a CPU.
    def network():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))

    config, model = TrainConfig(compile=True), network()
    assert compiled(model, TrainConfig()) is model
    trained = compiled(model, config)
    optimizer = make_optimizer(model, config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained(torch.rand(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert not any(after[name].equal(before[name]) for name in before)  # statistics too
    safetensors.torch.save_file(after, tmp_path / "model.safetensors")
    plain = network()
    plain.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    pixels = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert plain.eval()(pixels).equal(model.eval()(pixels))
