"""Labels from several views of each image: merged on the way, and never mixed with others."""

import json
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from test_cli import model_flags, write_coco
from test_policy_verb import save_talkative
from tiny import tiny_task

from ray_st.cli import main
from ray_st.config import UserError
from ray_st.data.images import Source, fetch, fit
from ray_st.data.labels import Detections
from ray_st.data.rows import unpack
from ray_st.data.sources import open_labeled
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.data.sources.folder import list_images
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.looks import Looks
from ray_st.labeling.policy import PolicyConfig
from ray_st.labeling.pool import label, read_raw
from ray_st.labeling.store import Store
from ray_st.labeling.teacher import SavedTeacher, Teacher
from ray_st.labeling.verify import findings
from ray_st.models.saved import read_model
from ray_st.selftraining.stages import label_stage
from ray_st.verbs.eval import measured

HERE = LabelConfig(actors=(0, 0), batch_size=3)
MANY = replace(HERE, flip=True, scales=(0.5, 1.0, 1.5))
CARD = {"sides_px": [96, 64, 32], "flip": True}
PLAIN = {"sides_px": [64], "flip": False}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    config = DigitsConfig(
        labeled_scenes=1, val_scenes=1, pool_scenes=7, labeled_digits=30, scene_px=80,
        digits_per_scene=(1, 3), digit_px=(18, 28), classes=(0, 1, 2),
    )  # fmt: skip
    write_world(root, config, Detections)
    save_talkative(root / "teacher")
    (root / "val").mkdir()
    for i, path in enumerate(sorted((root / "images" / "pool").glob("*.jpg"))[:3]):
        shutil.copy(path, root / "val" / f"{i}.jpg")
    write_coco(root / "val" / "good.json")
    return root


@pytest.fixture(scope="module")
def teacher(world):
    return SavedTeacher(saved=read_model(world / "teacher", "teacher"), task=tiny_task())


@pytest.fixture(scope="module")
def pool(world):
    return Images.of_rows(list_images(str(world / "images" / "pool")))


def assert_same_rows(one, other):
    assert one["image_id"].to_pylist() == other["image_id"].to_pylist()
    for a, b in zip(unpack(one), unpack(other), strict=True):
        assert len(a) == len(b) > 0
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


@pytest.mark.pure
@pytest.mark.parametrize(("config", "side"), [(HERE, 64), (MANY, 96)])
def test_the_pool_gives_what_the_teacher_says_of_the_largest_views(
    pool, teacher, tmp_path, config, side
):
    label(pool, teacher, tmp_path, config, None, exact=True)
    rows = read_raw(tmp_path)
    looks = Looks(sides_px=(96, 64, 32), flip=True) if side == 96 else None
    bare = Teacher(teacher.saved.load("cpu"), teacher.task, looks=looks)
    for uri, found in zip(rows["uri"].to_pylist(), unpack(rows), strict=True):
        source = Source(fetch(uri))
        (one,) = bare.predict(fit(source, side)[None], np.array([source.size_hw]))
        assert len(one) == len(found) > 0
        np.testing.assert_allclose(one.scores, found.scores, atol=1e-5)


@pytest.mark.pure
@pytest.mark.parametrize(("config", "card"), [(HERE, PLAIN), (MANY, CARD)])
def test_every_file_says_which_views_its_labels_are_from(pool, teacher, tmp_path, config, card):
    label(pool, teacher, tmp_path, config, None)
    store = Store(str(tmp_path / "raw"))
    assert store.card["views"] == card
    (file,) = store.shard(0).files()
    metadata = pq.read_schema(file).metadata
    assert json.loads(metadata[b"ray_st.views"]) == card
    assert metadata[b"ray_st.teacher_sha256"].decode() == teacher.digest
    assert findings(store) == []
    (tmp_path / "raw" / "store.json").write_text(
        json.dumps({**store.card, "views": {**card, "flip": not card["flip"]}})
    )
    (found,) = findings(store)
    assert f"{Path(file).name}: was labelled from other views (" in found


@pytest.mark.pure
def test_labels_of_other_views_are_not_mixed_in(pool, teacher, tmp_path):
    label(pool, teacher, tmp_path, MANY, None)
    label(pool, teacher, tmp_path, replace(MANY, scales=(1.5, 1.0, 0.5)), None)  # the same views
    for other in (HERE, replace(MANY, flip=False), replace(MANY, scales=(1.0,))):
        with pytest.raises(UserError, match=r"holds labels of another kind \(views differ\)"):
            label(pool, teacher, tmp_path, other, None)
    # A store whose card tells of no views: nobody knows what they were.
    path = tmp_path / "raw" / "store.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in card.items() if name != "views"}))
    with pytest.raises(UserError, match=r"another kind \(views differ\)"):
        label(pool, teacher, tmp_path, MANY, None)


@pytest.mark.pure
def test_the_summary_of_a_labelling_tells_the_views(pool, teacher, tmp_path):
    policy = PolicyConfig(score_threshold=0.0)
    summary = label_stage(pool, teacher, tmp_path, MANY, policy, None)
    assert summary["views"] == CARD


@pytest.mark.pure
@pytest.mark.parametrize("verb", ["label", "eval", "run", "demo"])
def test_views_that_the_model_does_not_take_are_refused_first(
    world, tmp_path, monkeypatch, capsys, verb
):
    monkeypatch.chdir(tmp_path)
    data, pool = f"coco:{world}/val/good.json", f"{world}/images/pool"
    words = {
        "label": ["--images", pool, "--teacher", f"{world}/teacher"],
        "eval": ["--data", data, "--model", f"{world}/teacher"],
        "run": ["--data.train", data, "--data.val", data, "--data.unlabeled", pool, *model_flags()],
        "demo": model_flags(),
    }[verb]
    assert main([verb, *words, "--label.scales", "1", "1.05", "--dry-run"]) == 2
    assert capsys.readouterr().err == (
        "ray-st: label.scales: must be scales of model.image_size_px 64 that come to sizes apart, "
        "in steps of 16, got (1.0, 1.05); they come to [64, 64]\n"
    )
    assert main([verb, *words, "--label.scales", "0", "--dry-run"]) == 2
    assert "label.scales: must be one or more, each above 0" in capsys.readouterr().err
    assert main([verb, *words, "--label.scales", "1", "0.5", "--label.flip", "--dry-run"]) == 0
    assert not [*tmp_path.iterdir()]


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_actors_look_as_often_as_the_calling_process(pool, teacher, tmp_path):
    torch.set_num_threads(1)
    label(pool, teacher, tmp_path / "here", MANY, None)
    config = replace(MANY, actors=(1, 1), block_images=4, readers=1)
    label(pool, teacher, tmp_path / "actors", config, None)
    assert_same_rows(read_raw(tmp_path / "actors"), read_raw(tmp_path / "here"))
    assert findings(Store(str(tmp_path / "actors" / "raw"))) == []


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_eval_looks_as_it_is_told_and_says_so(world, teacher, tmp_path):
    truth, scores = open_labeled(f"coco:{world}/val/good.json"), []
    for name, config, card in (("once", HERE, PLAIN), ("often", MANY, CARD)):
        (tmp_path / name).mkdir()
        console = Console(file=StringIO())
        summary = measured(teacher, truth, tmp_path / name, config, console)
        assert summary["views"] == card
        scores.append(read_raw(tmp_path / name)["scores"].to_pylist())
    assert scores[0] != scores[1]
