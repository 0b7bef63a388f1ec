"""How far a run is, from its folder alone: what is said of each kind of folder, live and dead."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from bucket import CREDENTIALS, credentials, s3_server
from ray.train import Checkpoint
from test_store import CARD, failed, labelled
from tiny import save_tiny

from ray_st.cli import main
from ray_st.config import UserError, as_dict, paths
from ray_st.data import parquet, storage
from ray_st.data.labels import Detections
from ray_st.data.manifest.manifest import Manifest, Shard
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.labeling.recovery import notes
from ray_st.labeling.store import Store
from ray_st.selftraining.folder import finished
from ray_st.selftraining.lease import held, holder
from ray_st.selftraining.loop import LoopConfig
from ray_st.selftraining.record import PROGRESS, Record
from ray_st.selftraining.sweep import SweepConfig
from ray_st.standing import Row
from ray_st.status.kinds import verb_of
from ray_st.status.reading import read_run
from ray_st.status.state import Run, Stage
from ray_st.status.wording import as_value, lines
from ray_st.training.restarts import RAY_FOLDER, SAVED_AT_S
from ray_st.training.schedule import TrainConfig
from ray_st.verbs import VERBS
from ray_st.verbs.verb import OwnFolder

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
NOW = time.time()


def recipe(folder: Path, **sections: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plain = {
        name: each if isinstance(each, str) else as_dict(each) for name, each in sections.items()
    }
    (folder / "recipe.yaml").write_text(
        "".join(f"{k}: {json.dumps(v)}\n" for k, v in plain.items())
    )


def of_run(folder: Path, *, alphas: tuple[float, ...] = (), human_only: bool = True) -> None:
    recipe(
        folder,
        data={},
        train=TrainConfig(steps=100),
        sweep=SweepConfig(alphas=alphas, steps=20),
        loop=LoopConfig(teacher_steps=40, human_only=human_only),
    )


def ended(folder: Path, **summary: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary))


def write_file(store: Store, number: int, name: str, table: pa.Table) -> None:
    """A file that Ray has noted as written."""
    shard = store.shard(number)
    Path(shard.folder).mkdir(parents=True, exist_ok=True)
    Path(notes(shard)).mkdir(parents=True, exist_ok=True)
    pq.write_table(table, shard.file(f"{name}-0.parquet"))
    pq.write_table(table.select(["image_id"]), storage.join(notes(shard), f"{name}.parquet"))


def checkpointed(folder: Path, step: int, saved_at_s: float, losses: list[float]) -> None:
    """What Ray Train leaves of a checkpoint; its metadata is written by its own class."""
    runs = folder / RAY_FOLDER / "train"
    place = runs / "checkpoint_2026-11-28_22-33-54.195699"
    place.mkdir(parents=True)
    rows = [{"step": i + 1, "loss": loss} for i, loss in enumerate(losses)]
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Checkpoint.from_directory(str(place)).set_metadata({SAVED_AT_S: saved_at_s})
    latest = {"checkpoint_dir_name": place.name, "metrics": {"step": step}}
    kept = {"latest_checkpoint_result": latest}
    (runs / "checkpoint_manager_snapshot.json").write_text(json.dumps(kept))


HOLDER = """
import sys, time
from ray_st.selftraining.lease import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(120)
"""


@contextmanager
def worked_on(folder: Path) -> Iterator[int]:
    """Another process holds the folder; gives its pid. It dies with the block."""
    words = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def standing(run: Run) -> dict[str, Stage]:
    return {stage.name: stage for stage in run.stages}


def files(folder: Path) -> dict[Path, tuple[bytes, int]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


@pytest.mark.pure
def test_every_verb_that_keeps_a_folder_is_known_by_its_recipe() -> None:
    known = 0
    for name in VERBS:
        config = import_module(f"ray_st.verbs.{name.replace('-', '_')}").CONFIG
        if name in ("doctor", "plan") or not issubclass(config, OwnFolder):
            continue  # leaves no recipe
        fields = [*paths(config)]
        sections = {field.partition(".")[0]: {} for field in fields if "." in field}
        left = {field: "x" for field in fields if "." not in field} | sections
        left = {key: left[key] for key in left if key not in ("out", "address", "dry_run")}
        assert verb_of(left) == name
        assert verb_of({key: [value] for key, value in left.items()}) is None
        known += 1
    assert known == 10
    assert verb_of({}) is None


@pytest.mark.pure
def test_a_labelling_that_goes_on_and_then_is_killed(tmp_path: Path) -> None:
    recipe(tmp_path, images="pool", teacher="runs/teacher")
    store = Store(str(tmp_path / "raw"))
    store.claim(CARD)
    write_file(store, 0, "a", pa.concat_tables([labelled([0, 1, 2]), failed([3])]))
    store.shard(0).publish()
    write_file(store, 1, "b", pa.concat_tables([labelled([100, 101]), failed([102, 103])]))
    (Path(store.shard(1).folder) / "c-0.parquet").write_bytes(b"PAR1")  # being written
    clock = [NOW - 60]
    record = Record(str(tmp_path), {"label": 20}, every_s=10, clock=lambda: clock[0])
    for seconds, done in ((50, 4), (30, 8), (5, 14)):
        clock[0] = NOW - seconds
        record.take({"label": Row(done=done, failed=2, warnings={"few": "few labels"})})
    before = files(tmp_path)
    with worked_on(tmp_path) as pid:
        run = read_run(str(tmp_path))
    (stage,) = run.stages
    assert (run.verb, run.state, stage.state) == ("label", "running", "running")
    assert run.holder is not None
    assert run.holder.endswith(f":{pid}")
    assert (stage.done, stage.total, stage.failed) == (14, 20, 3)  # 3 are written, 2 were told
    assert stage.per_s == pytest.approx(10 / 45, abs=1e-3)  # 4 stood at the first look
    assert stage.left_s == pytest.approx(6 / (10 / 45), abs=0.1)
    assert stage.note == "shards: 1 whole, 1 begun"
    assert stage.warnings == ("few labels",)
    said = "\n".join(lines(run, NOW))
    assert "label      running   14 / 20 images  0.2/s  27 s left  3 failed  shards: 1" in said
    assert "warning    label: few labels" in said
    dead = read_run(str(tmp_path))
    assert (dead.state, dead.holder, dead.stages[0].per_s) == ("stopped", None, None)
    assert "nobody works on it; the same command goes on" in "\n".join(lines(dead, NOW))
    changed = {path for path, kept in files(tmp_path).items() if before.get(path) != kept}
    assert changed == {tmp_path / ".lock"}  # by who held it
    record.end()
    assert not (tmp_path / PROGRESS).exists()


@pytest.mark.pure
def test_a_store_is_counted_by_its_shards(tmp_path: Path) -> None:
    """300 million images: no row is there to be read, and none is missed."""
    recipe(tmp_path, images="pool", teacher="runs/teacher")
    names = [f"{i:06}.parquet" for i in range(100)]
    entries = [{"name": name, "rows": 10_000, "failed": 3, "bytes": 1} for name in names]
    shard = json.dumps({"rows": 1_000_000, "failed": 300, "files": entries})
    for number in range(300):
        folder = tmp_path / "raw" / f"shard-{number:05}"
        folder.mkdir(parents=True)
        (folder / "shard.json").write_text(shard)
    (stage,) = read_run(str(tmp_path)).stages
    assert (stage.done, stage.failed) == (300_000_000, 90_000)
    assert stage.note == "shards: 300 whole, 0 begun"


@pytest.mark.pure
def test_a_run_in_the_middle(tmp_path: Path) -> None:
    of_run(tmp_path, alphas=(0.5, 2.0))
    teacher = {"AP": 51.26}
    ended(tmp_path / "teacher", verb="train", teacher=teacher, figures=["AP"], steps=40)
    facts = {"images": 90, "failures": 10, "empty_share": 0.9, "boxes_per_image": 0.1}
    ended(tmp_path / "pseudo", verb="label", pseudo=facts, speed={"images_per_s": 7.0})
    checkpointed(tmp_path / "student", 50, NOW - 200, [0.9, 0.8, 0.7])
    Record(str(tmp_path), {"student": 100}).take({})
    with worked_on(tmp_path):
        run = read_run(str(tmp_path))
        part = read_run(str(tmp_path / "student"))
    found = standing(run)
    assert {name: stage.state for name, stage in found.items()} == {
        "teacher": "done", "label": "done", "student": "running", "human_only": "waiting",
        "sweep": "waiting",
    }  # fmt: skip
    assert (found["teacher"].done, found["teacher"].note) == (40, "AP 51.3")
    assert (found["label"].done, found["label"].failed) == (100, 10)
    assert any("have no pseudo label at all" in line for line in found["label"].warnings)
    student = found["student"]
    assert (student.done, student.total, student.note) == (50, 100, "loss 0.700")
    assert student.checkpoint is not None
    assert (student.checkpoint.step, student.checkpoint.saved_at_s) == (50, NOW - 200)
    assert found["sweep"].total == 3 * 20  # two alphas, and the plain sum
    said = [*lines(run, NOW)]
    assert said[0] == f"run        {tmp_path} (run)"
    assert (
        "student    running   50 / 100 steps  loss 0.700  checkpoint of step 50, 3 min ago" in said
    )
    assert "teacher    done      40 steps  AP 51.3" in said
    assert "human_only waiting   0 / 100 steps" in said
    # A stage's own folder knows its run's holder.
    assert (part.verb, part.state, part.holder) == ("train", "running", run.holder)
    assert [stage.name for stage in part.stages] == ["student"]


@pytest.mark.pure
def test_trials_of_a_sweep_and_a_run_that_is_done(tmp_path: Path) -> None:
    of_run(tmp_path, alphas=(0.5,), human_only=False)
    for name in ("teacher", "student", "pseudo"):
        ended(tmp_path / name)
    (tmp_path / "sweep" / "alpha_0.5").mkdir(parents=True)
    checkpointed(tmp_path / "sweep" / "plain_0.5", 10, NOW - 5, [1.0])
    run = read_run(str(tmp_path))
    sweep = standing(run)["sweep"]
    assert (run.state, sweep.state, sweep.done, sweep.total) == ("stopped", "stopped", 10, 40)
    assert sweep.note == "trials: 2"
    ended(tmp_path / "sweep", warnings=["alpha_0.5: diverged"])
    ended(tmp_path, verb="run")
    run = read_run(str(tmp_path))
    assert (run.state, standing(run)["sweep"].done) == ("done", 40)
    assert standing(run)["sweep"].warnings == ("alpha_0.5: diverged",)


@pytest.mark.pure
def test_folders_of_verbs_without_stages(tmp_path: Path) -> None:
    index = tmp_path / "index"
    index.mkdir()
    shards = (Shard(shard=0, rows=7, files=1), Shard(shard=1, rows=5, files=1))
    manifest = Manifest(source="pool", shard_rows=7, file_rows=7, shards=shards, uri=str(index))
    manifest.write()
    run = read_run(str(index))
    assert (run.verb, run.state, run.stages[0].done) == ("index", "done", 12)
    replace(manifest, shards=()).write()
    assert read_run(str(index)).state == "stopped"
    for verb in ("plan", "doctor"):
        (tmp_path / verb).mkdir()
        (tmp_path / verb / f"{verb}.json").write_text(json.dumps({"verb": verb}))
        run = read_run(str(tmp_path / verb))
        assert (run.verb, run.state) == (verb, "done")
    export = tmp_path / "export"
    recipe(export, pseudo="x", format="coco", images_root="y", policy="z")
    assert (read_run(str(export)).verb, read_run(str(export)).state) == ("export", "stopped")
    ended(export, verb="export")
    assert read_run(str(export)).state == "done"


@pytest.mark.pure
@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_files_are_empty(tmp_path: Path, text: bytes) -> None:
    of_run(tmp_path)
    (tmp_path / PROGRESS).write_bytes(text)
    runs = tmp_path / "student" / RAY_FOLDER / "train"
    runs.mkdir(parents=True)
    (runs / "checkpoint_manager_snapshot.json").write_bytes(text)
    found = standing(read_run(str(tmp_path)))
    assert (found["student"].state, found["student"].done) == ("stopped", 0)


@pytest.mark.pure
@pytest.mark.parametrize("text", [b"", b'{"verb": "train", "ste', b"[1]", b"\xff\xfe"])
def test_what_a_verb_refuses_is_not_done(
    tmp_path: Path, text: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """A summary that is damaged, of any kind of stage: one line, that of the verb itself."""
    of_run(tmp_path, alphas=(0.5,))
    run = str(tmp_path)
    for folder in ("", "teacher", "pseudo", "sweep"):
        summary = tmp_path / folder / "summary.json"
        summary.parent.mkdir(exist_ok=True)
        summary.write_bytes(text)
        with pytest.raises(UserError) as verbs:
            finished(summary.parent)
        for asked in {run, str(summary.parent)}:
            assert main(["status", asked]) == 2
            assert capsys.readouterr().err == f"ray-st: {verbs.value}\n"
        summary.unlink()


@pytest.mark.pure
def test_stages_of_a_run_are_known_by_their_run(tmp_path: Path) -> None:
    """Before they have left anything by which they could be known alone."""
    of_run(tmp_path, alphas=(0.5, 2.0))
    for folder in ("sweep/alpha_0.5", "pseudo", "teacher"):
        (tmp_path / folder).mkdir(parents=True)
    checkpointed(tmp_path / "sweep" / "plain_2.0", 10, NOW - 5, [1.0])
    with worked_on(tmp_path):
        sweep = read_run(str(tmp_path / "sweep"))
        found = [read_run(str(tmp_path / name)) for name in ("pseudo", "teacher", "student")]
    assert (sweep.verb, sweep.state, sweep.holder is None) == ("sweep", "running", False)
    (stage,) = sweep.stages
    assert (stage.name, stage.done, stage.total, stage.note) == ("sweep", 10, 60, "trials: 2")
    assert [(run.verb, run.stages[0].name) for run in found] == [
        ("label", "label"), ("train", "teacher"), ("train", "student"),
    ]  # fmt: skip
    assert found[1].stages[0].total == 40  # loop.teacher_steps
    # Somebody works on the run, and on none of these.
    assert {(run.state, run.holder) for run in found} == {("waiting", None)}
    shutil.copytree(tmp_path / "teacher", tmp_path / "elsewhere" / "teacher")
    with pytest.raises(UserError, match="must be a folder that a verb of ray-st left"):
        read_run(str(tmp_path / "elsewhere" / "teacher"))


FOREIGN = {
    "recipe.yaml": b"train: images/train\ndata: x\n",
    "manifest.json": b'{"shards": ["a"]}',
    "manifest.json ": b'{"name": "App", "icons": [], "start_url": "/", "display": "standalone"}',
    "doctor.json": b'{"verb": "heal"}',
    "plan.json": b"[]",
    "summary.json": b'{"verb": "sum", "pseudo": 3}',
    "summary.json ": b"{",
    "model.json": b'{"format": "layers-model", "weightsManifest": []}',
    "raw/DSC_0001.NEF": b"x",
    "raw": b"x",
    "ray_train/notes.txt": b"x",
}


@pytest.mark.pure
@pytest.mark.parametrize("name", FOREIGN)
def test_names_that_others_use_too(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name.strip()
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(FOREIGN[name])
    assert main(["status", str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"ray-st: run: {tmp_path} must be a folder that a verb of ray-st left")
    assert line.count("\n") == 1


WRONG = (3, -1, 0.5, 1e999, 10**400, True, "x", [], ["x"], [3], {}, {"a": 3}, None)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to all that is in a value, the whole of it too."""
    yield at
    if isinstance(value, (dict, list)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*at, key))


def changed(value: Any, at: tuple[Any, ...], wrong: Any) -> Any:
    if not at:
        return wrong
    value = value.copy()
    value[at[0]] = changed(value[at[0]], at[1:], wrong)
    return value


@pytest.mark.pure
def test_no_value_of_any_file_ends_in_a_traceback(tmp_path: Path) -> None:
    """Each value of each file in turn is one that does not belong there."""
    of_run(tmp_path, alphas=(0.5,))
    ended(tmp_path / "teacher", verb="train", teacher={"AP": 51.26}, figures=["AP"], steps=40)
    facts = {
        "images": 190, "failures": 10, "empty_share": 0.9, "boxes_per_image": 0.1,
        "labels_per_class": {"a": 90, "b": 0}, "score_histogram": [0, 90, 200],
    }  # fmt: skip
    policy = {"score_threshold": 0.5, "balance_share": None}
    ended(
        tmp_path / "pseudo", verb="label", pseudo=facts, policy=policy, speed={"images_per_s": 7.0},
        thresholds={"a": 0.1}, score_floor=0.5, warnings=["few"],
    )  # fmt: skip
    store = Store(str(tmp_path / "labels" / "raw"))
    store.claim(CARD)
    write_file(store, 0, "a", labelled([0, 1]))
    store.shard(0).publish()
    checkpointed(tmp_path / "student", 50, NOW - 200, [0.9])
    row = {"step": 1, "loss": 0.5, "ratio": 0.5, "skipped_steps": 1}
    log = next((tmp_path / "student").rglob("metrics.jsonl"))
    log.write_text(json.dumps(row))
    record = Record(str(tmp_path), {"student": 100}, every_s=0)
    record.take({"student": Row(done=3, warnings={"few": "few labels"})})
    seen = 0
    for file in sorted(path for path in tmp_path.rglob("*") if "json" in path.suffix):
        text = file.read_text()
        folder = tmp_path / "labels" if "labels" in file.parts else tmp_path
        for at in places(json.loads(text)):
            for wrong in WRONG:
                file.write_text(json.dumps(changed(json.loads(text), at, wrong)))
                with suppress(UserError):
                    run = read_run(str(folder))
                    assert [*lines(run, NOW)]
                    json.dumps(as_value(run, NOW))
                    seen += 1
        file.write_text(text)
    recipe_of_run = (tmp_path / "recipe.yaml").read_text()
    sections = dict(line.split(": ", 1) for line in recipe_of_run.splitlines())
    for name in ("sweep", "loop", "train"):
        for at in places(json.loads(sections[name])):
            for wrong in WRONG:
                bad = json.dumps(changed(json.loads(sections[name]), at, wrong))
                text = "".join(f"{k}: {v}\n" for k, v in {**sections, name: bad}.items())
                (tmp_path / "recipe.yaml").write_text(text)
                with suppress(UserError):
                    assert [*lines(read_run(str(tmp_path)), NOW)]
                    seen += 1
    assert seen > 500


@pytest.mark.pure
def test_what_is_no_folder_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    for folder in (tmp_path, tmp_path / "none", tmp_path / "photo.jpg"):
        assert main(["status", str(folder)]) == 2
        line = capsys.readouterr().err
        assert line.startswith(f"ray-st: run: {folder} ")
        assert line.count("\n") == 1
    with pytest.raises(UserError, match="cannot be read"):
        read_run("nothing://there")


@pytest.mark.pure
def test_a_look_never_keeps_a_run_out(tmp_path: Path) -> None:
    """Whoever looks holds the lock for an instant; who starts in it waits."""
    (tmp_path / ".lock").touch()
    code = (
        "import fcntl, sys, time\n"
        "with open(sys.argv[1]) as lock:\n"
        "    fcntl.flock(lock, fcntl.LOCK_SH)\n"
        "    print('looks', flush=True)\n"
        "    time.sleep(0.2)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as looking:
        assert looking.stdout is not None
        assert looking.stdout.readline() == "looks\n"
        with held(str(tmp_path)):
            assert holder(str(tmp_path)) is not None  # this very process, seen through its file
    assert holder(str(tmp_path)) is None


@pytest.mark.pure
def test_neither_ray_nor_torch_is_needed(tmp_path: Path) -> None:
    of_run(tmp_path)
    code = (
        "import sys; from ray_st.cli import main\n"
        "status = main(['status', sys.argv[1], '--json'])\n"
        "print(status, [name for name in ('ray', 'torch') if name in sys.modules])"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    said, status = done.stdout.splitlines()
    assert status == "0 []", done.stderr
    found = json.loads(said)
    assert (found["verb"], found["state"], found["holder"]) == ("run", "waiting", None)
    assert [stage["name"] for stage in found["stages"]] == [
        "teacher", "label", "student", "human_only",
    ]  # fmt: skip
    assert found["stages"][0]["total"] == 40


@pytest.mark.end_to_end
def test_a_bucket_while_a_labelling_writes_it(tmp_path: Path) -> None:
    """`label` in a process of its own, killed in the middle; then the same again, to its end."""
    config = DigitsConfig(
        labeled_scenes=2, val_scenes=2, pool_scenes=30, labeled_digits=20, scene_px=64,
        digits_per_scene=(1, 2), digit_px=(18, 28), classes=(0, 1),
    )  # fmt: skip
    write_world(tmp_path / "world", config, Detections)
    save_tiny(tmp_path / "teacher", classes=("0", "1"))
    with s3_server(tmp_path) as endpoint, credentials():
        out = endpoint.uri("pools/labels")
        words = [
            sys.executable, "-m", "ray_st", "label", f"--images={tmp_path}/world/images/pool",
            f"--teacher={tmp_path}/teacher", f"--out={out}", "--address=local",
            "--label.actors", "1", "1", "--label.block-images=4", "--label.file-images=4",
        ]  # fmt: skip
        environment = os.environ | CREDENTIALS
        log = (tmp_path / "label.log").open("w")
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log, cwd=ROOT)
        try:
            until, run = time.monotonic() + 150, None
            while time.monotonic() < until and process.poll() is None:
                if storage.exists(storage.join(out, PROGRESS)):
                    run = read_run(out)
                    break
                time.sleep(0.2)
            assert run is not None, (tmp_path / "label.log").read_text()
        finally:
            process.kill()
            process.wait()
        assert (run.verb, run.state, run.stages[0].total) == ("label", "running", 30)
        assert run.holder is not None
        assert run.holder.endswith(f":{process.pid}")
        again = subprocess.run(words, env=environment, cwd=ROOT, check=False, timeout=250)
        assert again.returncode == 0
        run = read_run(out)
        (stage,) = run.stages
        assert (run.state, run.holder) == ("done", None)
        assert (stage.done, stage.total, stage.failed) == (30, 30, 0)
        assert not storage.exists(storage.join(out, PROGRESS))
        json.dumps(as_value(run, time.time()))
        with parquet.opened(storage.join(out, "labels.parquet")) as opened:
            assert opened.metadata.num_rows == 30
