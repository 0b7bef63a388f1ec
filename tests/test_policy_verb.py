"""`ray-st policy` and what takes its folder, as a user types it; no test here starts Ray."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
import yaml
from PIL import Image
from test_cli import data_flags, dry, model_flags, refused, write_coco
from tiny import tiny_card, tiny_model, tiny_task

from ray_st.cli import main
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.sources import open_labeled
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images, open_pool
from ray_st.labeling.policy import Holdout, PolicyConfig, pseudo_labels
from ray_st.labeling.pool import label, raw_parts, read_raw
from ray_st.labeling.teacher import SavedTeacher
from ray_st.models.saved import read_model, save_model
from ray_st.selftraining.folder import write_summary
from ray_st.selftraining.stages import label_stage, read_pseudo

pytestmark = pytest.mark.pure
torch.set_num_threads(1)
HERE = LabelConfig(actors=(0, 0))
CLASSES = ("cat", "dog")


def save_talkative(folder):
    """A teacher with much to say, at scores all over the scale."""
    model = tiny_model()
    generator = torch.Generator().manual_seed(0)
    predict = model.classes.predict
    with torch.no_grad():
        predict.bias.copy_(torch.randn(predict.bias.shape, generator=generator))
        predict.weight.copy_(torch.randn(predict.weight.shape, generator=generator) / 20)
    save_model(folder, model, tiny_card())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A labelled pool, and the teacher's predictions on labelled images as `eval` leaves them."""
    root = tmp_path_factory.mktemp("world")
    (root / "images").mkdir()
    for i in range(5):
        Image.new("RGB", (40 + i, 30), (40 * i, 90, 9)).save(root / "images" / f"{i}.jpg")
    (root / "images" / "broken.jpg").write_bytes(b"no image")
    write_coco(root / "images" / "good.json")
    save_talkative(root / "teacher")
    saved = read_model(root / "teacher", "teacher")
    images = open_pool(str(root / "images"))
    (root / "pseudo").mkdir()
    policy = PolicyConfig(score_threshold=0.2)
    teacher = SavedTeacher(saved=saved, task=tiny_task())
    label_stage(images, teacher, str(root / "pseudo"), HERE, policy, None)
    truth = open_labeled(f"coco:{root}/images/good.json")
    (root / "eval").mkdir()
    label(
        Images.of_rows(truth.rows.select(IMAGE_ROW.names)),
        SavedTeacher(saved=saved, task=tiny_task()),
        str(root / "eval"),
        HERE,
        None,
    )
    pq.write_table(read_raw(str(root / "eval")), root / "eval" / "predictions.parquet")
    pq.write_table(truth.rows, root / "eval" / "val.parquet")
    summary = {"verb": "eval", "classes": list(CLASSES), "model_sha256": saved.digest}
    write_summary(root / "eval", summary)
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def choose(world, *flags):
    return ["policy", "--pseudo", str(world / "pseudo"), *flags]


def middle_score(world):
    rows = read_raw(str(world / "pseudo")).column("scores").to_pylist()
    scores = sorted(score for row in rows for score in row)
    return scores[len(scores) // 2]


def test_the_parts_of_a_store_are_the_store(world):
    raw = read_raw(str(world / "pseudo"))
    parts = list(raw_parts(str(world / "pseudo")))
    assert raw.num_rows == sum(part.num_rows for part in parts) == 5
    assert pa.concat_tables(parts).combine_chunks().sort_by("image_id").equals(raw)


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--policy.balance-share", "0.25", "--policy.max-per-image", "3"],
        ["--policy.class-thresholds", "cat 0.45", "dog 1"],
    ],
)
def test_a_store_is_chosen_from_anew(world, elsewhere, capsys, monkeypatch, flags):
    monkeypatch.setenv("COLUMNS", "200")
    words = choose(world, *flags, "--out", "chosen")
    recipe = yaml.safe_load(dry(capsys, words, world))
    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    names = [line[:10].strip() for line in printed]
    assert [name for name in names if name != "warning"] == ["policy", "chosen/sum"]
    assert "5 images, " in printed[0]
    assert "; thresholds " in printed[0]
    assert not ray.is_initialized()
    fields = recipe["policy"] | {"class_thresholds": tuple(recipe["policy"]["class_thresholds"])}
    policy = PolicyConfig(**fields)
    expected = pseudo_labels(read_raw(str(world / "pseudo")), policy, CLASSES)
    rows = pq.read_table("chosen/labels.parquet").sort_by("image_id")
    assert rows.equals(expected)
    summary = json.loads((elsewhere / "chosen" / "summary.json").read_text())
    boxes = [len(scores) for scores in expected["scores"].to_pylist()]
    facts = {"images": 5, "boxes_per_image": sum(boxes) / 5, "empty_share": boxes.count(0) / 5}
    for name, value in facts.items():
        assert summary["pseudo"][name] == pytest.approx(value)
    assert summary["pseudo"]["failures"] == 1
    assert sum(summary["pseudo"]["labels_per_class"].values()) == facts["boxes_per_image"] * 5
    raw_boxes = sum(map(len, read_raw(str(world / "pseudo")).column("scores").to_pylist()))
    assert sum(summary["pseudo"]["score_histogram"]) == raw_boxes > 100
    assert summary["thresholds"].keys() == set(CLASSES)
    assert summary["policy"] == recipe["policy"]
    stamp = (elsewhere / "chosen" / "labels.parquet").stat().st_mtime_ns
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == printed
    assert (elsewhere / "chosen" / "labels.parquet").stat().st_mtime_ns == stamp


def test_what_was_chosen_has_a_report(world, elsewhere, capsys):
    assert main(choose(world, "--policy.score-threshold", "0.3", "--out", "chosen")) == 0
    assert main(["report", "chosen"]) == 0
    page = (elsewhere / "chosen" / "report.html").read_text()
    assert "boxes an image" in page
    assert "pool images labelled" in page


def test_training_takes_a_store_under_a_policy_and_what_the_verb_left(world, elsewhere, capsys):
    human = open_labeled(f"coco:{world}/images/good.json")
    flags = ["--policy.score-threshold", str(middle_score(world))]
    assert main(choose(world, *flags, "--out", "chosen")) == 0
    policy = PolicyConfig(score_threshold=float(flags[1]))
    from_store, _ = read_pseudo(str(world / "pseudo"), policy, human, 1000)
    for given in (PolicyConfig(), policy):
        from_folder, warnings = read_pseudo("chosen", given, human, 1000)
        assert from_folder.equals(from_store)
        assert warnings == []
    for given in (str(world / "pseudo"), "chosen"):
        in_windows, _ = read_pseudo(given, policy, human, 4)  # of 5
        rows, _ = in_windows.at(np.arange(5), seed=0)
        assert rows.sort_by("image_id").equals(from_store)
    train = ["train", *data_flags(world), *model_flags(), "--pseudo", "chosen"]
    assert "3 human and 5 pseudo-labelled images" in dry(capsys, train, world)
    line = refused(capsys, [*train, "--policy.score-threshold", "0.9"], world)
    assert line == (
        "pseudo: chosen holds what another policy chose; leave the section policy out, or pass "
        f"--pseudo {world}/pseudo to choose again"
    )
    line = refused(capsys, ["policy", "--pseudo", "chosen"], world)
    assert line == f"pseudo: chosen holds what a policy chose already; pass {world}/pseudo"
    one_class = write_coco(world / "images" / "one_class.json", classes=("cat",))
    words = ["--data.train", one_class, "--data.val", one_class]
    assert "was labelled with classes ['cat', 'dog']" in refused(capsys, [*train, *words], world)


def test_a_hold_out_decides_thresholds(world, elsewhere, capsys):
    held = ["--policy.target-precision", "0.0", "--policy.holdout", str(world / "eval")]
    assert main(choose(world, *held, "--out", "chosen")) == 0
    holdout = Holdout(
        truths=pq.read_table(world / "eval" / "val.parquet"),
        predictions=pq.read_table(world / "eval" / "predictions.parquet"),
    )
    expected = pseudo_labels(
        read_raw(str(world / "pseudo")), PolicyConfig(target_precision=0.0), CLASSES, holdout
    )
    assert pq.read_table("chosen/labels.parquet").sort_by("image_id").equals(expected)
    capsys.readouterr()
    held[1] = "1.0"  # which weights at random do not reach
    assert main(choose(world, *held, "--out", "strict")) == 0
    printed = capsys.readouterr().out.splitlines()
    said = "no threshold has precision 1.0 on the hold-out for cat, dog: no pseudo label of these"
    assert printed[0] == (
        "holdout    the teacher was not measured on 3 images; people drew 0.33 boxes an image"
    )
    assert printed[1].startswith(f"warning    {said}")
    assert printed[2].endswith("; thresholds none")
    summary = json.loads((elsewhere / "strict" / "summary.json").read_text())
    assert summary["thresholds"] == {"cat": None, "dog": None}
    train = ["train", *data_flags(world), *model_flags(), "--pseudo", str(world / "pseudo")]
    assert f"# warning: {said}" in dry(capsys, [*train, *held], world)


def test_a_hold_out_alone_says_how_good_the_teacher_is(world, elsewhere, capsys):
    shutil.copytree(world / "eval", "measured")
    known = json.loads((world / "eval" / "summary.json").read_text())
    measured = {"figures": ["AP", "AP50", "AP75"], "model": {"AP": 34.21, "AP50": 56.0}}
    write_summary("measured", {**known, **measured})
    words = choose(world, "--policy.holdout", "measured", "--policy.score-threshold", "0.3")
    said = "the teacher has AP 34.2, AP50 56.0 on 3 images; people drew 0.33 boxes an image"
    assert f"5 labelled images to choose from; {said}; nothing was started" in dry(
        capsys, words, world
    )
    assert main([*words, "--out", "chosen"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"holdout    {said}"
    assert printed[1].startswith("policy     5 images, ")
    assert "where people drew 0.33: more than 3 times as many." in printed[2]
    facts = json.loads((elsewhere / "chosen" / "summary.json").read_text())["pseudo"]
    assert facts["human_boxes_per_image"] == pytest.approx(1 / 3)
    assert facts["human_labels_per_class"] == {"cat": 1, "dog": 0}
    assert main([*words, "--out", "chosen"]) == 0  # finished: the same, from the summary
    assert capsys.readouterr().out.splitlines() == printed[1:]
    assert main(["report", "chosen"]) == 0
    page = (elsewhere / "chosen" / "report.html").read_text()
    assert "people drew 0.33" in page
    assert "scores from 0.3 on" in page
    train = ["train", *data_flags(world), *model_flags(), "--pseudo", str(world / "pseudo")]
    export = ["export", "--pseudo", str(world / "pseudo"), "--format", "coco"]
    for others in (train, export):
        line = refused(capsys, [*others, "--policy.holdout", "measured"], world)
        assert line.startswith("policy.holdout: must be left out without policy.target_precision")


@pytest.mark.parametrize(("ap", "said"), [(1.26, "AP 1.3"), (None, "no AP")])
def test_a_teacher_that_finds_nothing_is_told_before_the_work(world, elsewhere, capsys, ap, said):
    shutil.copytree(world / "eval", "weak")
    known = json.loads((world / "eval" / "summary.json").read_text())
    write_summary("weak", {**known, "figures": ["AP"], "model": {"AP": ap}})
    words = choose(world, "--policy.holdout", "weak")
    warning = f"warning    the teacher has {said} on the hold-out: a student learns its mistakes."
    assert f"# {warning.replace('    ', ': ')}" in dry(capsys, words, world)
    assert main([*words, "--out", "chosen"]) == 0
    assert capsys.readouterr().out.startswith(warning)


def test_a_hold_out_that_is_none(world, elsewhere, capsys):
    asked = ["--policy.target-precision", "0.9"]
    label_words = ["label", "--images", str(world / "images"), "--teacher", str(world / "teacher")]
    train = ["train", *data_flags(world), *model_flags(), "--pseudo", str(world / "pseudo")]
    for words in (choose(world), label_words, train):
        line = refused(capsys, [*words, *asked], world)
        assert line.startswith("policy.holdout: is missing, and policy.target_precision needs it;")
    line = refused(capsys, choose(world, *asked, "--policy.holdout", "nowhere"), world)
    assert line.startswith("policy.holdout: nowhere holds no finished predictions; pass ")
    (elsewhere / "other").mkdir()
    for name in ("val.parquet", "predictions.parquet"):
        (elsewhere / "other" / name).write_bytes((world / "eval" / name).read_bytes())
    words = choose(world, *asked, "--policy.holdout", "other")
    for summary, said in (
        ({"classes": ["cat"], "model_sha256": "0"}, "has classes ['cat'], the pool ['cat', 'dog']"),
        ({"classes": CLASSES, "model_sha256": "0"}, "holds predictions of another model than the"),
        ({"classes": CLASSES}, "holds predictions of another model than the teacher"),
    ):
        write_summary(elsewhere / "other", summary)
        line = refused(capsys, words, world)
        assert line.startswith(f"policy.holdout: other {said}")
    save_talkative(elsewhere / "other")  # the teacher's own folder says whose predictions these are
    dry(capsys, words, world)
    run = ["run", *data_flags(world), "--data.unlabeled", str(world / "images"), *model_flags()]
    line = refused(capsys, [*run, *asked, "--policy.holdout", "other"], world)
    assert line.startswith("policy.holdout: must be left out: the teacher of a run is measured on")
    dry(capsys, [*run, *asked], world)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--policy.class-thresholds", "cta 0.5"],
            "policy.class_thresholds: 'cta' is no class",
        ),
        (["--policy.ignore-from", "0.6"], "policy.ignore_from: must be below a threshold, got 0.6"),
        (["--address", "local"], "--address: unknown flag; "),
    ],
)
def test_a_policy_that_cannot_be(world, capsys, flags, said):
    assert refused(capsys, choose(world, *flags), world).startswith(said)


def test_fields_of_boxes_are_refused_for_classes(world, capsys):
    words = ["demo", "--config", "demo_classification", "--policy.min-size-px", "8"]
    line = refused(capsys, words, world)
    assert line == "policy.min_size_px: must be left out for classification, got 8.0; pass 0.0"
