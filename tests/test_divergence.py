"""What is left of a run whose numbers went bad."""

import json
import math
from dataclasses import replace

import pytest
import torch
from tiny import tiny_batch, tiny_state, tiny_task

from ray_st.config import UserError
from ray_st.training.checkpoints import load_log
from ray_st.training.divergence import BAD_STEP, DivergedError, Divergence
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import train_step

pytestmark = pytest.mark.pure
torch.set_num_threads(1)


def test_the_account_names_the_step_its_losses_and_its_images(tmp_path):
    config = TrainConfig(warmup_steps=0, lr=1e30)  # the first step is the last that can be counted
    state, log = tiny_state(config), []
    for seed in range(4):
        batch = replace(tiny_batch(seed), image_ids=torch.tensor([7, 2**40, 3, 5]))
        report = train_step(state, batch, tiny_task(), config)
        log.append(report.as_row())
    assert state.skipped.in_a_row == 3
    found = Divergence.of(report, batch, log)
    error = found.left_in(str(tmp_path))
    assert isinstance(error, DivergedError)
    assert isinstance(error, UserError)
    assert str(error) == (
        "train.max_skipped_steps: the loss or gradient of 3 steps in a row, up to step 4, was no "
        f"finite number; {tmp_path / BAD_STEP} holds the last one's losses and image ids: look at "
        "these images, or pass a lower train.lr and another --out"
    )
    account = json.loads((tmp_path / BAD_STEP).read_text(), parse_constant=pytest.fail)
    assert account["step"] == 4
    assert account["skipped_steps"] == 3
    assert account["image_ids"] == {"human": [7, 2**40], "pseudo": [3, 5]}
    assert not math.isfinite(float(account["loss"]))  # as text: "nan" or "inf"
    assert isinstance(account["loss"], str)
    assert account["lr"] == log[-1]["lr"]
    assert [row["step"] for row in load_log(tmp_path)] == [1, 2, 3, 4]
    assert load_log(tmp_path)[-1]["loss"] is None
