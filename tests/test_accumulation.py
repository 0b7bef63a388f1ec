"""A step in parts is the step in one, where images do not see each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import JOINT_CLASSES, MODEL, joint_batch, joint_task, tiny_batch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ray_st.data.batches import in_parts
from ray_st.data.labels import ClassLabel, SegmentationMap
from ray_st.models import build
from ray_st.tasks import make_task
from ray_st.training.accumulation import gradient_in_parts
from ray_st.training.gradient import gradient, outputs_of, targets_of
from ray_st.training.loss_balance import LossBalance, balanced_loss
from ray_st.training.schedule import TrainConfig
from ray_st.training.trainable import with_joint_classes

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

WHOLE = TrainConfig(batch_size=4, alpha=3.0, mean_decay=0.5)
TASKS = ("detection", "segmentation", "classification", "joint")


def batch_of(task, seed=0):
    """Four human and four pseudo images, a pseudo one unreadable; how much is labelled is uneven.

    Of boxes the images of each half have 2, 2, 2 and 0.
    """
    if task == "joint":
        batch = joint_batch(seed, num_human=4, num_pseudo=4)
        return replace(batch, is_valid=batch.is_valid & (torch.arange(12) != 5))
    batch = tiny_batch(seed, num_human=4, num_pseudo=4)
    batch = replace(batch, is_valid=torch.arange(8) != 5)
    if task == "detection":
        return batch
    if task == "classification":
        labels = [
            ClassLabel.unknown() if i in (3, 4, 6) else ClassLabel.of([i % 2]) for i in range(8)
        ]
        return replace(batch, labels=tuple(labels))
    maps = np.full((8, 64, 64), 255, np.uint8)  # 255: no class
    for i in range(8):
        maps[i, : 9 * i, : 50 - 3 * i] = i % 2
    return replace(batch, labels=tuple(SegmentationMap(class_map=one) for one in maps))


def model_of(task, *, resting=True):
    """A tiny model; with its BatchNorms at rest no image sees another."""
    torch.manual_seed(0)
    model = build(MODEL, "detection" if task == "joint" else task, 2)
    model = with_joint_classes(model, JOINT_CLASSES if task == "joint" else 0)
    model = model.to(memory_format=torch.channels_last).train()
    for module in model.modules():
        if resting and isinstance(module, _BatchNorm):
            module.eval()
    return model


def objective_of(task):
    return joint_task() if task == "joint" else make_task(task, MODEL, 2)


def balance_of(config, *, joint=None):
    return LossBalance.start(
        alpha=config.alpha,
        normalised=config.loss == "normalised",
        decay=config.mean_decay,
        joint=joint,
    )


def gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def learned(task, count, *, config=WHOLE, balance=None, seed=0):
    """What a step finds in so many parts, and its gradients."""
    model, config = model_of(task), replace(config, accumulate=count)
    found = (gradient if count == 1 else gradient_in_parts)(
        model,
        batch_of(task, seed),
        objective_of(task),
        balance or balance_of(config, joint=0.7 if task == "joint" else None),
        config,
    )
    return found, gradients(model)


@pytest.mark.parametrize("task", TASKS)
def test_counts_are_those_of_the_loss_whatever_the_outputs(task):
    objective, model = objective_of(task), model_of(task)
    batch = batch_of(task)
    targets = targets_of(batch, objective)
    other = replace(
        in_parts(batch, 4)[2], pixels=batch.pixels.flip(0)[:3] // 2
    )  # fewer images, other ones
    with torch.no_grad():
        sums = objective.loss_sums(outputs_of(model, batch, WHOLE), targets)
        others = outputs_of(model, other, WHOLE)
    assert objective.counts(others, targets).equal(sums.counts)
    assert len(set(sums.counts.tolist())) > 1


@pytest.mark.parametrize("form", ["normalised", "plain"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("count", [2, 4])
def test_parts_of_a_first_step_have_the_gradient_of_the_whole(task, count, form):
    config = replace(WHOLE, loss=form)
    expected, wanted = learned(task, 1, config=config)
    found, got = learned(task, count, config=config)
    largest = max(each.abs().max().item() for each in wanted.values())
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6 * largest)
    for name in ("total", "losses", "seen"):
        torch.testing.assert_close(getattr(found.loss, name), getattr(expected.loss, name))
    torch.testing.assert_close(found.loss.balance.totals, expected.loss.balance.totals)
    assert found.loss.balance.weights.equal(expected.loss.balance.weights)
    torch.testing.assert_close(found.parts, expected.parts)


@pytest.mark.parametrize("count", [2, 4])
def test_a_later_step_is_weighed_as_the_steps_before_it_were(count):
    before = balance_of(WHOLE).updated(torch.tensor([6.0, 2.0]), torch.ones(2).bool())
    found, got = learned("detection", count, balance=before)
    human, pseudo = found.loss.losses.tolist()
    # alpha 3, mean_h / mean_p = 6 / 2
    assert found.loss.total.item() == pytest.approx((human + 3 * 3 * pseudo) / 4, rel=1e-6)
    # Decay 1/2, for the step as a whole: totals were 1/2 of (6, 2).
    expected = [0.5 * 3.0 + 0.5 * human, 0.5 * 1.0 + 0.5 * pseudo]
    assert found.loss.balance.totals.tolist() == pytest.approx(expected, rel=1e-6)
    assert found.loss.balance.weights.tolist() == [0.75, 0.75]
    _, wanted = learned("detection", 1, config=replace(WHOLE, loss="plain", alpha=9.0))
    quarter = {name: each / 4 for name, each in wanted.items()}
    largest = max(each.abs().max().item() for each in quarter.values())
    torch.testing.assert_close(got, quarter, rtol=1e-4, atol=1e-6 * largest)


class Forgetful(nn.Module):
    """A classifier of mean colours that drops half of them, and counts how often it was asked."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 2), nn.BatchNorm1d(3)
        self.asked = 0

    def forward(self, pixels):
        self.asked += 1
        colours = self.norm(pixels.float().mean(dim=(2, 3)) / 255)
        return self.linear(nn.functional.dropout(colours))


def one_step(model, balance, **changes):
    config = replace(WHOLE, accumulate=2)
    batch = replace(batch_of("classification"), **changes)
    objective = make_task("classification", MODEL, 2)
    return gradient_in_parts(model, batch, objective, balance, config).loss


def test_the_first_step_knows_its_own_losses_and_leaves_nothing_else_behind():
    torch.manual_seed(1)
    model, other = Forgetful().train(), Forgetful().train()
    other.load_state_dict(model.state_dict())
    torch.manual_seed(5)
    loss = one_step(model, balance_of(WHOLE))
    after = torch.get_rng_state()
    # The averages are the losses, so L is L_h: the forward pass before dropped the same colours.
    assert loss.total.item() == pytest.approx(loss.losses[0].item(), rel=1e-6)
    assert loss.losses[0] != loss.losses[1]
    torch.manual_seed(5)
    for part in in_parts(batch_of("classification"), 2):
        other(part.pixels)
    assert after.equal(torch.get_rng_state())
    for name, value in other.state_dict().items():
        assert model.state_dict()[name].equal(value), name
    assert model.norm.num_batches_tracked == 2


def test_only_a_step_without_any_before_it_looks_twice():
    model = Forgetful().train()
    loss = one_step(model, balance_of(WHOLE))
    assert model.asked == 4
    one_step(model, loss.balance)
    assert model.asked == 6
    one_step(model, balance_of(replace(WHOLE, loss="plain")))
    assert model.asked == 8
    alone = one_step(model, balance_of(WHOLE), origins=torch.zeros(8).long())
    assert model.asked == 10  # of one origin: no ratio
    assert alone.total.item() == pytest.approx(alone.losses[0].item())


def test_an_origin_that_comes_late_is_looked_at_twice_when_it_comes():
    model = Forgetful().train()
    unreadable = torch.tensor([True] * 4 + [False] * 4)
    first = one_step(model, balance_of(WHOLE), is_valid=unreadable)
    assert first.seen.tolist() == [True, False]
    assert first.total.item() == pytest.approx(first.losses[0].item())
    asked = model.asked
    second = one_step(model, first.balance)
    assert model.asked == asked + 4
    assert second.balance.knows({0, 1})


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_the_first_labels_of_a_pool_that_had_none_are_weighed_as_in_one_part(task):
    without = balance_of(WHOLE).updated(torch.tensor([2.0, 0.0]), torch.ones(2).bool())
    expected, wanted = learned(task, 1, balance=without)
    found, got = learned(task, 2, balance=without)
    torch.testing.assert_close(found.loss.total, expected.loss.total)
    largest = max(each.abs().max().item() for each in wanted.values())
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6 * largest)


def test_nothing_readable_teaches_nothing():
    model = Forgetful().train()
    loss = one_step(model, balance_of(WHOLE), is_valid=torch.zeros(8).bool())
    assert loss.total.item() == 0.0
    assert all(
        each.tolist() == torch.zeros_like(each).tolist() for each in gradients(model).values()
    )
    assert loss.balance.weights.tolist() == [0.0, 0.0]


def test_the_loss_of_joined_sums_is_that_of_all_images():
    objective, model, batch = (
        make_task("detection", MODEL, 2),
        model_of("detection"),
        batch_of("detection"),
    )
    sums = objective.loss_sums(model(batch.pixels), targets_of(batch, objective))
    parts = in_parts(batch, 4)
    some = [
        objective.loss_sums(model(part.pixels), targets_of(part, objective)).detached()
        for part in parts
    ]
    assert not any(each.sums.requires_grad for each in some)
    joined = type(sums).joined(some)
    origins, is_valid = (torch.cat([getattr(p, n) for p in parts]) for n in ("origins", "is_valid"))
    got = balanced_loss(joined, origins, is_valid, balance_of(WHOLE))
    expected = balanced_loss(sums, batch.origins, batch.is_valid, balance_of(WHOLE))
    torch.testing.assert_close(got.losses, expected.losses.detach())
