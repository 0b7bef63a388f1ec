"""`ray-st doctor` as a user types it; no test here starts Ray."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from PIL import Image
from test_materials import coco
from tiny import save_tiny

from ray_st.cli import main
from ray_st.data.labels import ClassLabel, Detections, Labels, Origin, SegmentationMap
from ray_st.data.rows import pack
from ray_st.data.sources import DataConfig
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.data.views import Views
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import open_pool
from ray_st.labeling.policy import PolicyConfig
from ray_st.labeling.teacher import SavedTeacher
from ray_st.models.saved import read_model
from ray_st.report.checked import Step, first_batches_sheet, unseen_boxes_sheet
from ray_st.selftraining.stages import floor_fact, label_stage
from ray_st.tasks import make_task
from ray_st.tasks.detection import DetectConfig

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

WORLD = DigitsConfig(
    labeled_scenes=24, val_scenes=24, pool_scenes=6, labeled_digits=30, classes=(3, 8),
    scene_px=64, digits_per_scene=(1, 2), digit_px=(28, 34),
)  # fmt: skip
KINDS: dict[str, type[Labels]] = {
    "detection": Detections, "segmentation": SegmentationMap, "classification": ClassLabel,
}  # fmt: skip
SMALL = [
    *("--model.backbone", "test_resnet", "--model.image-size-px", "64"),
    *("--model.levels", "3", "4", "--model.channels", "16", "--model.head-convs", "1"),
    *("--model.anchor-scale", "2.5"),
    *("--train.steps", "20", "--train.warmup-steps", "2", "--train.checkpoint-every", "10"),
    *("--train.cpus-per-worker", "1", "--train.batch-size", "4", "--train.loaders", "9"),
]


def doctor(*words: str, data: DataConfig, out: str = "checked") -> tuple[int, dict[str, Any]]:
    """Its status, and what it left."""
    uris = ["--data.train", data.train, "--data.val", data.val]
    status = main(["doctor", *uris, *SMALL, "--out", out, *words])
    assert not ray.is_initialized()
    return status, json.loads(Path(out, "doctor.json").read_text())


def of(left: dict[str, Any], severity: str) -> list[str]:
    found = left["findings"]
    return [each["where"] for each in found if each["severity"] == severity]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataConfig]:
    """The same few scenes with labels of each kind."""
    return {
        task: write_world(tmp_path_factory.mktemp(task), WORLD, kind)
        for task, kind in KINDS.items()
    }


@pytest.mark.parametrize("task", KINDS)
def test_a_sound_recipe_of_each_task(
    worlds: dict[str, DataConfig], capsys: pytest.CaptureFixture[str], task: str
) -> None:
    data = worlds[task]
    assert data.unlabeled is not None
    words = ["--task", task, "--data.unlabeled", data.unlabeled, "--sweep.alphas", "[]"]
    status, left = doctor(*words, data=data)
    printed = capsys.readouterr().out.splitlines()
    findings = left["findings"]
    assert (status, left["status"]) == (0, 0)
    assert of(left, "fail") == []
    assert of(left, "warn") == []
    assert printed[-3] == f"doctor     0 fail, 0 warn, {len(findings)} fine"
    assert printed[-2:] == ["checked/first_batches.png", "checked/doctor.json"]
    assert len(printed) == len(findings) + 3  # one line each
    with Image.open("checked/first_batches.png") as picture:
        assert picture.width > 1000
    assert left["recipe"]["train"]["steps"] == 20
    assert {path.name for path in Path("checked").iterdir()} == {*left["pictures"], "doctor.json"}


def test_images_of_joint_training_are_checked_in_their_own_size(
    worlds: dict[str, DataConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    joint = ["--train.joint.images", worlds["classification"].train]
    joint += ["--train.joint.image-size-px", "32"]
    status, left = doctor(*joint, data=worlds["detection"])
    assert status == 0
    printed = capsys.readouterr().out
    sizes = "images are all 64x64; a view of {} px shows them {:.2f} times as large"
    assert f"train.joint.images: {sizes.format(32, 0.5)}" in printed
    assert f"data.train: {sizes.format(64, 1)}" in printed
    assert "of 8 images takes" in printed  # human and classified ones are a step
    assert "joint views: 100% have a class" in printed
    assert left["pictures"][0] == "first_batches.png"


def test_what_is_wrong_is_told_all_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataConfig(
        train=coco(tmp_path / "train", "train", 5, boxes=[(1, 1, [3, 3, 0, 5])]),
        val=coco(tmp_path / "val", "val", 2, first_id=50),
    )
    (tmp_path / "train" / "2.jpg").write_bytes(b"")
    for name in ("50", "51"):  # val is made of copies
        Image.new("RGB", (40, 30), "red").save(tmp_path / "val" / f"{name}.jpg")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "train" / "3.jpg")
    status, left = doctor(
        *("--train.warmup-steps", "20", "--train.num-workers", "4", "--pseudo", "nowhere"),
        *("--train.cpus-per-worker", "3", "--train.alpha", "0"),
        data=data,
    )
    assert (status, left["status"]) == (1, 1)
    assert of(left, "fail") == [
        "pseudo",  # holds no labelling
        "data.train",  # one of five images is empty
        "data.val",  # both are in train
        "train.warmup_steps",
        "train.num_workers",  # 4 x 3 CPUs and more
    ]
    printed = capsys.readouterr().out
    assert "fail  pseudo: nowhere holds no finished labelling; pass the --out folder " in printed
    assert "found in reading: 1 zero area boxes dropped" in printed
    lines = [each for each in printed.splitlines() if each.startswith("doctor ")]
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["--model.backbone", "efficientformer_l1", "--model.levels", "3", "5"], "model.backbone"),
        (["--init.start", "teacher", "--init.weights", "nowhere"], "init.weights"),
        (["--task", "segmentation"], "data.train"),
        (["--data.unlabeled", "/nowhere"], "/nowhere"),
        (["--address", "ray://127.0.0.1:1"], "address"),  # nothing listens there
        (["--data.val", ""], "data.val"),
    ],
)
def test_a_refusal_is_a_finding_and_the_rest_is_checked(
    worlds: dict[str, DataConfig], words: list[str], where: str
) -> None:
    status, left = doctor(*words, data=worlds["detection"])
    assert status == 1
    assert of(left, "fail") == [where]
    said = " ".join(each["what"] for each in left["findings"])
    assert ("training holds" in said) == (where != "address")
    assert ("first_batches.png" in left["pictures"]) == (where in ("init.weights", "address"))


@pytest.fixture(scope="module")
def labelled(
    worlds: dict[str, DataConfig], tmp_path_factory: pytest.TempPathFactory
) -> tuple[DataConfig, str]:
    """The same with a pool that a tiny teacher, trained on nothing, has labelled."""
    root, data = tmp_path_factory.mktemp("labelled"), worlds["detection"]
    assert data.unlabeled is not None
    saved = read_model(save_tiny(root / "teacher", classes=("3", "8")), "teacher")
    (root / "pseudo").mkdir()
    everything = DetectConfig(score_floor=0.0)
    task = make_task("detection", saved.card.model, 2, everything)
    label_stage(
        open_pool(data.unlabeled),
        SavedTeacher(saved=saved, task=task),
        str(root / "pseudo"),
        LabelConfig(actors=(0, 0)),
        PolicyConfig(score_threshold=0.0),
        None,
        facts=floor_fact(Detections, everything),
    )
    return data, str(root / "pseudo")


def test_pseudo_labels_are_checked_and_drawn(labelled: tuple[DataConfig, str]) -> None:
    data, pseudo = labelled
    words = ["--pseudo", pseudo, "--all", "--policy.score-threshold"]
    _, left = doctor(*words, "0", "--data.unlabeled", str(data.unlabeled), data=data)
    assert left["findings"][0]["where"] == "pseudo"
    assert not [each for each in left["findings"] if " are in pseudo too" in each["what"]]
    assert left["findings"][0]["numbers"]["images"] == 6
    assert "augment" in {each["where"] for each in left["findings"]}
    with Image.open("checked/first_batches.png") as picture:
        with_pseudo = picture.height
    status, left = doctor(*words, "1", data=data, out="strict")
    assert status == 1
    first = left["findings"][0]
    assert (first["severity"], first["where"]) == ("fail", "pseudo")
    assert first["what"].startswith("6 pseudo-labelled images, 0.00 boxes an image, where people ")
    doctor(data=data, out="alone")
    with Image.open("alone/first_batches.png") as picture:
        assert picture.height < with_pseudo


def test_pseudo_labels_that_stay_in_their_store(labelled: tuple[DataConfig, str]) -> None:
    data, pseudo = labelled
    words = ["--pseudo", pseudo, "--policy.score-threshold", "0", "--train.held-images"]
    left = [doctor(*words, held, data=data)[1] for held in ("5", "6")]
    said = [{each["what"] for each in one["findings"]} for one in left]
    first = "6 pseudo-labelled images, "
    assert [sum(what.startswith(first) for what in each) for each in said] == [1, 1]
    assert all("the first 32 pseudo views: " in " ".join(each) for each in said)


def test_what_runs_live_needs_room_at_once(worlds: dict[str, DataConfig]) -> None:
    data = worlds["detection"]
    words = ["--data.unlabeled", str(data.unlabeled), "--sweep.alphas", "[]", "--loop.live"]
    # Training holds 1 core and 2 streams, labelling 6 and a reader: 10 of 8 at once.
    status, _ = doctor(*words, "--label.actors", "1", "2", data=data)
    assert status == 0
    many = ["--label.actors", "6", "6"]
    status, left = doctor(*words, *many, data=data, out="live")
    assert (status, of(left, "fail")) == (1, ["label.actors"])
    status, _ = doctor(*words[:-1], *many, data=data, out="apart")
    assert status == 0


def test_pseudo_labels_of_other_classes(labelled: tuple[DataConfig, str], tmp_path: Path) -> None:
    _, pseudo = labelled
    other = write_world(tmp_path / "other", replace(WORLD, classes=(0, 1, 2)), Detections)
    status, left = doctor("--pseudo", pseudo, data=other)
    assert status == 1
    assert (
        "was labelled with classes ['3', '8'], data.train has ['0', '1', '2']"
        in (left["findings"][0]["what"])
    )


def test_a_dry_run_looks_at_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["doctor", "--data.train", "coco:nowhere", "--data.val", "coco:nowhere", "--dry-run"]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "# dry run: up to 200 images of each set would be read; nothing was started"
    assert list(tmp_path.iterdir()) == []


def test_it_writes_only_over_what_it_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataConfig(train="coco:nowhere.json", val="coco:nowhere.json")
    assert doctor(data=data)[0] == 1
    Path("checked/first_batches.png").write_bytes(b"of another time")
    _, left = doctor(data=data)  # nothing can be drawn
    assert left["pictures"] == []
    assert [path.name for path in Path("checked").iterdir()] == ["doctor.json"]
    Path("checked/thesis.tex").write_text("all of it")
    Path("file").write_text("")
    for out, said in (
        ("checked", "checked holds other files; "), ("file", "file is a file; "),
        ("file/inside", "file is a file; "),
    ):  # fmt: skip
        capsys.readouterr()
        assert main(["doctor", "--out", out]) == 2
        assert capsys.readouterr().err.startswith(f"ray-st: out: {said}pass --out with the name ")
    assert Path("checked/thesis.tex").read_text() == "all of it"


def test_boxes_that_no_anchor_fits_are_drawn_where_they_are(tmp_path: Path) -> None:
    Image.new("RGB", (128, 64)).save(tmp_path / "a.png")
    rows = pack(
        image_ids=[7], uris=[str(tmp_path / "a.png")], sizes_hw=[(64, 128)],
        labels=[Detections.of([[20, 20, 60, 60]], [0])], origin=Origin.HUMAN,
    )  # fmt: skip
    sheet = unseen_boxes_sheet(rows, 64, ("cat",))
    ((drawing,),) = (row.drawings for row in sheet.rows)
    assert drawing.caption == "1 box, a.png"
    (swatch,) = drawing.legend
    colour = [int(swatch.colour[i : i + 2], 16) for i in (1, 3, 5)]
    found = np.argwhere((np.asarray(drawing.canvas) == colour).all(axis=2))
    # Halved to 64 px, then shown at 240: the box is at 20 / 2 * 240 / 64 = 37.5 to 112.5.
    np.testing.assert_allclose(found.min(axis=0), 37.5, atol=1)
    np.testing.assert_allclose(found.max(axis=0), 112.5, atol=1)


def test_the_sheet_shows_two_rows_of_a_step_and_what_could_not_be_read() -> None:
    count = 20
    views = Views(
        image_ids=np.arange(count),
        uris=tuple(f"/x/{i}.jpg" for i in range(count)),
        pixels=np.zeros((count, 32, 32, 3), np.uint8),
        sizes_hw=np.ones((count, 2), np.int32),
        labels=(Detections.of([[1, 1, 9, 9]], [1]),) * 19 + (Detections.of(),),
        stages=(None,) * count,
        reasons=(*[None] * 9, "bad", *[None] * 10),
    )
    classes = ("cat", "dog")
    steps = [
        Step(number=1, origin=Origin.HUMAN, views=views, classes=classes),
        Step(number=1, origin=Origin.PSEUDO, views=views[:3], classes=classes),
    ]
    sheet = first_batches_sheet(steps)
    assert [len(row.drawings) for row in sheet.rows] == [8, 8, 3]
    assert [row.title for row in sheet.rows] == ["Step 1"] * 3
    assert sheet.rows[1].notes == ["human images", "9 to 16", "of 20"]
    assert sheet.rows[2].notes == ["pseudo images", "1 to 3", "of 3"]
    assert sheet.rows[0].drawings[0].caption == "1 box, 0.jpg"
    assert sheet.rows[1].drawings[1].caption == "cannot be read, 9.jpg"
    assert [each.name for each in sheet.rows[0].drawings[0].legend] == ["dog"]
    assert sheet.picture().width == sheet.width_px
