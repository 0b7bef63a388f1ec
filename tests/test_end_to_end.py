"""From a command line to a summary, as a user types it: on a local Ray, and as a submitted job."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from head import ray_head

from ray_st.config import as_dict, from_dict
from ray_st.data.labels import Detections
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.models.initialise import InitConfig
from ray_st.recipe import load
from ray_st.verbs.verb import Recipe

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]  # whole runs, on shared cores

ROOT = Path(__file__).parents[1]
RECIPE = """
model: {backbone: test_resnet, image_size_px: 64, levels: [3, 4], channels: 16, head_convs: 1}
augment: {flip_probability: 0.0}
train:
  {steps: 6, batch_size: 4, optimizer: adamw, lr: 0.002, warmup_steps: 2, cpus_per_worker: 1,
   loaders: 0}
label: {actors: [1, 1], block_images: 8}
policy: {score_threshold: 0.05}
sweep: {alphas: [1.0], steps: 2, plain_at_largest: false}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    config = DigitsConfig(
        labeled_scenes=8,
        val_scenes=6,
        pool_scenes=12,
        labeled_digits=20,
        scene_px=64,
        digits_per_scene=(1, 2),
        digit_px=(18, 28),
        classes=(0, 1),
    )
    write_world(folder, config, Detections)
    (folder / "tiny.yaml").write_text(RECIPE)
    (folder / "images" / "pool" / "broken.jpg").write_bytes(b"no image")
    return folder


def flags_of(world: Path, out: Path) -> list[str]:
    return [
        f"--config={world}/tiny.yaml",
        f"--data.train=coco:{world}/instances_train.json",
        f"--data.val=coco:{world}/instances_val.json",
        f"--data.unlabeled={world}/images/pool",
        f"--out={out}",
    ]


def require_whole_run(out: Path, *, compared: bool) -> None:
    """A run folder holds all that the README promises; `compared`: with human_only and a sweep."""
    summary = json.loads((out / "summary.json").read_text())
    models = ["teacher", "student"] + ["human_only"] * compared
    for model in models:
        assert {"AP", "AP50"} <= summary[model].keys()
    assert summary["pseudo"]["images"] == 12
    assert summary["pseudo"]["failures"] == 1
    swept = [(row["alpha"], row["normalised"]) for row in summary["sweep"]]
    assert swept == [(1.0, True)] * compared
    assert summary["seconds"].keys() == {"label", *models, *["sweep"] * compared}
    assert summary["versions"]["ray"] >= "2.60"
    assert load(Recipe, out / "recipe.yaml").train.steps == 6
    assert "<html" in (out / "report.html").read_text()
    failures = pq.read_table(out / "pseudo" / "failures.parquet")
    assert failures["stage"].to_pylist() == ["decode"]
    assert failures["uri"].to_pylist()[0].endswith("broken.jpg")


def ray_st(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ray_st", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
    )


def test_run_leaves_a_whole_folder_and_goes_on_with_it(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = ray_st("run", *flags_of(world, out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out / "summary.json")
    require_whole_run(out, compared=True)
    before = (out / "summary.json").stat().st_mtime_ns
    # A stage that is gone is made again, from the stages before it; what stands is not touched.
    student = (out / "student" / "model.safetensors").stat().st_mtime_ns
    (out / "summary.json").unlink()
    shutil.rmtree(out / "pseudo")
    again = ray_st("run", *flags_of(world, out))
    assert again.returncode == 0, again.stderr
    require_whole_run(out, compared=True)
    assert (out / "summary.json").stat().st_mtime_ns > before
    assert (out / "student" / "model.safetensors").stat().st_mtime_ns == student
    other = ray_st("run", *flags_of(world, out), "--train.steps=7")
    assert other.returncode == 2
    assert "another run" in other.stderr
    assert len(other.stderr.splitlines()) == 1


def test_label_train_eval_sweep_by_hand(world: Path, tmp_path: Path) -> None:
    """The verbs one by one, with a debugger's settings: everything in the calling process."""
    here = ["--address=local", "--train.num-workers=0"]
    data = flags_of(world, tmp_path)[:3]
    teacher, pseudo, student = (str(tmp_path / name) for name in ("teacher", "pseudo", "student"))
    done = ray_st("train", *data, *here, f"--out={teacher}")
    assert done.returncode == 0, done.stderr
    pool = f"{world}/images/pool"
    flags = ["--label.actors", "0", "0", "--policy.score-threshold", "0"]
    done = ray_st("label", "--images", pool, "--teacher", teacher, *flags, f"--out={pseudo}")
    assert done.returncode == 0, done.stderr
    assert pq.read_metadata(f"{pseudo}/labels.parquet").num_rows == 12
    chosen = str(tmp_path / "chosen")
    asked = ["--policy.target-precision=0", f"--policy.holdout={teacher}"]
    done = ray_st("policy", "--pseudo", pseudo, *asked, f"--out={chosen}")
    assert done.returncode == 0, done.stderr
    assert pq.read_metadata(f"{chosen}/labels.parquet").num_rows == 12
    start = ["--init.start=teacher", f"--init.weights={teacher}"]
    how = ["--train.ema-decay=0.5", "--train.accumulate=2", "--train.freeze", "backbone.*conv1*"]
    done = ray_st("train", *data, *here, "--pseudo", pseudo, *start, *how, f"--out={student}")
    assert done.returncode == 0, done.stderr
    assert f"start      teacher from {teacher}, " in done.stdout
    summary = json.loads(Path(student, "summary.json").read_text())
    assert (summary["human_images"], summary["pseudo_images"]) == (8, 12)
    assert summary["start"]["start"] == "teacher"
    assert summary["warnings"] == []
    card = json.loads(Path(student, "model.json").read_text())
    assert card["recipe"]["init"] == {
        **as_dict(InitConfig()),
        "start": "teacher",
        "weights": teacher,
    }
    out = tmp_path / "eval"
    val = f"coco:{world}/instances_val.json"
    done = ray_st("eval", "--model", student, "--data", val, f"--out={out}")
    assert done.returncode == 0, done.stderr
    # The pool's figures are those of the train worker: same model, same images, other road.
    by_pool = json.loads((out / "summary.json").read_text())["model"]
    assert by_pool["AP"] == pytest.approx(summary["student"]["AP"], abs=0.1)
    done = ray_st("report", student)
    assert done.returncode == 0, done.stderr
    assert Path(student, "report.html").exists()


def test_numbers_that_go_bad_end_a_run_in_one_line(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "diverged"
    data = [*flags_of(world, out)[:3], f"--out={out}", "--train.log-every=1"]
    wild = ["--train.lr=1e30", "--train.warmup-steps=0", "--train.max-skipped-steps=1"]
    done = ray_st("train", *data, *wild, "--train.num-workers=2")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "ray-st: train.max_skipped_steps: the loss or gradient of 2 steps in a row, up to step 3, "
        f"was no finite number; {out}/bad_step.json holds "
    )
    assert done.stdout.count("warning    train: ") == 1  # a skipped step, as it happened
    account = json.loads((out / "bad_step.json").read_text())
    assert (account["step"], account["skipped_steps"]) == (3, 2)
    assert len(account["image_ids"]["human"]) == 4  # of both workers
    log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [1, 2, 3]  # tried once
    assert not (out / "summary.json").exists()


@pytest.mark.parametrize("attempt", range(3))
def test_a_run_in_the_calling_process_ends_in_one_line_while_images_are_loaded(
    world: Path, tmp_path: Path, attempt: int
) -> None:
    """What still loads must not touch Ray after its end: such a process dies without a word."""
    out = tmp_path / f"diverged{attempt}"
    wild = ["--train.steps=20", "--train.lr=1e30", "--train.warmup-steps=0"]
    wild += ["--train.max-skipped-steps=2", "--train.num-workers=0", "--train.loaders=1"]
    done = ray_st("train", *flags_of(world, out)[:3], f"--out={out}", "--address=local", *wild)
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("ray-st: ")]
    assert len(said) == 1
    assert said[0].startswith("ray-st: train.max_skipped_steps: the loss or gradient of 3 steps ")
    assert "Traceback" not in done.stderr


def test_a_submitted_job_runs_the_whole_loop(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "job"
    short = ["--no-loop.human-only", "--sweep.alphas=[]", "--train.loaders=1", "--loop.live"]
    # Thresholds from the teacher's own validation: the recipe's number has nothing to say then.
    short += ["--policy.score-threshold=0.5", "--policy.target-precision=0"]
    # Ray's sockets stand in its folder, and their paths may have 107 characters at most.
    with (
        tempfile.TemporaryDirectory(prefix="ray_head_") as folder,
        ray_head(Path(folder), num_cpus=8) as head,
    ):
        submit = ["ray", "job", "submit", f"--address={head.dashboard_url}", "--working-dir=."]
        done = subprocess.run(
            [*submit, "--", "python", "jobs/run.py", *flags_of(world, out), *short],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=head.environment,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(out / "summary.json") in done.stdout
    require_whole_run(out, compared=False)
    labelling = json.loads((out / "pseudo" / "summary.json").read_text())
    assert labelling["thresholds"].keys() == {"0", "1"}
    # The student has learned from what was labelled meanwhile; in the end all of it stands.
    rounds = json.loads((out / "live.json").read_text())
    assert rounds["ends"]
    student = json.loads((out / "student" / "summary.json").read_text())
    assert 0 < student["pseudo_images"] <= sum(size for _, size in rounds["files"]) <= 12


def test_the_bccd_recipe_names_real_images(shared_data: Path) -> None:
    done = ray_st("run", "--config", "bccd", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "20 labelled images, 185 to label, 87 to measure on" in done.stdout


@pytest.mark.parametrize("recipe", sorted((ROOT / "jobs" / "recipes").glob("*.yaml")))
def test_every_recipe_reads_and_survives_a_round_trip(recipe: Path) -> None:
    config = load(Recipe, recipe)
    assert from_dict(Recipe, as_dict(config)) == config
