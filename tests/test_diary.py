"""What a run tells of itself: rows, the progress line, and which of its models is the best."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch
from tiny import CLASSES, MODEL, tiny_batch, tiny_state, tiny_task

from ray_st.data.augment import AugmentConfig
from ray_st.data.labels import Origin
from ray_st.training.checkpoints import best_step
from ray_st.training.diary import Diary
from ray_st.training.job import Job
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import train_step
from ray_st.training.streams import Stream
from ray_st.training.trackers.opening import Trackers
from ray_st.training.validate import Evaluation

pytestmark = pytest.mark.pure
torch.set_num_threads(1)


@dataclass
class Told:
    """A counter and a tracker that remember."""

    lines: list[tuple[int, str]] = field(default_factory=list)
    scalars: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    is_closed: bool = False

    def put(self, step: int, what: Any) -> None:
        (self.lines if isinstance(what, str) else self.scalars).append((step, what))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


def job(counter: Any = None, **changes: Any) -> Job:
    train = TrainConfig(**{"steps": 5, "log_every": 2, "warmup_steps": 1, **changes})
    nobody: Any = None  # a diary reads no row
    stream = Stream(
        rows=nobody, origin=Origin.HUMAN, batch_size=8, size_px=64, augment=AugmentConfig(),
        order_seed=0, view_seed=0, loaders=0,
    )  # fmt: skip
    return Job(
        task="detection", classes=CLASSES, model=MODEL, train=train, human=stream, pseudo=None,
        objective=tiny_task(), num_outputs=2, val=None, num_val=0, init=None, recipe={},
        counter=counter,
    )  # fmt: skip


def evaluation(ap: float | None) -> Evaluation:
    metrics = {"AP": ap, "AP50": 60.0}
    return Evaluation(predictions=pa.table({}), metrics=metrics, seconds=3.0)


def lived(diary: Diary, config: TrainConfig, figures: dict[int, float | None]) -> None:
    state = tiny_state(config)
    for step in range(1, config.steps + 1):
        diary.trained(train_step(state, tiny_batch(step), tiny_task(), config), state.trail)
        if step in figures:
            diary.evaluated(step, evaluation(figures[step]))


def test_rows_lines_and_numbers_are_of_the_same_steps() -> None:
    told = Told()
    work = job(counter=told, evaluate_every=2)
    diary = Diary(work, [], begun_at=0, trackers=Trackers([told]))
    lived(diary, work.train, {2: 10.0, 4: None, 5: 12.0})
    kinds = [(row["step"], "val" in row) for row in diary.rows]
    assert kinds == [(2, False), (2, True), (4, False), (4, True), (5, False), (5, True)]
    assert diary.rows[1]["val"] == {"AP": 10.0, "AP50": 60.0}
    assert [step for step, _ in told.lines] == [2, 4, 5]
    first, second, _ = (line.split("  ") for _, line in told.lines)
    assert first[0] == f"loss {diary.rows[0]['loss']:.3f}"
    assert [word.split()[-1] for word in first] == [first[0].split()[1], "images/s"]
    assert second[1] == "AP 10.0"  # of step 2
    assert [step for step, _ in told.scalars] == [2, 2, 4, 4, 5, 5]
    assert told.scalars[1][1] == {"val/AP": 10.0, "val/AP50": 60.0, "evaluation_s": 3.0}
    assert diary.is_best(5)
    assert not diary.is_best(2)
    assert diary.closed() == {"AP": 12.0, "AP50": 60.0}
    assert told.is_closed


def test_seconds_of_an_evaluation_are_none_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("ray_st.training.diary.time", clock)
    work = job(evaluate_every=2)
    diary, state = Diary(work, [], begun_at=0), tiny_state(work.train)
    for step in range(1, 5):
        now[0] += 0.5
        diary.trained(train_step(state, tiny_batch(step), tiny_task(), work.train), state.trail)
        if step == 2:
            now[0] += 3.0
            diary.evaluated(step, evaluation(1.0))
    # Each time 2 steps of 8 images, over all workers, in 1 s.
    assert [row["images_per_s"] for row in diary.rows if "loss" in row] == [16.0, 16.0]


def test_without_evaluations_on_the_way_the_log_is_of_steps_alone() -> None:
    work = job()
    diary = Diary(work, [], begun_at=0)
    lived(diary, work.train, {5: 12.0})
    assert [row["step"] for row in diary.rows] == [2, 4, 5]
    assert not diary.is_best(5)  # there is one model only
    assert diary.evaluation_at(5) is not None
    assert diary.evaluation_at(4) is None


def test_a_run_that_goes_on_behind_its_last_step_logs_nothing_twice() -> None:
    told = Told()
    work = job(evaluate_every=5)
    rows = [{"step": 5, "loss": 1.0}, {"step": 5, "val": {"AP": 12.0}}]
    diary = Diary(work, rows, begun_at=5, trackers=Trackers([told]))
    diary.evaluated(5, evaluation(12.0))
    assert len(diary.rows) == 2
    assert told.scalars == []
    assert diary.is_best(5)


def val(step: int, ap: float | None) -> dict[str, Any]:
    return {"step": step, "val": {"AP": ap}}


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([], None),
        ([{"step": 1, "loss": 0.5}], None),
        ([val(2, None)], None),
        ([val(2, 0.0)], 2),
        ([val(2, 5.0), val(4, 7.0), val(6, 6.0)], 4),
        ([val(2, 7.0), val(4, 7.0)], 2),  # of equals the first
        ([val(2, None), val(4, 1.0), val(6, None)], 4),
    ],
)
def test_the_best_step(rows: list[dict[str, Any]], best: int | None) -> None:
    assert best_step(rows, "AP") == best
