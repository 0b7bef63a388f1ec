"""A step on two processes: in parts, with a bad one, and with frozen weights."""

import math
from dataclasses import replace

import pytest
import torch
from ranks import on_ranks
from test_accumulation import TASKS, batch_of, model_of, objective_of
from test_guard import bad_inputs
from tiny import tiny_batch, tiny_state, tiny_task
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from ray_st.data.batches import in_parts
from ray_st.training.joint import JointConfig
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import TrainState, train_step
from ray_st.training.trainable import bare, unwrapped

pytestmark = pytest.mark.ranks

NUM_RANKS, NUM_STEPS = 2, 3


def config_of(accumulate, num_workers):
    return TrainConfig(
        batch_size=4,
        accumulate=accumulate,
        num_workers=num_workers,
        alpha=3.0,
        mean_decay=0.5,
        warmup_steps=0,
        lr=1e-3,
        clip_norm=1e6,
    )


def stepped(task, accumulate, share):
    """Losses, averages and gradients of a few steps; and how often gradients were shared."""
    model = model_of(task)
    config = config_of(accumulate, 1 if share is None else NUM_RANKS)
    if task == "joint":
        config = replace(config, joint=JointConfig(images="classes:some", weight=0.7))
    shared = []
    if share is not None:
        model = DistributedDataParallel(model)

        def counted(state, bucket):
            shared[-1] += 1
            return allreduce_hook(state, bucket)

        model.register_comm_hook(None, counted)
    state = TrainState.fresh(model, config, "cpu")
    found = []
    for seed in range(NUM_STEPS):
        shared.append(0)
        batch = batch_of(task, seed)
        batch = batch if share is None else in_parts(batch, NUM_RANKS)[share]
        report = train_step(state, batch, objective_of(task), config)
        gradients = [p.grad.flatten() for p in unwrapped(model).parameters()]
        loss = report.loss
        figures = [loss.total[None], loss.losses, loss.balance.totals, report.gradient_norm[None]]
        found.append(torch.cat([*figures, *gradients]).detach())
    return torch.stack(found), shared


def interrupted(rank):
    """Three steps, of which rank 1 spoils the second; weights, statistics and averages."""
    config = TrainConfig(
        batch_size=4, num_workers=2, warmup_steps=0, lr=0.01, freeze=("backbone.*",)
    )
    state = tiny_state(config)
    state.model = DistributedDataParallel(state.model)
    rows, seen = [], []
    for step in range(3):
        spoilt = bad_inputs(state.model) if (rank, step) == (1, 1) else None
        report = train_step(state, tiny_batch(10 * rank + step), tiny_task(), config)
        if spoilt:
            spoilt.remove()
        rows.append((report.skipped.total, float(report.loss.total)))
        named = bare(state.model).state_dict().items()
        seen.append({**{n: v.clone() for n, v in named}, "means": state.balance.means})
    return rows, seen


def one_rank(rank):
    """All of it, so that processes are started once."""
    parts = {(t, n): stepped(t, n, rank) for t in TASKS for n in (1, 2)}
    return {"parts": parts, "interrupted": interrupted(rank)}


@pytest.fixture(scope="module")
def results():
    return on_ranks(one_rank, NUM_RANKS)


@pytest.mark.parametrize("task", TASKS)
def test_two_parts_on_two_ranks_are_four_parts_on_one(results, task):
    expected, _ = stepped(task, 4, None)
    whole, _ = stepped(task, 1, None)
    for rank in range(NUM_RANKS):
        found, _ = results[rank]["parts"][task, 2]
        scale = expected.abs().amax(dim=1, keepdim=True)
        torch.testing.assert_close(found / scale, expected / scale, rtol=1e-4, atol=1e-6)
        # The first step's ratio is its own, so it is the step of one part on one rank too.
        first = whole[0].abs().max()
        torch.testing.assert_close(found[0] / first, whole[0] / first, rtol=1e-4, atol=1e-6)
        assert found.equal(results[0]["parts"][task, 2][0])  # ranks agree to the bit


@pytest.mark.parametrize("task", TASKS)
def test_gradients_are_shared_once_a_step(results, task):
    for rank in range(NUM_RANKS):
        _, once = results[rank]["parts"][task, 1]
        _, parts = results[rank]["parts"][task, 2]
        assert parts == once
        assert min(once) >= 1


def test_a_rank_that_spoils_a_step_spoils_it_for_all_alike(results):
    (rows, mine), (other_rows, others) = (result["interrupted"] for result in results)
    assert [skipped for skipped, _ in rows] == [0, 1, 1]
    assert [skipped for skipped, _ in other_rows] == [0, 1, 1]
    assert math.isnan(rows[1][1])
    assert math.isnan(other_rows[1][1])
    for seen in (mine, others):
        for name, value in seen[1].items():
            assert value.equal(seen[0][name]), name
            assert value.isfinite().all(), name
    moved = [n for n, v in mine[2].items() if not v.equal(mine[1][n])]
    assert "boxes.predict.weight" in moved
    assert not any(name.startswith("backbone.") for name in moved)
    for name, value in mine[2].items():  # statistics are a rank's own until the next forward pass
        assert "running" in name or value.equal(others[2][name]), name
