"""The report: one file that holds the figures, says the verdict plainly and reaches for nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pages import render
from PIL import Image

from ray_st.config import UserError, as_dict
from ray_st.data.labels import Detections, Origin
from ray_st.data.rows import FAILURE_ROW, pack
from ray_st.labeling.policy import PolicyConfig
from ray_st.report import pseudo, wording, write_report
from ray_st.report.run_files import read_curve, rows_of, spread_rows, stage_folder

pytestmark = pytest.mark.pure

EVIL = "<script>alert(1)</script>"
SUMMARY: dict[str, Any] = {
    "verb": "run",
    "teacher": {"AP": 38.2, "AP50": 61.0, "AP75": 40.0, "AP/one": 50.0, f"AP/{EVIL}": 30.0},
    "student": {"AP": 41.6, "AP50": 64.0, "AP75": 44.0, "AP/one": 52.0, f"AP/{EVIL}": -1},
    "human_only": {"AP": 36.9, "AP50": 59.0, "AP75": 39.0},
    "pseudo": {
        "images": 1200,
        "boxes_per_image": 0.5,
        "human_boxes_per_image": 2.5,
        "empty_share": 0.62,
        "failures": 3,
        "precision": 0.91,
        "recall": None,
    },
    "sweep": [
        {"alpha": 0.5, "normalised": True, "AP": 40.0},
        {"alpha": 1.0, "normalised": True, "AP": 41.6},
        {"alpha": 4.0, "normalised": False, "AP": None},
    ],
    "seconds": {"teacher": 62.0, "label": 4.25, "student": 7300.0},
    "classes": ["one", EVIL],
    "versions": {"ray": "2.60.0"},
    "findings": {"normalised_helps": True},
}


def write_summary(out: Path, **changes: Any) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps({**SUMMARY, **changes}))


def write_metrics(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pseudo = folder.name == "student"
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, 60):
            loss = 100.0 / step
            record = {"step": step, "loss": loss, "loss_human": loss,
                      "loss_pseudo": loss / 2 if pseudo else None, "mean_human": loss,
                      "mean_pseudo": float("nan") if step < 3 else loss / 2}  # fmt: skip
            file.write(json.dumps(record) + "\n")
        file.write('{"step": 60, "lo')  # cut off while writing


def write_labels(path: Path, images: list[Path], origin: Origin, score: float) -> None:
    two = Detections.of([[8, 8, 40, 40], [50, 20, 90, 70]], [0, 1], scores=[score, 0.2])
    labels = [Detections.of() if i == 0 else two for i in range(len(images))]
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pack(image_ids=range(len(images)), uris=[str(image) for image in images],
                 sizes_hw=[(97, 131)] * len(images), labels=labels, origin=origin)  # fmt: skip
    pq.write_table(table, path)


def write_failures(folder: Path, count: int) -> None:
    rows = [{"image_id": i, "uri": f"s3://pool/bad_{i}.jpg", "stage": "decode",
             "reason": f"truncated {EVIL}"} for i in range(count)]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=FAILURE_ROW), folder / "failures.parquet")


def write_stage(out: Path, **summary: Any) -> None:
    """The summary that a verb leaves when it ran one stage alone."""
    out.mkdir()
    facts = {"classes": ["one", "two"], "findings": {"train": {}}, "versions": {"ray": "2.60.0"}}
    (out / "summary.json").write_text(json.dumps({**facts, **summary}))


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    images = [tmp_path / f"{i}.jpg" for i in range(5)]
    for image in images[:3]:
        Image.fromarray(rng.integers(0, 255, (97, 131, 3), np.uint8)).save(image)
    images[3].write_bytes(b"not an image")  # and the last does not exist
    return images


@pytest.fixture
def run_folder(tmp_path: Path, images: list[Path]) -> Path:
    out = tmp_path / "out"
    write_summary(out)
    (out / "recipe.yaml").write_text("train:\n  alpha: 1.0  # a & b\n")
    for model in ("teacher", "student", "human_only"):
        write_metrics(out / model)
        write_labels(out / model / "predictions.parquet", images, Origin.PSEUDO, 0.9)
    write_labels(out / "val.parquet", images, Origin.HUMAN, 1.0)
    write_labels(out / "pseudo" / "labels.parquet" / "part-0.parquet", images, Origin.PSEUDO, 0.8)
    return out


def test_the_page_holds_the_figures_and_the_verdict(run_folder: Path) -> None:
    html, page = render(run_folder)
    assert "The student is better than its teacher (+3.4 AP)" in page.text  # 41.6 - 38.2
    assert "than human labels only (+4.7 AP)" in page.text  # 41.6 - 36.9
    assert "41.6" in page.text
    assert "<strong>64.0</strong>" in html
    assert "alpha: 1.0  # a & b" in page.text
    assert "2 h 1 min" in page.text
    assert "62% of the pool images have no pseudo label" in page.text
    assert "less than a quarter" in page.text
    assert "recall" not in page.text  # null: nothing is said


def test_the_page_reaches_for_nothing_outside(run_folder: Path) -> None:
    html, page = render(run_folder)
    assert "http:" not in html
    assert "https:" not in html
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.tags:
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("xlink:href") or "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import", html)
    assert len(html) < 3_000_000


def test_the_gallery_shows_readable_images_with_words_for_those_who_cannot_see(
    run_folder: Path,
) -> None:
    _, page = render(run_folder)
    images = page.all("img")
    assert len(images) == 3 * 3 + 3  # three readable images: three views each, and the pool
    alts = [image["alt"] for image in images]
    assert alts[:3] == ["Human labels: no box", "Teacher: no box", "Student: no box"]
    assert alts[3] == f"Human labels: one, {EVIL}"
    assert alts[4] == "Teacher: one 0.90"  # the box of score 0.2 is below 0.3
    assert alts[-1] == f"Pseudo labels: one 0.80, {EVIL} 0.20"  # accepted: all of them drawn
    assert all(div.get("aria-label") for div in page.all("div") if div.get("role") == "img")


def test_plots_are_svg_in_the_colours_of_the_page_with_ids_of_their_own(run_folder: Path) -> None:
    html, page = render(run_folder)
    assert len(page.all("svg")) == 3
    assert "var(--pseudo)" in html.split("<svg")[1]
    ids = [str(attributes["id"]) for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_names_from_outside_are_escaped(run_folder: Path) -> None:
    html, _ = render(run_folder)
    assert EVIL not in html
    assert "&lt;script&gt;" in html


def test_a_summary_alone_is_enough(tmp_path: Path) -> None:
    write_summary(tmp_path, sweep=[])
    _, page = render(tmp_path)
    assert "+3.4 AP" in page.text
    assert not page.all("img")
    assert not page.all("svg")


def test_an_empty_folder_makes_a_page_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    _, page = render(tmp_path)
    assert "No result yet." in page.text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]  # no half-written file
    with pytest.raises(ValueError, match="no such folder"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("model", "pseudo_images", "trained"),
    [
        ("teacher", 0, "Trained for 60 steps on 1,500 human-labelled images."),
        ("student", 40, "Trained for 60 steps on 1,500 human-labelled images and 40 with pseudo"),
    ],
)
def test_a_train_folder_shows_its_one_model(
    tmp_path: Path, images: list[Path], model: str, pseudo_images: int, trained: str
) -> None:
    out = tmp_path / model
    write_stage(out, verb="train", **{model: {"AP": 34.5, "AP50": 56.0}}, steps=60,
                human_images=1500, pseudo_images=pseudo_images, seconds={"train": 12})  # fmt: skip
    write_metrics(out)
    write_labels(out / "predictions.parquet", images, Origin.PSEUDO, 0.9)
    write_labels(out / "val.parquet", images, Origin.HUMAN, 1.0)
    html, page = render(out)
    assert f"<h1>The {model} reaches 34.5\u00a0AP.</h1>" in html
    assert "<td>34.5</td>" in html  # one model alone is not marked as best
    assert trained in page.text
    assert len(page.all("svg")) == 1
    assert page.text.count("human labels only") == 0  # of no model that is not here
    assert len(page.all("img")) == 3 * 2
    assert page.all("img")[3]["alt"] == f"{model.capitalize()}: one 0.90"
    assert "Findings" not in page.text  # there were none
    assert "Train12 s" in re.sub(r"\s*\n\s*", "", page.text)


def test_a_label_folder_shows_its_labels_and_names_failures(
    tmp_path: Path, images: list[Path]
) -> None:
    out = tmp_path / "label"
    pseudo = {"images": 1200, "boxes_per_image": 0.5, "human_boxes_per_image": 0.0,
              "empty_share": 0.25, "failures": 9}  # fmt: skip
    write_stage(out, verb="label", pseudo=pseudo, speed={"images_per_s": 54.32},
                seconds={"label": 22.1})  # fmt: skip
    write_labels(out / "labels.parquet", images, Origin.PSEUDO, 0.8)
    write_failures(out, 9)
    html, page = render(out)
    assert "<h1>The teacher labelled 1,200 images.</h1>" in html
    assert "54.3 images/s, bare model not measured (too few images)." in page.text
    assert "people drew" not in page.text  # no human label was there to count
    assert "25%" in page.text
    assert [image["alt"] for image in page.all("img")][1] == "Pseudo labels: one 0.80, two 0.20"
    assert "9 images failed; the first 8" in page.text
    assert page.text.count("decode") == 8
    assert "bad_0.jpg" in page.text
    assert "s3://" not in page.text
    assert EVIL not in html


LABELLED: dict[str, Any] = {
    "pseudo": {"images": 1200, "boxes_per_image": 2.0, "empty_share": 0.25, "failures": 0,
               "labels_per_class": {"one": 300, EVIL: 100, "$x$": 0},
               "human_labels_per_class": {"one": 5, EVIL: 15, "$x$": 0},
               "score_histogram": [0, 90, 10, *[5] * 17]},
    "thresholds": {"one": 0.3, EVIL: 0.6, "$x$": None},
    "policy": {"score_threshold": 0.5, "target_precision": 0.9, "max_per_image": 5},
}  # fmt: skip


def test_a_policy_folder_shows_scores_thresholds_and_classes(tmp_path: Path) -> None:
    write_stage(tmp_path / "policy", verb="policy", **LABELLED)
    html, page = render(tmp_path / "policy")
    text = " ".join(page.text.split())
    rule = "precision 0.9 on the hold-out (scores from 0.30 to 0.60 on); at most 5 of an image."
    assert f"What the teacher wrote on the pool, as the policy chose it: {rule}" in text
    (drawing,) = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert "thresholds 0.30 to 0.60" in drawing
    assert "var(--pseudo)" in drawing
    (alt,) = [each["aria-label"] for each in page.all("div") if each.get("role") == "img"]
    assert alt is not None
    assert alt.startswith("Scores of all predictions. Most, 49%, lie between 0.05 and 0.1.")
    rows = re.findall(r"<li><span>(.*?)</span>.*?</li>", html.split('"classes">')[1], re.DOTALL)
    assert rows == ["one", "&lt;script&gt;alert(1)&lt;/script&gt;", "$x$"]  # most frequent first
    assert "75%people 25%" in text
    assert "25%people 75%" in text
    assert EVIL not in html
    widths = re.findall(r'fill (\w+)" style="width: ([\d.]+)%', html)
    assert widths == [
        *[("pseudo", "100.0"), ("human", "33.33")],  # 75% is the longest of all
        *[("pseudo", "33.33"), ("human", "100.0")],
        *[("pseudo", "0.0"), ("human", "0.0")],
    ]


def test_twenty_classes_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    counts = {f"class {k}": max(0, 22 - k) for k in range(25)}
    pseudo = {**LABELLED["pseudo"], "labels_per_class": counts, "human_labels_per_class": None}
    write_stage(tmp_path / "label", verb="label", **{**LABELLED, "pseudo": pseudo})
    html, page = render(tmp_path / "label")
    names = re.findall(r"<li><span>(.*?)</span>", html)
    assert names == [f"class {k}" for k in range(20)]
    assert "5 more classes, 3 of them without a label." in page.text
    assert "people " not in html.split('"classes">')[1].split("</ul>")[0]


@pytest.mark.parametrize(
    ("policy", "scores", "said"),
    [
        ({}, [0.5, 0.5, 0.5], "scores from 0.5 on."),
        ({"class_thresholds": ["one 0.7"]}, [0.7, 0.5], "scores from 0.50 to 0.70 on, by class."),
        ({"balance_share": 0.2, "max_per_class": 1000}, [0.21, 0.6],
         "the best 20% of each class (scores from 0.21 to 0.60 on); at most 1,000 of a class."),
        ({"target_precision": 1.0}, [None], "precision 1 on the hold-out (of no class)."),
        ({"nms": "soft", "min_size_px": 8.0, "ignore_from": 0.3}, [0.5],
         "scores from 0.5 on; sides of 8 px or more; boxes from 0.3 on that are no labels are no "
         "background either; soft NMS once more."),
        ({"soft_targets": True}, [0.5], "scores from 0.5 on; probabilities as targets."),
    ],
)  # fmt: skip
def test_the_page_says_what_the_policy_was(
    policy: dict[str, Any], scores: list[float | None], said: str
) -> None:
    thresholds = {f"class {k}": score for k, score in enumerate(scores)}
    summary = {"policy": {**as_dict(PolicyConfig()), **policy}, "thresholds": thresholds}
    assert pseudo.chosen_by(summary).endswith(f"as the policy chose it: {said}")
    assert pseudo.chosen_by({"thresholds": thresholds}).startswith("What the policy kept")


@pytest.mark.parametrize(
    "odd", [{"score_histogram": ["x"]}, {"score_histogram": 3}, {"labels_per_class": [1]},
            {"labels_per_class": {"one": "x"}}, {"score_histogram": [], "empty_share": "x"}]
)  # fmt: skip
def test_odd_facts_are_left_out(tmp_path: Path, odd: dict[str, Any]) -> None:
    write_stage(tmp_path / "label", verb="label", pseudo={**LABELLED["pseudo"], **odd})
    html, _ = render(tmp_path / "label")
    (name,) = list(odd)[:1]
    assert ("<svg" in html) == (name != "score_histogram")
    assert ('class="classes"' in html) == (name != "labels_per_class")


def test_an_eval_folder_shows_its_model(tmp_path: Path, images: list[Path]) -> None:
    out = tmp_path / "eval"
    write_stage(out, verb="eval", model={"AP": 34.5, "AP75": 0.4, "APm": None, "AP/one": 20.0},
                images=5, failures=1, seconds={"eval": 3.0})  # fmt: skip
    write_labels(out / "predictions.parquet", images, Origin.PSEUDO, 0.9)
    write_labels(out / "val.parquet", images, Origin.HUMAN, 1.0)
    write_failures(out, 1)
    html, page = render(out)
    assert "<h1>The model reaches 34.5\u00a0AP.</h1>" in html
    assert "Measured on 5 images." in page.text
    assert "<td>0.4</td>" in html  # a figure below 1 is in points too
    assert "1 image failed" in page.text
    assert [image["alt"] for image in page.all("img")][2:4] == [
        "Human labels: one, two",
        "Model: one 0.90",
    ]


def test_a_sweep_folder_shows_a_chart_and_a_table_of_its_alphas(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"alpha": 0.25, "normalised": True, "AP": 31.0, "AP50": 52.5},
        {"alpha": 4.0, "normalised": True, "AP": 34.5, "AP50": 51.0},
        {"alpha": 4.0, "normalised": False, "AP": 28.0, "AP50": None},
    ]
    write_stage(tmp_path / "sweep", verb="sweep", sweep=rows, seconds={"sweep": 90})
    html, page = render(tmp_path / "sweep")
    assert "The best alpha is 4, with the normalised loss: 34.5 AP." in page.text
    body = html.split("<tbody>")[1].split("</tbody>")[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>")[:-1]]
    assert cells == [
        ["0.25", "normalised loss", "31.0", "<strong>52.5</strong>"],
        ["4", "normalised loss", "<strong>34.5</strong>", "51.0"],
        ["4", "plain sum", "28.0", "–"],
    ]
    (drawing,) = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert "plain sum 28.0" in drawing  # beside its point
    write_summary(tmp_path / "diverged", sweep=[{**row, "AP": None} for row in rows])
    assert "plain sum: diverged" in render(tmp_path / "diverged")[0]


def test_a_sweep_in_which_all_diverged_is_said_plainly() -> None:
    sweep = [{"alpha": 1, "normalised": True, "AP": None}]
    assert wording.headline({"sweep": sweep}) == "No alpha reached any AP: every trial diverged."


def test_the_failures_of_a_run_are_found_beside_its_pseudo_labels(run_folder: Path) -> None:
    assert "Images that failed" not in render(run_folder)[1].text
    write_failures(run_folder / "pseudo", 3)
    assert "3 images failed" in render(run_folder)[1].text


def test_a_stage_is_in_its_sub_folder_or_else_at_the_root(tmp_path: Path) -> None:
    assert stage_folder(tmp_path, {"teacher": {}}, "teacher") == tmp_path
    assert stage_folder(tmp_path, {"teacher": {}}, "student") == tmp_path / "student"
    (tmp_path / "teacher").mkdir()
    assert stage_folder(tmp_path, {"teacher": {}}, "teacher") == tmp_path / "teacher"


def test_a_diverged_run_is_named_in_the_sweep(tmp_path: Path) -> None:
    write_summary(tmp_path)
    _, page = render(tmp_path)
    assert "Diverged: plain sum at alpha 4." in page.text
    write_summary(tmp_path, sweep=[{"alpha": 1, "normalised": True, "AP": None}])
    render(tmp_path)  # nothing but a diverged run


@pytest.mark.parametrize(
    ("student", "verdict"),
    [
        (30.0, "worse than its teacher (−8.2 AP) and than human labels only (−6.9 AP)"),
        (37.5, "worse than its teacher (−0.7 AP) but better than human labels only (+0.6 AP)"),
        (38.21, "level with its teacher (±0.0 AP) but better than human labels only (+1.3 AP)"),
    ],
)
def test_a_student_that_is_not_better_is_said_plainly(student: float, verdict: str) -> None:
    assert wording.headline({**SUMMARY, "student": {"AP": student}}) == f"The student is {verdict}."


def test_a_small_difference_carries_a_caution() -> None:
    assert "can be chance" in wording.caution({**SUMMARY, "student": {"AP": 37.5}})
    assert wording.caution(SUMMARY) == ""


def test_a_student_without_ap_is_not_passed_over(tmp_path: Path) -> None:
    write_summary(tmp_path, student={"AP": float("nan")})
    assert "The student has no AP" in render(tmp_path)[1].text


def test_of_a_step_logged_twice_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "loss": 5}\n{"step": 1, "loss": null}\n{"step": 2, "loss": 3}\n')
    curve = read_curve(path)
    assert curve["step"].tolist() == [1, 2]
    np.testing.assert_array_equal(curve["loss"], [np.nan, 3])


def test_rows_are_spread_over_the_file_and_found_again(run_folder: Path) -> None:
    path = run_folder / "val.parquet"
    assert [image.image_id for image in spread_rows(path, 3)] == [0, 2, 4]
    assert [image.image_id for image in spread_rows(path, 9)] == [0, 1, 2, 3, 4]
    assert sorted(rows_of(path, [4, 1, 77])) == [1, 4]
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert spread_rows(path, 3) == []


@pytest.mark.parametrize("junk", [b"", b"PAR1", b"no parquet at all" * 9])
@pytest.mark.parametrize(
    "name",
    [
        "val.parquet",
        "student/predictions.parquet",
        "pseudo/labels.parquet",
        "pseudo/failures.parquet",
    ],
)
def test_a_damaged_parquet_file_is_left_out_and_named(
    run_folder: Path, caplog: pytest.LogCaptureFixture, name: str, junk: bytes
) -> None:
    write_failures(run_folder / "pseudo", 2)
    path = run_folder / name
    if path.is_dir():
        (path / "part-0.parquet").unlink()
        path.rmdir()
    path.write_bytes(junk)
    _, page = render(run_folder)
    assert "41.6" in page.text
    # Three images in four columns, less what the file would have shown.
    lost = {"val.parquet": 9, "student": 3, "pseudo": 3 if "labels" in name else 0}
    assert len(page.all("img")) == 12 - lost[name.partition("/")[0]]
    assert f"{path}: is damaged, left out of the report: " in caplog.text
    assert "\n\n" not in caplog.text


@pytest.mark.parametrize("damage", ["a column gone", "a null", "boxes of three numbers"])
def test_parquet_of_another_kind_is_left_out_and_named(
    run_folder: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = run_folder / "student" / "predictions.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["boxes_xyxy"] = row["boxes_xyxy"][:3] if "three" in damage else row["boxes_xyxy"]
        row["uri"] = None if "null" in damage else row["uri"]
    table = pa.Table.from_pylist(rows, schema=pq.read_schema(path))
    pq.write_table(table.drop(["scores"]) if "gone" in damage else table, path)
    _, page = render(run_folder)
    assert len(page.all("img")) == 9
    assert f"{path}: is damaged, left out of the report: " in caplog.text


def test_damaged_lines_of_a_log_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    good = b'{"step": 1, "loss": 5}\n{"step": 2, "loss": 3}\n'
    lines = [b"[1]", b'"step"', b"null", b"{", b"\xff\xfe\x00", b"", b'{"loss": 1}',
             b'{"step": null}', b'{"step": "one"}', b'{"step": NaN}', b'{"step": Infinity}',
             b"[" * 100_000]  # fmt: skip
    path.write_bytes(good + b"\n".join(lines))
    assert read_curve(path)["loss"].tolist() == [5, 3]
    said = f"{path}: line 3 and {len(lines) - 1} more: no logged step, left out of the report"
    assert [record.message for record in caplog.records] == [said]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sweep": {}}, "sweep: must be a list, got {}"),
        ({"sweep": [3]}, "sweep[0]: must be an object, got 3"),
        ({"sweep": [{"AP": 3}]}, "sweep[0].alpha: must be a number, got None"),
        ({"sweep": [{"alpha": "x"}]}, "sweep[0].alpha: must be a number, got 'x'"),
        ({"sweep": [{"alpha": 1}]}, "sweep[0].normalised: must be true or false, got None"),
        ({"student": [1]}, "student: must be an object, got [1]"),
        ({"pseudo": "x"}, "pseudo: must be an object, got 'x'"),
        ({"seconds": 12}, "seconds: must be an object, got 12"),
        ({"classes": {"a": 1}}, "classes: must be a list, got {'a': 1}"),
        ({"figures": "AP"}, "figures: must be a list, got 'AP'"),
        ({"figures": ["AP", 5]}, "figures[1]: must be the name of a metric, got 5"),
    ],
)
def test_a_summary_of_another_shape_is_one_line(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    write_summary(tmp_path, **changes)
    with pytest.raises(UserError) as caught:
        write_report(tmp_path)
    line = f"{tmp_path}/summary.json: {said}; remove the file and run its verb again"
    assert str(caught.value) == line
    write_summary(tmp_path, **dict.fromkeys(changes))  # null: not there
    render(tmp_path)
