"""A model spread over two processes learns what a whole one learns, and is saved as one."""

from __future__ import annotations

import math
import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import on_ranks
from test_checkpoints import assert_equal
from test_evaluate import views
from tiny import MODEL, tiny_batch, tiny_card, tiny_model, tiny_task
from torch.nn.parallel import DistributedDataParallel

from ray_st.data.batches import Batch
from ray_st.labeling.teacher import Teacher
from ray_st.models import build
from ray_st.models.saved import save_tensors
from ray_st.training.checkpoints import load_state, save_state
from ray_st.training.evaluate import evaluating, in_step, predict
from ray_st.training.schedule import TrainConfig
from ray_st.training.sharding import blocks_of, is_sharded, shard, whole
from ray_st.training.step import TrainState, train_step

pytestmark = pytest.mark.ranks

CPU = torch.device("cpu")
CONFIGS = {
    # A norm that is always above the limit: clipping is part of every step.
    "sgd": TrainConfig(steps=4, warmup_steps=1, lr=0.05, clip_norm=0.5, num_workers=2),
    "adamw": TrainConfig(steps=4, warmup_steps=1, lr=0.001, optimizer="adamw", num_workers=2),
}


def blocks() -> list[str]:
    with torch.device("meta"):
        twin = build(MODEL, "detection", 2).train()
        return blocks_of(twin, torch.empty(2, 3, 64, 64, dtype=torch.uint8))


def started(config: TrainConfig, parallel: str, *, seed: int = 0):
    model = tiny_model(seed=seed).train()
    wrapped = model
    if parallel == "fsdp":
        model = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        shard(model, blocks(), CPU)
        wrapped = model
    elif parallel == "ddp":
        wrapped = DistributedDataParallel(model)
    return model, TrainState.fresh(wrapped, config, CPU)


def mine(batch: Batch, rank: int, num_ranks: int) -> Batch:
    """Every second image of each half."""
    chosen = [i for i in range(len(batch)) if i % num_ranks == rank]
    return replace(
        batch,
        pixels=batch.pixels[chosen],
        labels=tuple(batch.labels[i] for i in chosen),
        origins=batch.origins[chosen],
        is_valid=batch.is_valid[chosen],
        image_ids=batch.image_ids[chosen],
    )


def run(state: TrainState, config: TrainConfig, first: int, last: int, rank: int, num_ranks: int):
    norms = []
    for step in range(first, last):
        batch = mine(tiny_batch(step, num_human=4, num_pseudo=4), rank, num_ranks)
        norms.append(float(train_step(state, batch, tiny_task(), config).gradient_norm))
    return norms


def save(folder: Path, model, state, rank: int) -> None:
    """As a train worker does: all take part, the first one writes."""
    tensors = whole(model.state_dict(), keep=rank == 0)
    save_state(folder if rank == 0 else None, state)
    if rank == 0:
        save_tensors(folder, tensors, tiny_card())


def state_of(model, state) -> dict[str, object]:
    """A copy, for the state itself moves on."""
    return deepcopy(
        {
            "model": whole(model.state_dict()),
            "optimizer": whole(state.optimizer.state_dict()["state"]),
            "balance": state.balance.state_dict(),
        }
    )


def one_rank(rank: int) -> dict[str, object]:
    """All cases, so that processes are started once."""
    out = Path(os.environ["SHARDING_TEST_FOLDER"])
    found: dict[str, object] = {}
    for name, config in CONFIGS.items():
        for parallel in ("ddp", "fsdp"):
            folder = out / f"{name}-{parallel}"
            if rank == 0:
                folder.mkdir()
            model, state = started(config, parallel)
            norms = run(state, config, 0, 2, rank, 2)
            save(folder, model, state, rank)
            saved = state_of(model, state)
            norms += run(state, config, 2, 4, rank, 2)
            found[f"{name}-{parallel}"] = (norms, state_of(model, state), saved)
            if parallel == "fsdp":
                assert is_sharded(model)
                found[f"{name}-share"] = sum(p.to_local().numel() for p in model.parameters())
    # What one process wrote is gone on with by two: each has all of it, or a share.
    for parallel in ("ddp", "fsdp"):
        model, state = started(CONFIGS["sgd"], parallel, seed=9)
        load_state(out / "one", state)
        loaded = state_of(model, state)
        norms = run(state, CONFIGS["sgd"], 2, 4, rank, 2)
        found[f"one-{parallel}"] = (norms, state_of(model, state), loaded)
    found["predictions"] = predictions(model, rank)
    return found


def predictions(model, rank: int) -> list[int]:
    """The first process has two batches to look at, the second none."""
    batches = [views(3), replace(views(2), image_ids=np.array([7, 8]))] if rank == 0 else []
    with evaluating(model):
        found = predict(Teacher(model, tiny_task()), in_step(batches, CPU), 64)
    train = tiny_batch(0, num_human=4, num_pseudo=4)
    assert math.isfinite(model(train.pixels).class_logits.sum())  # and it can be trained on
    return found["image_id"].to_pylist()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharding")


@pytest.fixture(scope="module")
def alone(out: Path) -> dict[str, object]:
    """One process with all images, and what it wrote after two steps."""
    torch.set_num_threads(1)
    model, state = started(CONFIGS["sgd"], "none")
    run(state, CONFIGS["sgd"], 0, 2, 0, 1)
    (out / "one").mkdir()
    save(out / "one", model, state, 0)
    return state_of(model, state)


@pytest.fixture(scope="module")
def results(out: Path, alone: dict[str, object]) -> list[dict[str, object]]:
    os.environ["SHARDING_TEST_FOLDER"] = str(out)
    try:
        return on_ranks(one_rank, 2)
    finally:
        del os.environ["SHARDING_TEST_FOLDER"]


def require_close(got: object, expected: object) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_spread_or_whole_the_steps_of_sgd_are_the_same(results) -> None:
    ddp_norms, ddp, _ = results[0]["sgd-ddp"]
    fsdp_norms, fsdp, _ = results[0]["sgd-fsdp"]
    assert min(ddp_norms) > CONFIGS["sgd"].clip_norm
    require_close(fsdp_norms, ddp_norms)
    require_close(fsdp, ddp)


def test_spread_or_whole_the_steps_of_adam_are_the_same(results) -> None:
    """A bias in front of a BatchNorm has no gradient but rounding, of which Adam makes whole steps:
    weights are compared where there is one.
    """
    ddp_norms, ddp, _ = results[0]["adamw-ddp"]
    fsdp_norms, fsdp, _ = results[0]["adamw-fsdp"]
    require_close(fsdp_norms, ddp_norms)
    require_close(fsdp["optimizer"], ddp["optimizer"])
    parameters = dict(tiny_model().named_parameters())
    names = sorted(parameters, key=lambda name: parameters[name].ndim <= 1)  # as make_optimizer
    compared = 0
    for index, name in enumerate(names):
        is_moved = ddp["optimizer"][index]["exp_avg_sq"].sqrt() > 1e-6
        require_close(fsdp["model"][name][is_moved], ddp["model"][name][is_moved])
        compared += int(is_moved.sum())
    # All but the towers, whose last convolutions begin near zero and let no gradient through.
    assert compared > 0.2 * sum(p.numel() for p in parameters.values())


def test_each_worker_holds_about_half(results) -> None:
    total = sum(p.numel() for p in tiny_model().parameters())
    shares = [found["sgd-share"] for found in results]
    assert sum(shares) == total
    assert max(shares) < 0.6 * total


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", CONFIGS)
def test_one_process_goes_on_with_what_two_wrote(results, out, name: str, parallel: str) -> None:
    model, state = started(CONFIGS[name], "none", seed=9)
    load_state(out / f"{name}-{parallel}", state)
    assert state.step == 2
    assert_equal(state_of(model, state), results[0][f"{name}-{parallel}"][2])
    norms = run(state, CONFIGS[name], 2, 4, 0, 1)
    assert all(map(math.isfinite, norms))


def test_two_go_on_with_what_one_wrote(results, alone) -> None:
    ddp, fsdp = results[0]["one-ddp"], results[0]["one-fsdp"]
    for _, _, loaded in (ddp, fsdp):
        assert_equal(loaded, alone)
    require_close(fsdp[0], ddp[0])
    require_close(fsdp[1]["model"], ddp[1]["model"])


def test_all_run_the_model_as_often_as_the_one_with_most_to_look_at(results) -> None:
    assert results[0]["predictions"] == results[1]["predictions"] == [0, 1, 7]


def test_blocks_run_once_a_step_and_hold_most_of_the_model() -> None:
    names = blocks()
    model = tiny_model()
    assert len(names) == len({*names}) > 3
    held = {p for name in names for p in model.get_submodule(name).parameters()}
    total = sum(p.numel() for p in model.parameters())
    assert sum(p.numel() for p in held) > 0.9 * total
    # The convolutions of a tower run once a level: the tower is sharded, not they.
    assert "classes" in names
    assert not [name for name in names if name.startswith("classes.convs")]
    for i, name in enumerate(names):  # inner ones first
        assert not any(each.startswith(f"{name}.") for each in names[i:])
