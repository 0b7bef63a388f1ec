"""Reports on class maps and on classes: the same page, in the words of what was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pages import render
from PIL import Image

from ray_st.config import UserError
from ray_st.data.labels import IGNORE, ClassLabel, Detections, Labels, Origin, SegmentationMap
from ray_st.data.rows import pack
from ray_st.report import figures, pseudo, wording
from ray_st.report.class_colours import class_colours

pytestmark = pytest.mark.pure

CLASSES = ["sky", "road", "car"]


def put(path: Path, uris: Sequence[str], labels: Sequence[Labels], origin: Origin) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pack(image_ids=range(len(uris)), uris=uris, sizes_hw=[(0, 0)] * len(uris),
                 labels=labels, origin=origin)  # fmt: skip
    pq.write_table(table, path)


def map_of(rows: list[list[int]]) -> SegmentationMap:
    return SegmentationMap(class_map=np.array(rows, np.uint8))


@pytest.fixture
def uris(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(path)
    return [str(path) for path in paths]


def write_run(out: Path, summary: dict[str, Any], uris: list[str], **labels: Any) -> None:
    """A run folder; `labels` are two a stage."""
    out.mkdir()
    (out / "summary.json").write_text(json.dumps({"verb": "run", "classes": CLASSES, **summary}))
    put(out / "val.parquet", uris, labels["val"], Origin.HUMAN)
    for model in ("teacher", "student"):
        put(out / model / "predictions.parquet", uris, labels[model], Origin.PSEUDO)
    put(out / "pseudo" / "labels.parquet", uris, labels["pseudo"], Origin.PSEUDO)


@pytest.fixture
def segmentation(tmp_path: Path, uris: list[str]) -> Path:
    summary = {
        "figures": ["mIoU", "pixel_accuracy"],
        "teacher": {"mIoU": 50.0, "pixel_accuracy": 80.0, "IoU/sky": 70.0, "IoU/a/b": None},
        "student": {"mIoU": 53.5, "pixel_accuracy": 79.5, "IoU/sky": 72.0, "IoU/a/b": 1.0},
        "pseudo": {"images": 90, "labelled_share": 0.2, "human_labelled_share": 0.97,
                   "empty_share": 0.1, "failures": 0, "precision": 0.4, "recall": 0.15},
        "sweep": [
            {"alpha": 0.5, "normalised": True, "mIoU": 53.0, "pixel_accuracy": 80.1},
            {"alpha": 2.0, "normalised": False, "mIoU": None, "pixel_accuracy": None},
        ],
    }  # fmt: skip
    write_run(
        tmp_path / "out", summary, uris,
        val=[map_of([[0, 0], [1, IGNORE]]), SegmentationMap.unknown()],
        teacher=[map_of([[0, 1], [0, 0]])] * 2,
        student=[map_of([[0, 0], [1, 1]])] * 2,
        pseudo=[map_of([[2, IGNORE], [IGNORE, IGNORE]]), map_of([[0, 0], [0, 0]])],
    )  # fmt: skip
    return tmp_path / "out"


@pytest.fixture
def classification(tmp_path: Path, uris: list[str]) -> Path:
    summary = {
        "figures": ["top1", "top5"],
        "teacher": {"top1": 70.0, "top5": 90.0, "top1/sky": 60.0},
        "student": {"top1": 66.5, "top5": 92.0, "top1/sky": 50.0},
        "pseudo": {"images": 90, "labelled_share": 0.3, "human_labelled_share": 1.0,
                   "empty_share": 0.7, "failures": 0, "precision": 0.9, "recall": 0.27},
    }  # fmt: skip
    write_run(
        tmp_path / "out", summary, uris,
        val=[ClassLabel.of([0]), ClassLabel.of([1])],
        teacher=[ClassLabel.of([0, 1], [0.6, 0.4]), ClassLabel.of([2, 1], [0.6, 0.4])],
        student=[ClassLabel.of([1, 0], [0.8, 0.2]), ClassLabel.of([1, 0], [0.9, 0.1])],
        pseudo=[ClassLabel.of(), ClassLabel.of([2], [0.95])],
    )  # fmt: skip
    return tmp_path / "out"


def table_after(html: str, heading: str) -> list[list[str]]:
    """Cells of the first table behind a heading, without marks."""
    body = html.split(heading, 1)[1].split("<tbody>", 1)[1].split("</tbody>", 1)[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>")[:-1]]
    return [[re.sub(r"<span.*</span>", "", cell) for cell in row] for row in rows]


def test_class_maps_are_reported_in_their_own_figures(segmentation: Path) -> None:
    html, page = render(segmentation)
    assert "The student is better than its teacher (+3.5 mIoU)." in page.text
    assert "mIoU on the validation images" in page.text
    assert "student +3.5 mIoU" in page.text
    assert table_after(html, "<h2>Metrics</h2>") == [
        ["mIoU", "50.0", "<strong>53.5</strong>"],
        ["pixel accuracy", "<strong>80.0</strong>", "79.5"],
    ]
    assert table_after(html, "IoU of each class") == [
        ["sky", "70.0", "<strong>72.0</strong>"],
        ["a/b", "–", "<strong>1.0</strong>"],  # a class may have a slash of its own
    ]
    assert table_after(html, "<h2>Sweep over alpha</h2>") == [
        ["0.5", "normalised loss", "<strong>53.0</strong>", "<strong>80.1</strong>"],
        ["2", "plain sum", "–", "–"],
    ]
    assert "mIoU over alpha" in page.text
    assert "Diverged: plain sum at alpha 2." in page.text


def test_class_maps_are_drawn_with_a_legend(segmentation: Path) -> None:
    html, page = render(segmentation)
    assert [image["alt"] for image in page.all("img")] == [
        "Human labels: sky 50%, road 25%, no label 25%",
        "Teacher: sky 75%, road 25%",
        "Student: sky 50%, road 50%",
        "Human labels: no label 100%",
        "Teacher: sky 75%, road 25%",
        "Student: sky 50%, road 50%",
        "Pseudo labels: no label 75%, car 25%",
        "Pseudo labels: sky 100%",
    ]
    assert "Teacher: 2 classes, 33% right" in page.text  # of the three pixels that people labelled
    assert "Student: 2 classes, 100% right" in page.text
    assert "0.png: 1 class, 25% labelled" in page.text
    legends = [re.findall(r"</span>(.*?)</li>", part.split("</ul>")[0])
               for part in html.split('<ul class="legend"')[1:]]  # fmt: skip
    assert legends == [["sky", "road", "no label"]] * 2 + [["sky", "car", "no label"]]
    for class_id in range(3):
        assert f"background: #{bytes(class_colours()[class_id]).hex()}" in html


def test_classes_are_reported_in_their_own_figures(classification: Path) -> None:
    html, page = render(classification)
    headline = "The student is worse than its teacher (−3.5 points of top-1 accuracy)."
    assert headline in page.text
    assert "Top-1 accuracy on the validation images" in page.text
    assert "student −3.5 points" in page.text
    assert [row[0] for row in table_after(html, "<h2>Metrics</h2>")] == [
        "top-1 accuracy",
        "top-5 accuracy",
    ]
    assert table_after(html, "Top-1 accuracy of each class")[0][0] == "sky"


def test_a_class_stands_under_its_picture_right_or_wrong(classification: Path) -> None:
    html, page = render(classification)
    assert [image["alt"] for image in page.all("img")] == [
        "Human labels: sky",
        "Teacher: sky 0.60, right",
        "Student: road 0.80, wrong",
        "Human labels: road",
        "Teacher: car 0.60, wrong",
        "Student: road 0.90, right",
        "Pseudo labels: no class",
        "Pseudo labels: car 0.95",
    ]
    marks = [figure.get("class") for figure in page.all("figure")]
    assert marks == [None, None, "wrong", None, "wrong", None, None, None]
    assert html.count("✓ right") == html.count("✗ wrong") == 2
    assert 'class="legend"' not in html


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_boxes_and_their_figure_are_not_spoken_of_where_there_are_none(
    kind: str, request: pytest.FixtureRequest
) -> None:
    _, page = render(request.getfixturevalue(kind))
    assert not re.search(r"\bbox(es)?\b|\bAP", page.text)


def test_shares_are_facts_and_warnings_in_words_of_their_own(segmentation: Path) -> None:
    html, page = render(segmentation)
    words = " ".join(page.text.split())
    assert '<dt>labelled<span class="context">people labelled 97%</span></dt><dd>20%</dd>' in html
    assert "<dt>images with no label</dt><dd>10%</dd>" in html
    assert "20% labelled, where people labelled 97%: less than a quarter." in words
    assert "Only 40% of the pseudo labels are right." in words


def test_of_classes_the_empty_images_are_told_once(classification: Path) -> None:
    summary = json.loads((classification / "summary.json").read_text())["pseudo"]
    names = [name for _, name, _ in pseudo.facts(summary)]
    assert "labelled" in names
    assert "images with no label" not in names
    few = {**summary, "labelled_share": 0.1, "empty_share": 0.9}
    (warning,) = pseudo.warnings({"pseudo": few})
    assert warning.startswith("90% of the pool images have no pseudo label at all. The student")
    assert "show nothing" not in warning  # that is so of boxes alone


def test_one_model_alone_and_the_best_alpha_are_said_in_the_figure_that_ranks() -> None:
    summary: dict[str, Any] = {"figures": ["top1", "AP"], "teacher": {"top1": 81.24, "AP": 3.0}}
    assert wording.headline(summary) == "The teacher reaches 81.2% top-1 accuracy."
    summary = {"figures": ["pixel_accuracy"], "teacher": {"pixel_accuracy": None}}
    assert wording.headline(summary).startswith("The teacher has no pixel accuracy: ")
    found = ((1, 3.0, 7.0), (2, 9.0, 4.0))
    trials = [{"alpha": a, "normalised": True, "mIoU": v, "AP": w} for a, v, w in found]
    said = wording.headline({"figures": ["mIoU"], "sweep": trials})
    assert said == "The best alpha is 2, with the normalised loss: 9.0 mIoU."


def test_learning_from_images_alone_is_told(tmp_path: Path) -> None:
    learned: dict[str, Any] = {"loss": 0.5249, "accuracy": 0.808}
    summary: dict[str, Any] = {"verb": "pretrain", "simclr": learned, "images": 1018, "steps": 40}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    _, page = render(tmp_path)
    said = "Tells a picture's two views from all others in 81% of cases (loss 0.52)."
    assert said in page.text
    assert "Learned from 1,018 images in 40 steps." in page.text
    assert "No result" not in page.text
    for lost in ({"accuracy": None}, {"loss": None}):  # as a summary holds what is not finite
        summary["simclr"] = {**learned, **lost}
        assert wording.headline(summary) == "The training on pairs of views diverged."
    summary["simclr"] = 3
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match=r"simclr: must be an object, got 3"):
        render(tmp_path)


def test_a_summary_without_figures_is_one_of_boxes_and_an_unknown_figure_is_its_own_name() -> None:
    assert figures.keys({}) == ("AP", "AP50", "AP75")
    assert figures.keys({"figures": []}) == ("AP", "AP50", "AP75")
    assert figures.figure("panoptic_quality").name == "panoptic quality"
    assert figures.class_keys({"model": {"AP": 1.0, "AP/one": 1.0, "AR/one": 2.0}}) == {
        "AP": ["AP/one"],
        "AR": ["AR/one"],
    }


def test_labels_of_two_kinds_stand_in_one_strip_and_are_not_compared(
    segmentation: Path, uris: list[str]
) -> None:
    boxes = [Detections.of([[1, 1, 9, 9]], [0], scores=[0.9])] * 2
    put(segmentation / "teacher" / "predictions.parquet", uris, boxes, Origin.PSEUDO)
    _, page = render(segmentation)
    assert page.all("img")[1]["alt"] == "Teacher: sky 0.90"
    assert "Teacher: 1 box" in page.text


@pytest.mark.parametrize("cut", [0, 8, 30, 45])
def test_a_damaged_class_map_is_left_out_and_named(
    segmentation: Path, caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    path = segmentation / "student" / "predictions.parquet"
    table = pq.read_table(path)
    pngs = [png[:cut] for png in table["class_map_png"].to_pylist()]
    column = table.schema.get_field_index("class_map_png")
    pq.write_table(table.set_column(column, "class_map_png", pa.array(pngs, pa.binary())), path)
    assert len(render(segmentation)[1].all("img")) == 6
    assert f"{path}: is damaged, left out of the report: " in caplog.text
