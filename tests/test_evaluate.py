"""An evaluation leaves no trace in training: not in weights, averages, modes or random numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_checkpoints import assert_equal
from tiny import MODEL, tiny_batch, tiny_state, tiny_task

from ray_st.data.labels import Detections
from ray_st.data.views import Views
from ray_st.labeling.teacher import Teacher
from ray_st.training.evaluate import evaluating, predict
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import train_step

pytestmark = pytest.mark.pure
torch.set_num_threads(1)
CONFIG = TrainConfig(steps=4, warmup_steps=1, optimizer="adamw", lr=0.01)


def views(count: int, *, seed: int = 0) -> Views:
    """Noise; the last image could not be read."""
    pixels = np.random.default_rng(seed).integers(0, 255, (count, 64, 64, 3), np.uint8)
    broken = [i == count - 1 for i in range(count)]
    return Views(
        image_ids=np.arange(count),
        uris=tuple(f"{i}.jpg" for i in range(count)),
        pixels=pixels,
        sizes_hw=np.full((count, 2), 64, np.int32),
        labels=(Detections.of(),) * count,
        stages=tuple("decode" if each else None for each in broken),
        reasons=tuple("no image" if each else None for each in broken),
    )


def trained(*, evaluated: bool):
    state = tiny_state(CONFIG)
    # Parts may be held in evaluation mode while the rest trains.
    frozen = next(m for m in state.model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    frozen.eval()
    numbers = []
    for step in range(CONFIG.steps):
        if evaluated:
            with evaluating(state.model) as model:
                assert not any(each.training for each in model.modules())
                found = predict(Teacher(model, tiny_task()), [views(3), views(1)])
            assert found["image_id"].to_pylist() == [0, 1]  # what could not be read has no row
        assert state.model.training
        assert not frozen.training
        numbers.append(torch.rand(1))
        train_step(state, tiny_batch(step), tiny_task(), CONFIG)
    return state, numbers


def test_training_is_the_same_with_and_without() -> None:
    torch.manual_seed(0)
    with_it, numbers = trained(evaluated=True)
    torch.manual_seed(0)
    without, same_numbers = trained(evaluated=False)
    assert_equal(with_it.model.state_dict(), without.model.state_dict())
    assert_equal(with_it.optimizer.state_dict(), without.optimizer.state_dict())
    assert numbers == same_numbers


def test_an_exception_leaves_the_modes_as_they_were() -> None:
    state = tiny_state(CONFIG)
    with pytest.raises(ZeroDivisionError), evaluating(state.model):
        raise ZeroDivisionError
    assert all(each.training for each in state.model.modules())


def test_a_blank_batch_beside_another_worker_s_gives_no_row() -> None:
    state = tiny_state(CONFIG)
    side = MODEL.image_size_px
    with evaluating(state.model) as model:
        found = predict(Teacher(model, tiny_task()), [None, views(2), None], side)
        alone = predict(Teacher(model, tiny_task()), [views(2)], side)
        nothing = predict(Teacher(model, tiny_task()), [None, None], side)
    assert found.equals(alone)
    assert found["image_id"].to_pylist() == [0]
    assert nothing.num_rows == 0
