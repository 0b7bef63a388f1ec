"""`ray-st plan` as a user types it, and the runs that come after it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
import yaml
from test_doctor import SMALL, WORLD
from test_planning import CLUSTER, labelled_run, trained_run

from ray_st.cli import main
from ray_st.data.labels import Detections
from ray_st.data.sources import DataConfig, open_images
from ray_st.data.sources.digits import write_world

pytestmark = pytest.mark.end_to_end
torch.set_num_threads(1)

QUICK = ["--stage-s", "0.3", "--label.file-images", "64", "--label.batch-size", "4"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    return write_world(tmp_path_factory.mktemp("world"), WORLD, Detections)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def named(world: DataConfig) -> list[str]:
    assert world.unlabeled is not None
    data = ["--data.train", world.train, "--data.val", world.val]
    return [*data, "--data.unlabeled", world.unlabeled]


def plan_of(folder: str = "runs/plan") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "plan.json").read_text())
    return found


def test_a_plan_and_the_runs_that_follow_it(
    world: DataConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*SMALL, "--train.loaders", "1"]
    assert main(["plan", *named(world), *flags, *QUICK, "--images", "6"]) == 0
    assert not ray.is_initialized()
    said = capsys.readouterr().out
    assert "label      as the recipe says, label.actors 2 and label.readers 2: 6 images in " in said
    assert said.endswith("runs/plan/plan.json\n")
    left = plan_of()
    rates = left["basis"]["label_rates"]
    assert all(rates[name] > 0 for name in ("read_s", "predict_s", "write_s", "start_s"))
    files = open_images(world.unlabeled or "")["uri"].to_pylist()
    assert rates["in_bytes"] == pytest.approx(
        sum(Path(file).stat().st_size for file in files) / len(files)
    )
    assert left["training"][0]["images_per_s"] > 0
    train = ["--data.train", world.train, "--data.val", world.val, *flags, "--train.log-every", "5"]
    assert main(["train", *train, "--out", "teacher"]) == 0
    said = capsys.readouterr().out
    near = json.loads(Path("teacher", "summary.json").read_text())["plan"]
    # trained on human labels alone, 4 a step
    assert near["measured_images_per_s"] > 0
    assert f"({near['off']:+.0%})" in said
    label = ["label", "--images", world.unlabeled or "", "--teacher", "teacher", "--out", "labels"]
    assert main([*label, "--policy.score-threshold", "0.0"]) == 0
    said = capsys.readouterr().out
    near = json.loads(Path("labels", "summary.json").read_text())["plan"]
    speed = json.loads(Path("labels", "summary.json").read_text())["speed"]
    assert near["measured_images_per_s"] == speed["images_per_s"]
    assert "plan       predicted " in said
    assert "plan" not in yaml.safe_load(Path("labels", "recipe.yaml").read_text())
    # the same command again says the same, whatever the plan is by then
    Path("runs/plan/plan.json").unlink()
    assert main([*label, "--policy.score-threshold", "0.0"]) == 0
    assert "plan       predicted " in capsys.readouterr().out
    again = ["plan", *named(world), *flags, "--images", "300000000", "--out", "runs/plan"]
    assert main([*again, "--from-runs", "labels", "teacher"]) == 0
    said = capsys.readouterr().out
    assert "; labels, 2 readers and " in said
    assert plan_of()["basis"]["train_rates"]["source"].startswith("teacher, steps of 4 images")


def test_a_plan_for_a_cluster_with_nothing_at_hand(capsys: pytest.CaptureFixture[str]) -> None:
    Path("cluster.yaml").write_text(yaml.safe_dump(CLUSTER))
    prices = "m5.2xlarge: 0.4\nc6i.8xlarge: 1.4\nteacher: 2\ng5.12xlarge: 5\nteachr: 9\n"
    Path("prices.yaml").write_text(prices)
    words = ["--images", "3000000", "--cluster", "cluster.yaml", "--prices", "prices.yaml"]
    words += ["--label.gpus-per-actor", "1", "--label.actors", "1", "8", "--train.use-gpu"]
    words += [*SMALL, *QUICK, "--scene-px", "96"]
    with_speed = [*words, "--teacher-images-per-s", "500"]
    assert main(["plan", *with_speed]) == 0
    said = capsys.readouterr().out
    found = plan_of()
    assert found["basis"]["label_rates"]["predict_s"] == 1 / 500
    assert said.startswith(
        "warning    prices.yaml: no node type or instance type of cluster.yaml: t"
    )
    assert "$" in said
    assert found["recipe"]["cost"] > 0
    # 40 teachers, if the driver is quick enough to keep them at work
    assert found["best"]["shape"]["teachers"] <= 40
    assert found["best"]["images_per_s"] > found["recipe"]["images_per_s"]
    if not torch.cuda.is_available():
        assert "train      not foretold: train.use_gpu: must be false on a machine" in said
        assert found["training"] == []
        assert main(["plan", *words]) == 2
        assert "label.gpus_per_actor: must be 0 on a machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "images: is missing; pass --images VALUE"),
        (["--images", "0"], "images: must be at least 1, got 0"),
        (["--images", "9", "--cluster", "none.yaml"], "none.yaml: cannot be read"),
        (
            ["--images", "9", "--label.actors", "0", "0"],
            "label.actors: must be 1 teacher or more for a plan, got (0, 0)",
        ),
        (["--images", "9", "--from-runs", "none"], "from_runs: none must be a finished folder"),
        (
            ["--images", "9", "--out", "/proc/x", "--data.unlabeled", "nowhere"],
            "out: /proc/x cannot be written (",  # found before anything is opened
        ),
        (["--images", "9", "--scene-px", "20"], "scene_px: must be at least 64, got 20"),
        (["--images", "9", "--data.unlabeled", "nowhere"], "nowhere"),
    ],
)
def test_what_is_wrong_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["plan", *SMALL, *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith("ray-st: ")
    assert said in line
    assert line.count("\n") == 1
    assert not Path("runs").exists()


def test_a_plan_whose_lines_nobody_reads() -> None:
    labels, model = labelled_run(Path()), Path("model")
    model.mkdir()
    trained_run(model)
    words = ["plan", *SMALL, "--images", "9", "--from-runs", str(labels), str(model)]
    code = f"from ray_st.cli import main; main({words})"
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert run.stdout is not None
    run.stdout.close()  # as `| head` does when it has seen enough
    run.wait(timeout=120)
    assert plan_of()["basis"]["images"] == 9


def test_a_folder_that_holds_something_else_is_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("mine").mkdir()
    Path("mine", "letter.txt").write_text("dear")
    assert main(["plan", *SMALL, "--images", "9", "--out", "mine"]) == 2
    assert "out: mine holds other files" in capsys.readouterr().err


def test_a_pool_of_unreadable_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pool").mkdir()
    for number in range(3):
        Path("pool", f"{number}.jpg").write_bytes(b"no image")
    words = ["--images", "9", "--data.unlabeled", "pool", "--scene-px", "64"]
    assert main(["plan", *SMALL, *QUICK, *words]) == 2
    assert "images: none of 3 images of the sample can be read" in capsys.readouterr().err


def test_a_dry_run_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *SMALL, "--images", "9", "--dry-run"]) == 0
    assert "# dry run: a plan for 9 images; nothing was started" in capsys.readouterr().out
    assert not Path("runs").exists()
