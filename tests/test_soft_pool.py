"""Soft targets on their way from a labelled pool to a student; no test here starts Ray."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch
from test_cli import dry, refused
from test_doctor import KINDS, SMALL, WORLD, doctor

from ray_st.cli import main
from ray_st.data.labels import IGNORE, ClassLabel
from ray_st.data.rows import kind_of, unpack
from ray_st.data.sources import open_labeled
from ray_st.data.sources.digits import classes_of, write_world
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import open_pool
from ray_st.labeling.policy import PolicyConfig
from ray_st.labeling.pool import read_raw
from ray_st.labeling.stored import StoredRows
from ray_st.labeling.teacher import SavedTeacher
from ray_st.models import ModelConfig, build
from ray_st.models.saved import ModelCard, read_model, save_model
from ray_st.selftraining.folder import SUMMARY
from ray_st.selftraining.stages import label_stage, read_pseudo
from ray_st.tasks import make_task

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

TEACHER = ModelConfig(backbone="test_resnet", image_size_px=64, levels=(3, 4), channels=8)
SOFT = ["--policy.soft-targets", "True"]


@pytest.fixture(scope="module", params=["segmentation", "classification"])
def world(request, tmp_path_factory):
    """Labelled digits, and a pool that a teacher, trained on nothing, has labelled.

    Also the flag of a threshold that some of its predictions reach and others do not.
    """
    task, root = request.param, tmp_path_factory.mktemp(request.param)
    data = write_world(root, WORLD, KINDS[task])
    classes = classes_of(WORLD, KINDS[task])
    torch.manual_seed(3)
    card = ModelCard(task=task, classes=classes, model=TEACHER, preprocessing={})
    save_model(root / "teacher", build(TEACHER, task, len(classes)), card)
    saved = read_model(root / "teacher", "teacher")
    teacher = SavedTeacher(saved=saved, task=make_task(task, TEACHER, len(classes)))
    (root / "pseudo").mkdir()
    pool = open_pool(data.unlabeled)
    here = LabelConfig(actors=(0, 0))
    label_stage(pool, teacher, str(root / "pseudo"), here, PolicyConfig(), None)
    found = unpack(read_raw(str(root / "pseudo")))
    if task == "segmentation":
        middle = np.median([one.confidence for one in found]) / 255
    else:
        middle = np.median([one.top_scores[0] for one in found])
    return task, data, root, ["--policy.score-threshold", str(middle)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def choose(root, *flags, out):
    """What `ray-st policy` says of labels that it leaves in `out`."""
    assert main(["policy", "--pseudo", str(root / "pseudo"), *flags, "--out", out]) == 0
    return json.loads(Path(out, SUMMARY).read_text())


def require_soft(rows, raw, threshold):
    """Labels that keep what the store has of what reaches a threshold, and nothing else."""
    of = dict(zip(raw["image_id"].to_pylist(), unpack(raw), strict=True))
    assert rows.num_rows == raw.num_rows == 6
    labels = unpack(rows)
    for image_id, one in zip(rows["image_id"].to_pylist(), labels, strict=True):
        stored = of[image_id]
        if isinstance(one, ClassLabel):
            is_kept = bool(stored.top_scores[0] >= np.float32(threshold))
            assert one.top_class_ids.tolist() == stored.top_class_ids.tolist() * is_kept
            assert one.top_scores.tolist() == stored.top_scores.tolist() * is_kept
        else:
            kept = stored.confidence >= np.ceil(threshold * 255)
            np.testing.assert_array_equal(one.class_map, np.where(kept, stored.class_map, IGNORE))
            np.testing.assert_array_equal(one.confidence, stored.confidence)
    assert any(one.is_soft for one in labels)
    assert 0 < sum(one.amount() for one in labels) < 6


def test_what_a_policy_writes_is_what_a_student_reads_from_anywhere(world):
    _, data, root, flags = world
    policy = PolicyConfig(score_threshold=float(flags[1]), soft_targets=True)
    assert choose(root, *flags, *SOFT, out="soft")["policy"]["soft_targets"] is True
    raw, human = read_raw(str(root / "pseudo")), open_labeled(data.train)
    require_soft(pq.read_table("soft/labels.parquet"), raw, policy.score_threshold)
    for uri in (str(root / "pseudo"), "soft"):
        for held in (1000, 3):
            rows, _ = read_pseudo(uri, policy, human, held)
            assert isinstance(rows, StoredRows) == (held == 3)
            if held == 3:
                rows, _ = rows.at(np.arange(6), seed=0)
            require_soft(rows, raw, policy.score_threshold)


def test_facts_and_agreement_are_those_of_hard_labels(world):
    task, _, root, flags = world
    hard, soft = choose(root, *flags, out="hard"), choose(root, *flags, *SOFT, out="soft")
    assert soft["pseudo"] == hard["pseudo"]
    assert soft["thresholds"] == hard["thresholds"]
    left, right = (pq.read_table(Path(each, "labels.parquet")) for each in ("hard", "soft"))
    assert not any(one.is_soft for one in unpack(left))
    raw = read_raw(str(root / "pseudo")).select(left.column_names)
    objective = make_task(task, TEACHER, len(soft["classes"]))
    moved = raw.set_column(0, "image_id", raw["image_id"].take([1, 2, 3, 4, 5, 0]))
    for truth in (raw, moved):
        assert objective.agreement(truth, right) == objective.agreement(truth, left)
    assert main(["report", "soft"]) == 0
    assert "probabilities as targets." in Path("soft/report.html").read_text()


def test_a_folder_of_hard_labels_is_no_folder_of_soft_ones(world, capsys):
    task, data, root, flags = world
    choose(root, *flags, out="hard")
    train = ["train", "--task", task, "--data.train", data.train, "--data.val", data.val, *SMALL]
    train += ["--pseudo", "hard"]
    line = refused(capsys, [*train, *flags, *SOFT], root)
    assert line.startswith("pseudo: hard holds what another policy chose; ")
    # One that was chosen before there was the field is of hard labels.
    summary = json.loads(Path("hard", SUMMARY).read_text())
    del summary["policy"]["soft_targets"]
    Path("hard", SUMMARY).write_text(json.dumps(summary))
    for given in ([], flags):
        assert "and 6 pseudo-labelled images" in dry(capsys, [*train, *given], root)
    assert "what another policy chose" in refused(capsys, [*train, *flags, *SOFT], root)
    again = ["policy", "--pseudo", str(root / "pseudo"), *flags, *SOFT, "--out", "hard"]
    assert refused(capsys, again, root).startswith("out: hard holds another run")


def test_the_doctor_takes_a_step_on_them(world):
    task, data, root, flags = world
    words = ["--task", task, "--pseudo", str(root / "pseudo"), *flags, *SOFT]
    status, left = doctor(*words, data=data)
    assert status == 0
    said = " ".join(each["what"] for each in left["findings"])
    assert "the first 32 pseudo views: " in said
    assert "a fresh head's at" in said


def test_class_maps_leave_as_they_would_with_hard_labels(world, capsys):
    task, _, root, flags = world
    if task == "classification":
        words = ["export", "--pseudo", str(root / "pseudo"), "--format", "voc", *flags, *SOFT]
        assert "has no form in voc" in refused(capsys, words, root)
        return
    for name, given in (("soft", SOFT), ("hard", [])):
        words = ["export", "--pseudo", str(root / "pseudo"), "--format", "voc", *flags, *given]
        assert main([*words, "--out", name]) == 0
    maps = sorted(
        path.relative_to("hard") for path in Path("hard").rglob("SegmentationClass/**/*.png")
    )
    assert len(maps) == 6
    for path in maps:
        assert Path("soft", path).read_bytes() == Path("hard", path).read_bytes()


def test_a_student_may_have_another_backbone_than_its_teacher(world, capsys):
    """Labels are all that it has of its teacher."""
    task, data, root, flags = world
    other = ["--model.backbone", "resnet10t", "--model.levels", "3", "5"]
    words = ["--task", task, "--data.train", data.train, "--data.val", data.val, *SMALL, *other]
    pseudo = ["--pseudo", str(root / "pseudo"), *flags, *SOFT]
    assert "and 6 pseudo-labelled images" in dry(capsys, ["train", *words, *pseudo], root)
    status, left = doctor("--task", task, *other, *pseudo, data=data)
    assert status == 0
    assert left["recipe"]["model"]["backbone"] == "resnet10t"
    # Its weights are another matter.
    start = ["--init.start", "teacher", "--init.weights", str(root / "teacher")]
    assert "init" in refused(capsys, ["train", *words, *pseudo, *start], root)
    assert kind_of(read_raw(str(root / "pseudo")).schema) is KINDS[task]
    assert not ray.is_initialized()
