"""A class of a user's own labels a pool on a cluster, or is told what is wrong."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ray_st.cli import main

pytestmark = pytest.mark.cluster

WEIGHTS = "SCORE = 0.8\n"
MINE = """
from my_weights_here import SCORE

class Mine:
    classes = ["cat", "dog", "cow"]

    def predict(self, images):
        return [
            {"boxes_xyxy": [[0, 0, 64, 32]] * 2, "scores": [SCORE, 0.7], "class_ids": [2, 1]}
            for _ in images
        ]

class Wrong(Mine):
    def predict(self, images):
        return [{**one, "scores": [2, 2]} for one in super().predict(images)]
"""


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A command in a user's folder, with images and a module that imports another."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        image = Image.fromarray(rng.integers(0, 255, (20, 40, 3), np.uint8))
        image.save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "my_weights_here.py").write_text(WEIGHTS)
    (tmp_path / "my_teachers_here.py").write_text(MINE)
    (tmp_path / "names.txt").write_text("animal\ncat\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    return ["label", "--images=images", "--address=local", "--label.actors", "1", "1"]


def test_a_module_of_this_folder(words, capsys):
    mapping = ["--classes", "names.txt", "--class-map", "dog=animal"]
    size = ["--image-size-px", "64", "--out", "out"]
    assert main([*words, "--teacher=my_teachers_here:Wrong", *mapping, *size]) == 2
    line = capsys.readouterr().err
    assert line.startswith("ray-st: teacher: predict gave for image 0 of 4 (32 x 64): scores must ")
    assert line.count("\n") == 1
    assert main([*words, "--teacher=my_teachers_here:Mine", *mapping, *size[:-1], "mine"]) == 0
    said = capsys.readouterr().out
    assert "warning    1 classes of the teacher become none and are dropped: cow" in said
    summary = json.loads(Path("mine/summary.json").read_text())
    assert summary["classes"] == ["animal", "cat"]
    assert summary["dropped_classes"] == ["cow"]
    assert summary["pseudo"]["failures"] == 0
    rows = pq.read_table("mine/labels.parquet").to_pylist()
    assert [row["class_ids"] for row in rows] == [[0]] * 5
    assert [row["boxes_xyxy"] for row in rows] == [[0, 0, 40, 20]] * 5
