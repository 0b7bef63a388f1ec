"""What is frozen stays as it is, and what cannot be frozen is refused."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny import MODEL, tiny_batch, tiny_model, tiny_state, tiny_task
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ray_st.config import UserError
from ray_st.training.freezing import freeze
from ray_st.training.rehearsal import rehearse
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import train_step

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CONFIG = TrainConfig(steps=40, warmup_steps=0, lr=0.01, freeze=("backbone.*",), weight_decay=0.1)


def norms_of(model):
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_frozen_backbone_stays_bit_for_bit(optimizer, accumulate):
    config = replace(CONFIG, optimizer=optimizer, accumulate=accumulate)
    state = tiny_state(config)
    before = copy.deepcopy(state.model.state_dict())
    state.model.train()  # as somebody does who has evaluated the whole model
    for seed in range(3):
        train_step(state, tiny_batch(seed), tiny_task(), config)
    after = state.model.state_dict()
    moved = {name for name, value in after.items() if not value.equal(before[name])}
    assert not any(name.startswith("backbone.") for name in moved)
    learns = {name for name in after if not name.startswith("backbone.")}
    assert moved <= learns - {"mean", "std"}  # of the pixels
    assert {"pyramid.smooths.0.weight", "classes.predict.bias", "boxes.predict.weight"} <= moved
    held = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
    for name, parameter in state.model.named_parameters():
        assert parameter.requires_grad == (id(parameter) in held) == (name in learns)
        assert (parameter.grad is None) == (name not in learns)


def test_a_norm_of_which_a_part_learns_goes_on_counting():
    model = tiny_model()
    freeze(model, ("*.weight", "pyramid.*"))
    model.train()
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            assert module.training == (not name.startswith("pyramid.")), name
    assert any(
        name.startswith("pyramid.") for name, m in model.named_modules() if m in norms_of(model)
    )


def test_a_norm_without_parameters_is_not_frozen():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False), nn.Linear(2, 1))
    freeze(model, ("0.*",))
    assert model.train()[1].training


def test_a_copy_is_frozen_on_its_own():
    model = tiny_model()
    freeze(model, ("backbone.*",))
    other = copy.deepcopy(model).train()
    first, second = (norms_of(each)[0] for each in (model, other))
    assert second.train.__self__ is second
    assert not second.training
    assert first.train.__self__ is first
    with torch.no_grad():
        other(tiny_batch().pixels)
    assert second.num_batches_tracked == first.num_batches_tracked == 0


def test_no_pattern_freezes_nothing():
    model = tiny_model()
    freeze(model, ())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(norm.training for norm in norms_of(model.train()))


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (("backbon.*",), "got 'backbon.*'; did you mean backbone.*? the model has backbone.*, "),
        (("backbone",), "got 'backbone'; did you mean backbone.*? the model has backbone.*, "),
        (("classes.*", "box.*"), "got 'box.*'; did you mean boxes.*? "),
        (("boxes.predict.wieght",), "did you mean boxes.predict.weight? "),
        (("backbone.*.running_mean",), "got 'backbone.*.running_mean'; "),
    ],
)
def test_a_pattern_that_fits_nothing_names_the_nearest_that_does(patterns, said):
    for refuse in (
        lambda: freeze(tiny_model(), patterns),
        lambda: rehearse(MODEL, "detection", 1, replace(CONFIG, freeze=patterns), has_pseudo=False),
    ):
        with pytest.raises(UserError) as caught:
            refuse()
        line = str(caught.value)
        assert line.startswith("train.freeze: must fit names of the model's parameters, got ")
        assert said in line
        assert line.endswith("the model has backbone.*, pyramid.*, classes.*, boxes.*")
        assert "\n" not in line


@pytest.mark.parametrize("patterns", [("*",), ("backbone.*", "pyramid.*", "classes.*", "boxes.*")])
def test_to_freeze_everything_is_refused(patterns):
    with pytest.raises(UserError) as caught:
        rehearse(MODEL, "detection", 1, replace(CONFIG, freeze=patterns), has_pseudo=False)
    assert str(caught.value) == (
        f"train.freeze: must be less than all parameters, got {list(patterns)!r}; "
        "take a pattern away"
    )
