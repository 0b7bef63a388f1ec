"""Who is told of a step: the numbers of metrics.jsonl, each step once, though it was done twice."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import pytest
from doubles import Mlflow, Wandb
from events import read_events

from ray_st.config import UserError
from ray_st.training.schedule import TrainConfig
from ray_st.training.trackers.opening import opened, require_trackers
from ray_st.training.trackers.tracker import Tracked, scalars

pytestmark = pytest.mark.pure


def tracked(out: Path, begun_at: int = 0) -> Tracked:
    return Tracked(out=str(out), run_id="r1", begun_at=begun_at, recipe={"train": {"steps": 9}})


def test_the_numbers_of_a_row() -> None:
    row = {
        "step": 7,
        "loss": 1.5,
        "loss_pseudo": None,
        "parts": {"box": 2, "class": math.nan},
        "val": {"AP": 41.0, "AP/a cat": 3.0},
        "name": "x",
        "is_done": True,
    }
    assert scalars(row) == {"loss": 1.5, "parts/box": 2.0, "val/AP": 41.0, "val/AP/a cat": 3.0}
    assert scalars({"step": 1}) == {}


def test_tensorboard_has_what_the_log_has(tmp_path: Path) -> None:
    told = opened(TrainConfig(), tracked(tmp_path))
    for step in (1, 2):
        told.put({"step": step, "loss": 0.5 * step, "parts": {"box": 0.25}})
    told.put({"step": 2, "val": {"AP": 50.0, "AP/a cat": 0.5}})
    told.close()
    assert read_events(tmp_path / "tensorboard") == [
        (1, "loss", 0.5),
        (1, "parts/box", 0.25),
        (2, "loss", 1.0),
        (2, "parts/box", 0.25),
        (2, "val/AP", 50.0),
        (2, "val/AP/a cat", 0.5),
    ]


def test_a_step_that_was_done_again_stands_once(tmp_path: Path) -> None:
    first = opened(TrainConfig(), tracked(tmp_path))
    for step in range(1, 7):
        first.put({"step": step, "loss": float(step)})
        if step == 4:
            first.flush()  # a checkpoint
    first.flush()  # 5 and 6 reached the disk too; then it was killed
    again = opened(TrainConfig(), tracked(tmp_path, begun_at=4))
    for step in range(5, 9):
        again.put({"step": step, "loss": float(10 * step)})
    again.close()
    events = read_events(tmp_path / "tensorboard")
    assert [step for step, _, _ in events] == list(range(1, 9))
    assert [value for _, _, value in events] == [1, 2, 3, 4, 50, 60, 70, 80]


def test_killed_before_its_first_checkpoint_it_begins_anew(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        told = opened(TrainConfig(), tracked(tmp_path))
        told.put({"step": 1, "loss": value})
        told.flush()
    assert read_events(tmp_path / "tensorboard") == [(1, "loss", 2.0)]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed(name: str) -> None:
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed here")
    with pytest.raises(UserError) as caught:
        require_trackers(TrainConfig(trackers=(name,)))  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"train.trackers: {name} is not installed; pip install 'ray-st[{name}]', on every node of "
        "a cluster, or leave it out"
    )
    require_trackers(TrainConfig())


def test_wandb_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", server)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    for begun_at, steps, factor in ((0, range(1, 7), 1), (4, range(5, 9), 10)):
        told = opened(TrainConfig(trackers=("wandb",)), tracked(tmp_path, begun_at))
        for step in steps:
            told.put({"step": step, "loss": float(factor * step)})
    told.put({"step": 8, "val": {"AP": 50.0}})
    told.close()
    (run,) = server.runs.values()
    assert (run.project, run.name, run.config) == ("ray_st", str(tmp_path), {"train": {"steps": 9}})
    assert [row["loss"] for row in run.history.values()] == [1, 2, 3, 4, 5, 60, 70, 80]
    assert run.history[8] == {"loss": 80.0, "val/AP": 50.0}
    assert run.is_finished


def test_mlflow_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", server)
    monkeypatch.setitem(sys.modules, "mlflow.entities", server.entities)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    for begun_at, steps, factor in ((0, range(1, 7), 1), (4, range(5, 9), 10)):
        told = opened(TrainConfig(trackers=("mlflow",)), tracked(tmp_path, begun_at))
        for step in steps:
            told.put({"step": step, "loss": float(factor * step)})
    told.put({"step": 8, "val": {"AP/a:b": 50.0}})
    told.close()
    (run,) = server.runs
    sent = [(each.key, each.step, each.value) for each in run.metrics]
    assert [row for row in sent if row[0] == "loss"] == [
        ("loss", step, float(step if step < 7 else 10 * step)) for step in range(1, 9)
    ]
    assert sent[-1] == ("val/AP/a_b", 8, 50.0)  # a name that MLflow takes
    assert run.params == {"train.steps": "9"}
    assert run.status == "FINISHED"


def test_mlflow_must_know_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError) as caught:
        require_trackers(TrainConfig(trackers=("mlflow",)))
    assert str(caught.value) == (
        "train.trackers: mlflow must know its server; set MLFLOW_TRACKING_URI, for the workers too"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    require_trackers(TrainConfig(trackers=("mlflow",)))
