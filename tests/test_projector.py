"""Pixels to a projection, on the backbone that a detector then starts from."""

import pytest
import torch
from tiny import MODEL, tiny_model
from torch import nn

from ray_st.models import ModelConfig, build

pytestmark = pytest.mark.pure
torch.set_num_threads(1)


def projector(**changes):
    torch.manual_seed(0)
    config = ModelConfig(**{"backbone": "test_resnet", "levels": (3, 5), **changes})
    return build(config, "simclr", 9)


def pixels(count):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)


def test_two_layers_stand_on_the_pooled_map():
    model, views = projector().eval(), pixels(3)
    (top,) = model.features(views)
    first, norm, _, last = model.predict
    hidden = norm(top.mean(dim=(2, 3)) @ first.weight.T).clamp(min=0)
    torch.testing.assert_close(model(views), hidden @ last.weight.T + last.bias)
    assert model(views).shape == (3, 9)


def test_spinenet_projects():
    model = projector(backbone="spinenet49s", levels=(3, 7), pyramid="none", channels=16)
    assert model(pixels(2)).shape == (2, 9)


def test_every_parameter_learns():
    model = projector().train()
    model(pixels(4)).square().sum().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


def test_settings_of_batchnorm_reach_the_projection():
    norms = [
        each
        for each in projector(norm_eps=1e-3, norm_momentum=0.003).modules()
        if isinstance(each, nn.BatchNorm1d)
    ]
    assert [(each.eps, each.momentum) for each in norms] == [(1e-3, 0.003)]


def test_its_backbone_is_the_detectors():
    ours = build(MODEL, "simclr", 9).backbone.state_dict()
    theirs = tiny_model().backbone.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
