"""One step of training on a real, tiny detector."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import tiny_batch, tiny_state, tiny_task

from ray_st.training.checkpoints import finite
from ray_st.training.rate import learning_rate
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import train_step

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CONFIG = TrainConfig(steps=40, warmup_steps=4, optimizer="adamw", lr=0.01, batch_size=2)


def weights(state):
    return torch.cat([p.detach().flatten() for p in state.model.parameters()])


@pytest.mark.parametrize("form", ["normalised", "plain"])
def test_the_loss_falls_on_a_batch_seen_again_and_again(form):
    config = replace(CONFIG, loss=form, alpha=2.0)
    state, batch, task = tiny_state(config), tiny_batch(), tiny_task()
    reports = [train_step(state, batch, task, config) for _ in range(config.steps)]
    human = [report.loss.losses[0].item() for report in reports]
    pseudo = [report.loss.losses[1].item() for report in reports]
    assert human[-1] < 0.5 * human[0]
    assert pseudo[-1] < 0.5 * pseudo[0]
    assert [report.step for report in reports] == list(range(1, 41))
    assert state.step == 40
    assert [report.lr for report in reports] == [learning_rate(i, config) for i in range(40)]


def test_a_row_of_the_log():
    batch = tiny_batch()  # 2 human and 2 pseudo images; of each, the last has no box
    valid = torch.tensor([True, True, True, False])
    state = tiny_state(CONFIG)
    row = train_step(state, replace(batch, is_valid=valid), tiny_task(), CONFIG).as_row()
    assert row["step"] == 1
    assert row["lr"] == CONFIG.lr * 0.01
    assert row["pseudo_labels_per_image"] == 1.0  # (2 + 0) / 2
    assert row["pseudo_empty_share"] == 0.5
    assert row["skipped_steps"] == 0
    assert row["ratio"] == pytest.approx(row["loss_human"] / row["loss_pseudo"])
    assert row["unreadable_images"] == 1
    # The first averages are the losses, so that L is L_h.
    assert row["mean_human"] == pytest.approx(row["loss_human"])
    assert row["mean_pseudo"] == pytest.approx(row["loss_pseudo"])
    assert row["loss"] == pytest.approx(row["loss_human"])
    assert finite(row) == row


@pytest.mark.parametrize("parts", [1, 2])
def test_the_ratio_of_a_row_is_the_one_that_weighed_the_pseudo_loss(parts):
    config = replace(CONFIG, alpha=3.0, mean_decay=0.5, accumulate=parts)
    state = tiny_state(config)
    reports = [train_step(state, tiny_batch(seed), tiny_task(), config) for seed in range(4)]
    rows = [report.as_row() for report in reports]
    for row in rows:
        expected = (row["loss_human"] + 3 * row["ratio"] * row["loss_pseudo"]) / (1 + 3)
        assert row["loss"] == pytest.approx(expected, rel=1e-5)
    of_means = [row["mean_human"] / row["mean_pseudo"] for row in rows]
    weighed_by = of_means if parts == 1 else [of_means[0], *of_means[:-1]]  # of the step before
    assert [row["ratio"] for row in rows] == pytest.approx(weighed_by, rel=1e-5)


@pytest.mark.parametrize(
    ("sizes", "absent"),
    [
        ({"num_human": 1, "num_pseudo": 0}, "pseudo"),
        ({"num_human": 0, "num_pseudo": 1}, "human"),
    ],
)
def test_one_image_of_one_origin(sizes, absent):
    state = tiny_state(CONFIG)
    before = weights(state)
    row = train_step(state, tiny_batch(**sizes), tiny_task(), CONFIG).as_row()
    assert row[f"loss_{absent}"] is None
    assert row[f"mean_{absent}"] is None
    assert row["ratio"] is None
    assert (row["pseudo_empty_share"] is None) == (absent == "pseudo")
    assert row["parts"].keys() == {"class", "box"}
    assert sum(row["parts"].values()) == pytest.approx(row["loss"], rel=1e-5)
    assert math.isfinite(row["loss"])
    assert weights(state).isfinite().all()
    assert not weights(state).equal(before)


def test_unreadable_images_teach_nothing():
    batch = tiny_batch()
    state = tiny_state(replace(CONFIG, optimizer="sgd", weight_decay=0.0))
    before = weights(state)
    nothing = replace(batch, is_valid=torch.zeros(4).bool())
    report = train_step(state, nothing, tiny_task(), CONFIG)
    assert report.as_row()["loss"] == 0.0
    assert report.as_row()["parts"] == {"class": 0.0, "box": 0.0}
    assert report.gradient_norm.item() == 0.0
    assert weights(state).equal(before)


def test_a_step_is_no_longer_than_its_clipped_gradient():
    config = TrainConfig(optimizer="sgd", lr=0.5, warmup_steps=0, weight_decay=0.0, clip_norm=1e-3)
    state = tiny_state(config)
    before = weights(state)
    report = train_step(state, tiny_batch(), tiny_task(), config)
    assert report.gradient_norm.item() > 1e-3  # before clipping
    moved = torch.linalg.vector_norm(weights(state) - before).item()
    assert moved == pytest.approx(0.5 * 1e-3, rel=1e-3)


def test_bf16_is_for_the_model_only():
    config = replace(CONFIG, precision="bf16", optimizer="sgd", warmup_steps=0)
    half, full = tiny_state(config), tiny_state(config)
    seen = []
    conv = next(m for m in half.model.modules() if isinstance(m, torch.nn.Conv2d))
    conv.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    report = train_step(half, tiny_batch(), tiny_task(), config)
    expected = train_step(full, tiny_batch(), tiny_task(), replace(config, precision="fp32"))
    assert seen == [torch.bfloat16]
    loss = report.loss
    assert {loss.total.dtype, loss.losses.dtype, loss.balance.totals.dtype} == {torch.float32}
    assert loss.losses.tolist() == pytest.approx(expected.loss.losses.tolist(), rel=2**-8)
    assert not loss.losses.equal(expected.loss.losses)  # it was another arithmetic
    assert report.gradient_norm.item() == pytest.approx(expected.gradient_norm.item(), rel=0.02)
    for parameter in half.model.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()
