"""`ray-st pretrain`, from a folder of images to a detector that starts from what was learned."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import CLASSES, MODEL, tiny_model

from ray_st.cli import main
from ray_st.config import UserError
from ray_st.data.labels import ClassLabel
from ray_st.data.rows import kind_of, unpack
from ray_st.data.sources import open_images
from ray_st.models.initialise import InitConfig, initialise
from ray_st.models.saved import read_files, read_model
from ray_st.recipe import load
from ray_st.report import write_report
from ray_st.selftraining.pretraining import instances
from ray_st.training.checkpoints import load_log
from ray_st.verbs.pretrain import PretrainVerb

NUM_IMAGES = 12
FLAGS = [
    *("--model.backbone", MODEL.backbone, "--model.image-size-px", "64"),
    *("--model.levels", "3", "4", "--augment.scale-jitter", "0.7", "1.4"),
    *("--augment.colour-jitter", "0.3", "--simclr.projection", "16"),
    *("--train.optimizer", "adamw", "--train.lr", "0.003", "--train.warmup-steps", "5"),
    *("--train.batch-size", "6", "--train.log-every", "5", "--train.cpus-per-worker", "1"),
    *("--address", "local"),
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Patterns of sixteen coloured patches, in two folders; and a file that is no image."""
    rng = np.random.default_rng(0)
    for i in range(NUM_IMAGES):
        folder = tmp_path / "images" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        patches = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        patches.resize((72, 72), Image.Resampling.NEAREST).save(folder / f"{i}.png")
    return tmp_path / "images"


@pytest.mark.pure
def test_every_image_is_a_class_of_its_own(images: Path) -> None:
    rows = instances(open_images(str(images)))
    assert rows["image_id"].to_pylist() == list(range(NUM_IMAGES))
    assert kind_of(rows.schema) is ClassLabel
    assert [one.top_class_ids.tolist() for one in unpack(rows)] == [[i] for i in range(NUM_IMAGES)]
    assert instances(open_images(str(images)).slice(0, 0)).num_rows == 0


@pytest.mark.pure
def test_supervised_is_training_of_the_task_classification(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"classes:{images}"
    model = ["--model.backbone", "test_resnet", "--train.steps", "7", "--dry-run"]
    words = ["pretrain", "--method", "supervised", "--images", uri, "--val", uri]
    assert main([*words, *model]) == 0
    ours = capsys.readouterr().out
    words = ["train", "--task", "classification", "--data.train", uri, "--data.val", uri]
    assert main([*words, *model]) == 0
    assert capsys.readouterr().out == ours
    assert "12 human and 0 pseudo-labelled images" in ours


@pytest.mark.pure
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "supervised"], "val: must be classes:DIR with supervised, got None"),
        (["--val", "classes:x"], "val: must be left out with simclr, got 'classes:x'"),
        (["--images", "/nowhere"], "/nowhere: "),
        (["--model.backbone", "resnet81"], "model.backbone: must be a timm model, got 'resnet81'"),
        (["--simclr.temperature", "0"], "simclr.temperature: must be above 0, got 0.0"),
    ],
)
def test_what_cannot_be_learned_from(
    images: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["pretrain", "--images", str(images), *words, "--dry-run"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"ray-st: {said}")
    assert err.count("\n") == 1


@pytest.mark.end_to_end
def test_a_detector_starts_from_images_alone(images: Path, tmp_path: Path) -> None:
    (images / "broken.png").write_bytes(b"no image")
    out = tmp_path / "start"
    words = ["pretrain", "--images", str(images), "--out", str(out), *FLAGS]
    assert main([*words, "--train.steps", "40", "--train.num-workers", "0"]) == 0
    log = load_log(out)
    assert [row["step"] for row in log] == list(range(5, 41, 5))
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    assert all(row["loss"] == pytest.approx(row["loss_human"]) for row in log)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["simclr"] == {"loss": log[-1]["loss"], "accuracy": log[-1]["parts"]["accuracy"]}
    assert summary["simclr"]["accuracy"] > log[0]["parts"]["accuracy"]
    # 40 steps of 6 are 18 epochs of 13 images, and 6 more: two views of the broken one in each.
    assert summary["unreadable"]["training_views"] in (36, 38)
    assert load(PretrainVerb, out / "recipe.yaml").images == str(images)
    percent = f"{100 * summary['simclr']['accuracy']:.0f}%"
    page = write_report(out).read_text("utf-8")
    assert f"two views from all others in {percent} of cases" in unescape(page)

    detector = tiny_model(num_classes=len(CLASSES))
    loaded = initialise(detector, MODEL, InitConfig(start="simclr", weights=str(out)))
    assert loaded is not None
    assert loaded.misfits == ""
    learned = read_files(out, "weights")
    assert (learned.card.task, learned.card.classes) == ("simclr", ())
    with pytest.raises(UserError, match=r"^teacher: .* --init.start simclr --init.weights "):
        read_model(out, "teacher")
    wanted = detector.backbone.state_dict()
    assert loaded.tensors == sum(not name.endswith("num_batches_tracked") for name in wanted)
    assert not wanted["network.model.conv1.0.weight"].equal(
        tiny_model(num_classes=2).backbone.state_dict()["network.model.conv1.0.weight"]
    )


@pytest.mark.end_to_end
def test_two_workers_learn_from_each_others_images(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "start"
    words = ["pretrain", "--images", str(images), "--out", str(out), *FLAGS]
    # Every view is alike at this temperature, so the loss counts the views: log(1 + 10), and
    # with only a worker's own 3 images it would be log(1 + 4).
    flat = ["--simclr.temperature", "10000", "--train.steps", "3", "--train.log-every", "1"]
    assert main([*words, *flat, "--train.num-workers", "2"]) == 0
    losses = [row["loss"] for row in load_log(out)]
    assert losses == pytest.approx([np.log(11)] * 3, rel=1e-3)
