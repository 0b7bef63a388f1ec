"""A pool, its store and models in a bucket: index to train, against a real S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import safetensors.torch
import timm
import torch
from bucket import CREDENTIALS, Endpoint, credentials, s3_server
from events import read_events
from pyarrow import fs
from tiny import MODEL, save_tiny

from ray_st.cli import main
from ray_st.config import UserError
from ray_st.data import parquet, storage
from ray_st.data.labels import Detections
from ray_st.data.sources import open_labeled
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import open_pool
from ray_st.labeling.policy import PolicyConfig
from ray_st.labeling.pool import label, read_raw
from ray_st.labeling.store import Store
from ray_st.labeling.teacher import SavedTeacher
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes
from ray_st.labeling.verify import findings
from ray_st.models import build
from ray_st.models.initialise import InitConfig, read_start
from ray_st.models.saved import CARD, WEIGHTS, ModelCard, read_model, save_model
from ray_st.selftraining import folder, lease
from ray_st.selftraining.acceptance import read_holdout
from ray_st.tasks import make_task
from ray_st.tasks.detection import DetectConfig

ROOT = Path(__file__).parents[1]
CLASSES = ("0", "1")
RECIPE = """
model: {backbone: test_resnet, image_size_px: 64, levels: [3, 4], channels: 16, head_convs: 1}
train: {steps: 2, batch_size: 4, cpus_per_worker: 1, loaders: 0}
policy: {score_threshold: 0.05}
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, credentials():
        yield server


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, endpoint: Endpoint) -> Path:
    """Labelled scenes and a teacher here; a pool of twelve, one of them broken, in the bucket."""
    here = tmp_path_factory.mktemp("world")
    config = DigitsConfig(
        labeled_scenes=6, val_scenes=4, pool_scenes=11, labeled_digits=20, scene_px=64,
        digits_per_scene=(1, 2), digit_px=(18, 28), classes=(0, 1),
    )  # fmt: skip
    write_world(here, config, Detections)
    (here / "images" / "pool" / "broken.jpg").write_bytes(b"no image")
    endpoint.upload(here / "images" / "pool", "pools/photos of=1/a#b")
    save_tiny(here / "teacher", classes=CLASSES)
    endpoint.upload(here / "teacher", "pools/run/teacher")
    (here / "tiny.yaml").write_text(RECIPE)
    return here


@pytest.fixture
def teacher(world: Path, endpoint: Endpoint) -> str:
    return endpoint.uri("pools/run/teacher")


def ray_st(*flags: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ray_st", *flags],
        cwd=cwd, env=os.environ | CREDENTIALS, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.end_to_end
def test_index_label_verify_choose_and_train(world: Path, endpoint: Endpoint, teacher: str) -> None:
    pool, index = endpoint.uri("pools/photos of=1"), endpoint.uri("pools/index")
    out = endpoint.uri("pools/labels")
    done = ray_st("index", f"--images={pool}", f"--out={index}", "--shard-rows=8", cwd=world)
    assert done.returncode == 0, done.stderr
    flags = [
        f"--images={index}", f"--teacher={teacher}", f"--out={out}",
        "--label.actors", "1", "1", "--label.block-images=4", "--label.file-images=4",
        "--address=local",
    ]  # fmt: skip
    done = ray_st("label", *flags, cwd=world)
    assert done.returncode == 0, done.stderr
    assert "11 images" in done.stdout
    assert "1 unreadable" in done.stdout
    again = ray_st("label", *flags, cwd=world)  # finished: no Ray is started, nothing changes
    assert again.returncode == 0
    assert done.stdout.endswith(again.stdout)  # before it, a line a minute of how far it is
    assert again.stdout.count("\n") > 3
    done = ray_st("verify", out, f"--images={index}", cwd=world)
    assert done.returncode == 0, done.stderr
    assert "12 images, each once: 11 labelled, 1 failures, in 2 shards" in done.stdout
    chosen, student = endpoint.uri("pools/chosen"), endpoint.uri("pools/student")
    done = ray_st(
        "policy", f"--pseudo={out}", f"--out={chosen}", "--policy.score-threshold=0.05", cwd=world
    )
    assert done.returncode == 0, done.stderr
    assert parquet.read(storage.join(chosen, "labels.parquet")).num_rows == 11
    done = ray_st(
        "train", f"--config={world}/tiny.yaml", f"--data.train=coco:{world}/instances_train.json",
        f"--data.val=coco:{world}/instances_val.json", f"--pseudo={out}", "--address=local",
        f"--out={student}", "--train.evaluate-every=1", "--init.start=teacher",
        f"--init.weights={teacher}", cwd=world,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(storage.read(storage.join(student, "summary.json")))
    assert summary["pseudo_images"] == 11
    assert summary["best"]["step"] in (1, 2)
    assert len(read_model(student, "model").weights) > 0
    names = {info.base_name for info in storage.listed(student)}
    assert {"model.safetensors", "model.json", "metrics.jsonl", "val.parquet", "best"} <= names
    (events,) = storage.listed(storage.join(student, "tensorboard"))
    storage.make_folder(str(world / "events"))
    copy = storage.read(storage.join(student, f"tensorboard/{events.base_name}"))
    (world / "events" / events.base_name).write_bytes(copy)
    told = [(step, tag) for step, tag, _ in read_events(world / "events")]
    assert [step for step, tag in told if tag == "val/AP"] == [1, 2]


@pytest.mark.pure
def test_a_store_in_a_bucket_is_the_store_here(world: Path, endpoint: Endpoint, tmp_path: Path):
    pool = open_pool(endpoint.uri("pools/photos of=1"))
    task = make_task("detection", MODEL, len(CLASSES))
    teacher = SavedTeacher(saved=read_model(world / "teacher", "teacher"), task=task)
    config = LabelConfig(actors=(0, 0))
    there, here = endpoint.uri("pools/in-process"), str(tmp_path / "here")
    for out in (there, here):
        label(pool, teacher, out, config, None)
        label(pool, teacher, out, config, None, retry_failed=True)
    assert read_raw(there).equals(read_raw(here))
    failures = parquet.read(storage.join(there, "failures.parquet"))
    assert failures["stage"].to_pylist() == ["decode"]
    rows = {part.number: part.rows() for part in pool.shards}
    store = Store(storage.join(there, "raw"))
    assert findings(store, rows) == []
    with pytest.raises(UserError, match=r"holds labels of another kind \(scores differ\)"):
        label(pool, teacher, there, config, None, exact=True)
    shard = store.shard(0)
    storage.remove(shard.files()[0])
    assert any("is gone" in each for each in findings(store))


@pytest.mark.pure
def test_one_ray_st_a_bucket_folder(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_BEAT_S", 0.3), ("_SILENCE_S", 1.5), ("_SETTLE_S", 0.2)):
        monkeypatch.setattr(lease, name, seconds)
    out = endpoint.uri("pools/held")
    lock = storage.join(out, lease.LOCK)
    folder.claim(out, "a: 1\n", anywhere=True)
    with (
        lease.held(out),
        pytest.raises(UserError, match=r"^out: another ray-st works in .*; wait until it ends"),
        lease.held(out),
    ):
        pass
    assert not storage.exists(lock)
    storage.put(lock, b"gone:1:abc 7")  # of one that was killed: it beats no more
    with lease.held(out):
        assert b"gone" not in storage.read(lock)
    folder.check(out, "a: 2\n", anywhere=True)  # a lock alone is nothing to protect
    storage.put(storage.join(out, "metrics.jsonl"), b"")
    with pytest.raises(UserError, match="holds another run"):
        folder.claim(out, "a: 2\n", anywhere=True)
    with pytest.raises(UserError, match="must be a folder that this machine sees"):
        folder.check(out, "a: 1\n")


@pytest.mark.pure
def test_what_a_user_writes_wrong_about_a_bucket(endpoint: Endpoint) -> None:
    nowhere = endpoint.uri("no-such-bucket/out")
    with pytest.raises(UserError, match=r"^out: .* cannot be (read|written) \(.*\)") as caught:
        folder.claim(nowhere, "a: 1\n", anywhere=True)
    assert "\n" not in str(caught.value)


@pytest.mark.pure
def test_storage_in_a_bucket(endpoint: Endpoint) -> None:
    uri = endpoint.uri("pools/place/deep")
    assert storage.listed(uri) == []
    storage.remove(uri)  # nothing there
    storage.make_folder(uri)
    storage.put(storage.join(uri, "b"), b"2")
    storage.put(storage.join(uri, "a/c"), b"1")
    parquet.write(storage.join(uri, "t=1.parquet"), pa.table({"x": [1, 2]}))
    assert [info.base_name for info in storage.listed(uri)] == ["a", "b", "t=1.parquet"]
    assert storage.read(storage.join(uri, "a/c")) == b"1"
    assert parquet.read(storage.join(uri, "t=1.parquet"), ["x"])["x"].to_pylist() == [1, 2]
    assert storage.is_folder(uri)
    storage.remove(uri)
    assert not storage.is_folder(uri)
    assert not storage.exists(storage.join(uri, "b"))
    assert isinstance(storage.locate(uri)[0], fs.S3FileSystem)


@pytest.mark.pure
def test_a_model_in_a_bucket_is_the_model_here(world: Path, teacher: str) -> None:
    here = read_model(world / "teacher", "teacher")
    for uri in (teacher, *(storage.join(teacher, name) for name in (CARD, WEIGHTS))):
        assert read_model(uri, "teacher") == here
    assert read_model(f"file://{world}/teacher", "teacher") == here
    opened = open_teacher(teacher, Wishes(detect=DetectConfig())).source
    assert opened.digest == here.digest


@pytest.mark.pure
def test_verbs_take_a_model_in_a_bucket(
    world: Path, teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    val = f"coco:{world}/instances_val.json"
    learned = [
        "--config", f"{world}/tiny.yaml", "--data.train", f"coco:{world}/instances_train.json",
        "--data.val", val, "--init.start", "teacher", "--init.weights",
    ]  # fmt: skip
    for words in (
        ["label", "--images", f"{world}/images/pool", "--teacher"],
        ["eval", "--data", val, "--model"],
        ["export-model", "--format", "torch", "--model"],
        ["train", *learned],
        ["run", "--data.unlabeled", f"{world}/images/pool", *learned],
    ):
        assert main([*words, teacher, "--dry-run"]) == 0
        assert capsys.readouterr().out.endswith("nothing was started\n")
        assert main([*words, storage.folder_of(teacher), "--dry-run"]) == 2
        said = capsys.readouterr().err
        assert said.endswith(f" holds a whole run; pass one of its models: {teacher}\n")


@pytest.mark.pure
def test_weights_in_a_bucket(endpoint: Endpoint, tmp_path: Path) -> None:
    config = MODEL
    learned = build(config, "classification", 2)
    card = ModelCard(task="classification", classes=CLASSES, model=config, preprocessing={})
    save_model(tmp_path / "imagenet", learned, card)
    (tmp_path / "timm").mkdir()
    torch.save(learned.state_dict(), tmp_path / "timm" / "w.pth")
    weights = timm.create_model("test_resnet").state_dict()
    safetensors.torch.save_file(weights, tmp_path / "timm" / WEIGHTS)
    pixels = {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}
    (tmp_path / "timm" / "config.json").write_text(json.dumps({"pretrained_cfg": pixels}))
    for name in ("imagenet", "timm"):
        endpoint.upload(tmp_path / name, f"pools/weights/{name}")
    with torch.device("meta"):
        model = build(config, "detection", 2)
    for name in ("imagenet", "timm", "timm/w.pth", f"timm/{WEIGHTS}"):
        starts = [
            read_start(model, config, InitConfig(start="imagenet", weights=where))
            for where in (str(tmp_path / name), endpoint.uri(f"pools/weights/{name}"))
        ]
        assert starts[0] is not None
        assert starts[1] is not None
        assert starts[0].weights == starts[1].weights
        assert starts[1].loaded.tensors > 0
    nothing = endpoint.uri("pools/weights")
    with pytest.raises(UserError, match=r"^init.weights: s3://.* is a folder without model.safe"):
        read_start(model, config, InitConfig(start="imagenet", weights=nothing))
    nothing = endpoint.uri("pools/weights/v.pth")
    with pytest.raises(UserError, match=r"^init.weights: s3://.* must be a file that ends in "):
        read_start(model, config, InitConfig(start="imagenet", weights=nothing))


@pytest.mark.pure
def test_a_hold_out_in_a_bucket(world: Path, endpoint: Endpoint, teacher: str) -> None:
    measured = open_labeled(f"coco:{world}/instances_val.json")
    folder_there = endpoint.uri("pools/measured/teacher")
    for name in (CARD, WEIGHTS):
        storage.put(storage.join(folder_there, name), storage.read(storage.join(teacher, name)))
    parquet.write(storage.join(folder_there, "predictions.parquet"), measured.rows)
    parquet.write(endpoint.uri("pools/measured/val.parquet"), measured.rows)
    folder.write_summary(folder_there, {"classes": CLASSES, "figures": ["AP"], "model": {"AP": 7}})
    policy = PolicyConfig(target_precision=0.9, holdout=folder_there)
    digest = read_model(teacher, "teacher").digest
    found = read_holdout(policy, Detections, CLASSES, digest)
    assert found is not None
    assert found.truths.equals(measured.rows)
    assert found.figures == {"AP": 7}
    with pytest.raises(UserError, match=r"^policy.holdout: s3://.* of another model than the te"):
        read_holdout(policy, Detections, CLASSES, "another")


@pytest.mark.pure
def test_what_a_user_writes_wrong_about_a_model_in_a_bucket(
    endpoint: Endpoint, teacher: str
) -> None:
    damaged = endpoint.uri("pools/damaged")
    storage.put(storage.join(damaged, CARD), storage.read(storage.join(teacher, CARD)))
    weights = storage.read(storage.join(teacher, WEIGHTS))
    for uri, content, said in (
        (endpoint.uri("pools/nowhere"), None, r"s3://\S+ holds no model.json; pass the --out "),
        (damaged, None, r"s3://\S+ holds no model.safetensors; pass the --out folder of "),
        (damaged, weights[:-4], r"s3://\S+ is damaged or no safetensors file \(.*\); copy it"),
        (damaged, b"", r"s3://\S+ is damaged or no safetensors file \(.*\); copy it again"),
        ("nowhere://a/b", None, r"nowhere://a/b/\S+ cannot be read \(.*\); check the path and "),
    ):
        if content is not None:
            storage.put(storage.join(damaged, WEIGHTS), content)
        with pytest.raises(UserError, match=f"^teacher: {said}") as caught:
            read_model(uri, "teacher")
        assert "\n" not in str(caught.value)
