"""When the loop evaluates and keeps its state: the same in every worker, and nothing twice."""

from __future__ import annotations

import os
from typing import Any

import pytest
from ray.train import ScalingConfig
from ray.train.v2.api.preemption import PreemptionInfo

from ray_st.config import UserError
from ray_st.ray_compat import hurry_starts
from ray_st.training.due import Due
from ray_st.training.schedule import TrainConfig

pytestmark = pytest.mark.pure


def steps_of(config: TrainConfig, begun_at: int = 0, notices: dict[int, object] | None = None):
    """Steps with an evaluation, with a checkpoint, and those at which was looked."""
    looked: list[int] = []
    now = 0

    def look() -> object:
        looked.append(now)
        known = [notice for at, notice in (notices or {}).items() if at <= now]
        return known[-1] if known else None

    due = Due(config, begun_at, look)
    evaluated, kept = [], []
    for now in range(begun_at, config.steps + 1):
        evaluated += [now] * due.evaluation(now)
        kept += [now] * due.checkpoint(now)
    return evaluated, kept, looked


def test_by_default_only_the_end_is_evaluated() -> None:
    config = TrainConfig(steps=10, checkpoint_every=4)
    assert steps_of(config) == ([10], [4, 8, 10], [])


def test_what_was_evaluated_is_kept() -> None:
    config = TrainConfig(steps=10, checkpoint_every=4, evaluate_every=3)
    assert steps_of(config) == ([3, 6, 9, 10], [3, 4, 6, 8, 9, 10], [])


def test_a_run_that_goes_on_does_nothing_again() -> None:
    config = TrainConfig(steps=12, checkpoint_every=4, evaluate_every=4, preemption_every=2)
    assert steps_of(config, begun_at=8) == ([12], [12], [10, 12])
    assert steps_of(config, begun_at=12) == ([12], [12], [])  # only the end is still to be made


def test_without_workers_nothing_is_kept_to_go_on_from() -> None:
    config = TrainConfig(steps=10, checkpoint_every=4, evaluate_every=5, num_workers=0)
    assert steps_of(config) == ([5, 10], [5, 10], [])


def test_a_notice_is_heard_once() -> None:
    config = TrainConfig(steps=10, checkpoint_every=100, preemption_every=2)
    first = PreemptionInfo(deadline_ms=5000, preempted_node_to_ranks={"a": [0]})
    same = PreemptionInfo(deadline_ms=5000, preempted_node_to_ranks={"a": [0]})
    second = PreemptionInfo(deadline_ms=5000, preempted_node_to_ranks={"a": [0], "b": [1]})
    notices = {3: first, 5: same, 7: second}
    # Known from 3 on and heard at 4; at 6 it is the same; of another node at 8.
    assert steps_of(config, notices=notices) == ([10], [4, 8, 10], [2, 4, 6, 8, 10])


def test_a_notice_at_a_step_that_is_kept_anyway_is_heard_too() -> None:
    config = TrainConfig(steps=8, checkpoint_every=4, preemption_every=2)
    notice = PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"a": [0]})
    assert steps_of(config, notices={4: notice}) == ([8], [4, 8], [2, 4, 6, 8])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluate_every": 0}, "train.evaluate_every: must be null or at least 1, got 0"),
        ({"preemption_every": -1}, "train.preemption_every: must be null or at least 1, got -1"),
        (
            {"trackers": ("wandb", "wandb")},
            "train.trackers: must be names, each once, got ('wandb', 'wandb')",
        ),
        (
            {"parallel": "fsdp", "compile": True},
            "train.compile: must be false with train.parallel fsdp, got True",
        ),
    ],
)
def test_what_a_user_writes_wrong(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        TrainConfig(**changes)  # type: ignore[arg-type]
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("num_workers", "before", "after"),
    [((1, 2), None, "20"), ((1, 2), "45", "45"), (2, None, None)],
)
def test_only_an_elastic_gang_is_hurried(
    monkeypatch: pytest.MonkeyPatch, num_workers: Any, before: str | None, after: str | None
) -> None:
    name = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
    monkeypatch.setenv(name, "set, so that it is put back")
    monkeypatch.delenv(name)
    if before is not None:
        monkeypatch.setenv(name, before)
    hurry_starts(ScalingConfig(num_workers=num_workers))
    assert os.environ.get(name) == after
