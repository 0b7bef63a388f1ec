"""A class of a user's own as a teacher: its contract, and every answer that breaks it."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_st.cli import main
from ray_st.config import UserError
from ray_st.data.labels import IGNORE, ClassLabel, Detections, SegmentationMap
from ray_st.data.placed import fitted_hw
from ray_st.labeling.actor import TeacherActor
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.rows import store_row
from ray_st.labeling.teacher import PredictionError
from ray_st.labeling.teachers.answers import labels_of
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes
from ray_st.labeling.trial import try_out

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[1]
SIZE = (3, 4)
BOXES = {"boxes_xyxy": [[0, 0, 2, 2], [1, 0, 4, 3]], "scores": [0.2, 0.9], "class_ids": [1, 0]}
MAP = {"class_map": np.ones(SIZE, np.uint8), "confidence": np.full(SIZE, 0.5, np.float32)}
CLASSES = {"class_ids": [0, 1], "scores": [0.25, 0.75]}


def said(answer, kind):
    with pytest.raises(PredictionError) as caught:
        labels_of(answer, kind, SIZE, 2)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_boxes_in_any_form(form):
    found = labels_of({k: form(v) for k, v in BOXES.items()}, Detections, SIZE, 2)
    assert found.scores.tolist() == pytest.approx([0.9, 0.2])  # best first
    assert found.class_ids.tolist() == [0, 1]
    assert found.boxes_xyxy.tolist() == [[1, 0, 4, 3], [0, 0, 2, 2]]
    assert found.class_ids.dtype == np.int32


def test_no_box_and_boxes_beside_the_image():
    nothing = {"boxes_xyxy": [], "scores": [], "class_ids": []}
    assert len(labels_of(nothing, Detections, SIZE, 2)) == 0
    beside = {"boxes_xyxy": [[9, 9, 12, 12], [0, 0, 9, 9]], "scores": [1, 1], "class_ids": [0, 0]}
    assert labels_of(beside, Detections, SIZE, 2).boxes_xyxy.tolist() == [[0, 0, 9, 9]]


def test_maps_and_classes():
    found = labels_of(MAP, SegmentationMap, SIZE, 2)
    assert found.class_map.tolist() == np.ones(SIZE).tolist()
    assert np.unique(found.confidence).tolist() == [127]
    bare = {"class_map": np.full(SIZE, IGNORE)}
    found = labels_of(bare, SegmentationMap, SIZE, 2)
    assert (found.class_map.dtype, found.confidence) == (np.uint8, None)
    found = labels_of(CLASSES, ClassLabel, SIZE, 2)
    assert (found.top_class_ids.tolist(), found.top_scores.tolist()) == ([1, 0], [0.75, 0.25])


@pytest.mark.parametrize(
    "labels",
    [
        Detections.of([[0, 0, 2, 2]], [1], scores=[0.5]),
        SegmentationMap(class_map=np.ones(SIZE, np.uint8), confidence=np.ones(SIZE, np.uint8)),
        SegmentationMap(class_map=np.ones(SIZE, np.uint8)),
        ClassLabel.of([1], [0.5]),
    ],
)
def test_our_own_labels_are_answers_too(labels):
    found = labels_of(labels, type(labels), SIZE, 2)
    columns = type(labels).to_columns([found]), type(labels).to_columns([labels])
    assert columns[0] == columns[1]


@pytest.mark.parametrize(
    ("kind", "change", "line"),
    [
        (Detections, {"boxes_xyxy": [0, 0, 2, 2]}, "boxes_xyxy must be of shape (2, 4), got (4,)"),
        (Detections, {"boxes_xyxy": [[0, 0, 2, 2]]},
         "boxes_xyxy must be of shape (2, 4), got (1, 4)"),
        (Detections, {"boxes_xyxy": [[0, 0], [1]]}, "boxes_xyxy must be an array, got "),
        (Detections, {"boxes_xyxy": [[0, 0, 2, np.nan], [0, 0, 1, 1]]},
         "boxes_xyxy must be finite numbers, got NaN or infinity"),
        (Detections, {"boxes_xyxy": [[2, 0, 0, 2], [0, 0, 1, 1]]},
         "boxes_xyxy must be left, top, right, bottom, got [[2, 0, 0, 2]]"),
        (Detections, {"boxes_xyxy": [["a"] * 4] * 2}, "boxes_xyxy must be numbers, got <U1"),
        (Detections, {"scores": [0.1, 1.5]}, "scores must be in 0..1, got [1.5]"),
        (Detections, {"scores": [0.1, np.nan]}, "scores must be finite numbers, got NaN"),
        (Detections, {"scores": [[0.1, 0.2]]}, "scores must be of shape (n,), got (1, 2)"),
        (Detections, {"class_ids": [0]}, "class_ids must be of shape (2,), got (1,)"),
        (Detections, {"class_ids": [0, 2]}, "class_ids must be 0..1, got [2]"),
        (Detections, {"class_ids": [0, -1]}, "class_ids must be 0..1, got [-1]"),
        (Detections, {"class_ids": [0.0, 1.0]}, "class_ids must be of whole numbers, got float64"),
        (Detections, {"labels": [0, 1]},
         "it must be a dict of boxes_xyxy, scores, class_ids, got ['boxes_xyxy', 'class_ids', "),
        (SegmentationMap, {"class_map": np.ones((4, 3), int)},
         "class_map must be of shape (3, 4), got (4, 3)"),
        (SegmentationMap, {"class_map": np.full(SIZE, 2)},
         "class_map must be 0..1 or 255, got [2]"),
        (SegmentationMap, {"class_map": np.ones(SIZE)},
         "class_map must be of whole numbers, got float64"),
        (SegmentationMap, {"confidence": np.full(SIZE, 2.0)}, "confidence must be in 0..1, got [2"),
        (SegmentationMap, {"confidence": np.ones((1, 1))},
         "confidence must be of shape (3, 4), got (1, 1)"),
        (ClassLabel, {"class_ids": [1, 1]}, "class_ids must be each class once, got [1, 1]"),
        (ClassLabel, {"scores": [0.5]}, "class_ids must be of shape (1,), got (2,)"),
    ],
)  # fmt: skip
def test_every_wrong_answer_names_its_field(kind, change, line):
    right = {Detections: BOXES, SegmentationMap: MAP, ClassLabel: CLASSES}[kind]
    assert said({**right, **change}, kind).startswith(line)


def test_answers_of_another_form():
    rule = "it must be a dict of boxes_xyxy, scores, class_ids, got "
    assert said([1, 2], Detections) == rule + "<class 'list'>"
    assert said({"scores": []}, Detections) == rule + "['scores']"
    assert said(ClassLabel.of([1]), Detections) == rule + "['class_ids', 'scores']"
    boxes = Detections.of([[0, 0, 1, 1]], [1])
    assert said(boxes, SegmentationMap) == "it must be a dict of class_map, confidence, got []"


HERE = """
import numpy as np

class Mine:
    classes = ["cat", "dog"]

    def predict(self, images):
        assert all(x.dtype == np.uint8 and x.flags.writeable for x in images)
        return [
            {"boxes_xyxy": [[0, 0, x.shape[1], x.shape[0]]], "scores": [x.mean() / 255],
             "class_ids": [1]}
            for x in images
        ]

class Maps(Mine):
    task = "segmentation"
    def predict(self, images):
        return [{"class_map": np.zeros(x.shape[:2], int)} for x in images]

class Classes(Mine):
    task = "classification"
    def predict(self, images):
        return [{"class_ids": [0, 1], "scores": [0.3, 0.7]} for x in images]

class Fewer(Mine):
    def predict(self, images):
        return super().predict(images)[1:]

class Generator(Mine):
    def predict(self, images):
        yield from super().predict(images)

class Raises(Mine):
    def predict(self, images):
        raise KeyError("no such\\nlayer")

class Picky(Mine):
    def predict(self, images):
        found = super().predict(images)
        for one in found:
            one["class_ids"] = [int(one["scores"][0] * 10)]
        return found

class Unmade(Mine):
    def __init__(self):
        raise OSError("no weights here")

class NoClasses: predict = Mine.predict
class OneName(Mine): classes = "cat"
class Twice(Mine): classes = ["cat", "cat"]
class NoPredict: classes = ["cat"]
class WrongTask(Mine): task = "captions"
class WrongDigest(Mine): digest = 3
class Weights(Mine): digest = "of-my-weights"
function = len
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of a user's, in which a module lies; its name is new each time."""
    name = f"mine_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(HERE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    return name


def views(side=32, values=(50, 100, 150)):
    pixels = np.zeros((3, side, side, 3), np.uint8)
    sizes_hw = np.array([(30, 60), (32, 32), (90, 7)])
    for view, size, value in zip(pixels, sizes_hw, values, strict=True):
        height, width = fitted_hw(tuple(size), side)
        view[:height, :width] = value
    pixels.flags.writeable = False  # as Arrow gives them
    return pixels, sizes_hw


def test_it_sees_images_without_padding_and_answers_in_their_pixels(here):
    source = open_teacher(f"{here}:Mine", Wishes(image_size_px=32)).source
    assert (source.classes, source.task.name) == (("cat", "dog"), "detection")
    pixels, sizes_hw = views()
    found = source.load("cpu").predict(pixels, sizes_hw)
    for one, (height, width), value in zip(found, sizes_hw, (50, 100, 150), strict=True):
        np.testing.assert_allclose(one.boxes_xyxy, [[0, 0, width, height]], rtol=1e-6)
        assert one.scores.tolist() == pytest.approx([value / 255])  # no pixel of padding in it


def test_the_other_tasks(here):
    pixels, sizes_hw = views()
    maps = open_teacher(f"{here}:Maps", Wishes(image_size_px=32)).source
    found = maps.load("cpu").predict(pixels, sizes_hw)
    assert [one.class_map.shape for one in found] == [tuple(size) for size in sizes_hw]
    classes = open_teacher(f"{here}:Classes", Wishes(image_size_px=32)).source
    found = classes.load("cpu").predict(pixels, sizes_hw)
    assert [one.top_class_ids.tolist() for one in found] == [[1, 0]] * 3
    merged = open_teacher(f"{here}:Classes", Wishes(image_size_px=32), None, ["cat=x", "dog=x"])
    (one, *_) = merged.source.load("cpu").predict(pixels, sizes_hw)
    assert (one.top_class_ids.tolist(), one.top_scores.tolist()) == ([0], [1])


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Fewer", "predict must return a list of 3, got 2"),
        ("Generator", "predict must return a list of 3, got generator"),
        ("Raises", "predict raised KeyError: 'no such"),
        ("Picky", "predict gave for image 1 of 3 (32 x 32): class_ids must be 0..1, got [3]"),
    ],
)
def test_what_it_does_wrong_is_one_line(here, name, line):
    source = open_teacher(f"{here}:{name}", Wishes(image_size_px=32)).source
    with pytest.raises(PredictionError) as caught:
        source.load("cpu").predict(*views())
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("{}:Mine2", "teacher: {} has no class 'Mine2'; did you mean Mine?"),
        ("{}:NoClasses", "teacher: {}:NoClasses must have classes, a list of names, got None; "),
        ("{}:OneName", "teacher: {}:OneName must have classes, a list of names, got 'cat'; see "),
        ("{}:Twice", "teacher: {}:Twice must have each class once, got ['cat', 'cat']; see "),
        ("{}:NoPredict", "teacher: {}:NoPredict must have a method predict(self, images); see "),
        ("{}:WrongTask", "teacher: {}:WrongTask must have a task of detection, segmentation, "
         "classification, got 'captions'; see "),
        ("{}:WrongDigest", "teacher: {}:WrongDigest must have a digest that is text, got 3; see "),
        ("{}:function", "teacher: {}:function must be a class, got builtin_function_or_method"),
        ("broken_here:A", "teacher: broken_here cannot be imported (ZeroDivisionError: division by "
         "zero); it must lie in this folder or be installed"),
        ("nowhere_at_all:A", "teacher: nowhere_at_all cannot be imported (ModuleNotFoundError: No "
         "module named 'nowhere_at_all'); it must lie in this folder or be installed"),
        ("torchvison:resnet50", "teacher: torchvison cannot be imported (ModuleNotFoundError: No "
         "module named 'torchvison'); did you mean torchvision:?"),
    ],
)  # fmt: skip
def test_what_is_no_teacher_is_one_line(here, spec, line):
    Path("broken_here.py").write_text("1 / 0\n")
    with pytest.raises(UserError) as caught:
        open_teacher(spec.format(here), Wishes())
    assert str(caught.value).startswith(line.format(here))
    assert "\n" not in str(caught.value)


def test_the_digest_is_of_the_source_and_of_its_own_word(here):
    mine, weights = (open_teacher(f"{here}:{n}", Wishes()).source for n in ("Mine", "Weights"))
    assert mine.digest != weights.digest
    assert open_teacher(f"{here}:Mine", Wishes(image_size_px=96)).source.digest != mine.digest
    assert open_teacher(f"{here}:Mine", Wishes()).source.digest == mine.digest
    Path(f"{here}.py").write_text(HERE + "\n# another version\n")
    assert open_teacher(f"{here}:Mine", Wishes()).source.digest != mine.digest
    with pytest.raises(UserError, match=f"{here}:Mine is another version on this worker "):
        mine.load("cpu")


def write_images(folder):
    from PIL import Image

    folder.mkdir()
    for value in (50, 100, 90):
        Image.new("RGB", (20, 10), (value,) * 3).save(folder / f"{value}.png")


def pool(tmp_path):
    from ray_st.labeling.images import open_pool

    write_images(tmp_path / "images")
    return open_pool(str(tmp_path / "images"))


def test_one_wrong_answer_costs_the_others_nothing(here, tmp_path):
    from ray_st.data.views import fitted_views

    source = open_teacher(f"{here}:Picky", Wishes(image_size_px=32)).source
    rows = next(pool(tmp_path).shards[0].rows())
    looks, schema = source.looks(LabelConfig()), store_row(Detections, source.digest)
    actor = TeacherActor(source, looks, schema, 1, 0, None, None)
    table = actor(fitted_views(rows, 32).to_table())
    by_name = {Path(row["uri"]).name: row for row in table.to_pylist()}
    assert by_name["50.png"]["status"] == "ok"
    assert by_name["50.png"]["class_ids"] == [1]
    for name, class_id in (("90.png", 3), ("100.png", 3)):
        assert (by_name[name]["status"], by_name[name]["stage"]) == ("failed", "teacher")
        assert by_name[name]["reason"] == (
            f"predict gave for image 0 of 1 (16 x 32): class_ids must be 0..1, got [{class_id}]"
        )


def test_a_wrong_teacher_is_found_on_the_first_images(here, tmp_path):
    images, config = pool(tmp_path), LabelConfig(actors=(0, 0))
    try_out(images, open_teacher(f"{here}:Mine", Wishes()).source, config)
    with pytest.raises(UserError, match=r"teacher: predict gave for image 0 of 3 .*/100\.png"):
        try_out(images, open_teacher(f"{here}:Picky", Wishes()).source, config)
    with pytest.raises(UserError, match=r"Unmade could not be made \(OSError: no weights here"):
        try_out(images, open_teacher(f"{here}:Unmade", Wishes()).source, config)
    try_out(Images(()), open_teacher(f"{here}:Unmade", Wishes()).source, config)


def test_the_example_of_the_guide(tmp_path, monkeypatch, capsys):
    guide = (ROOT / "docs" / "teachers.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "my_teachers.py").write_text(code)
    write_images(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    # As of a console script, unlike `python -m`.
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    assert main(["label", "--images=images", "--teacher=my_teachers:Bright", "--dry-run"]) == 0
    assert "# dry run: 3 images to label; nothing was started" in capsys.readouterr().out
    source = open_teacher("my_teachers:Bright", Wishes(image_size_px=32)).source
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    pixels[0, 4:10, 6:20] = 255
    found = source.load("cpu").predict(pixels, np.array([(32, 32), (64, 64)]))
    assert found[0].boxes_xyxy.tolist() == [[6, 4, 20, 10]]
    assert [len(one) for one in found] == [1, 0]


@pytest.mark.parametrize("config", [LabelConfig(flip=True), LabelConfig(scales=(1.0, 0.5))])
def test_it_looks_once(here, config):
    source = open_teacher(f"{here}:Picky", Wishes(image_size_px=32)).source
    with pytest.raises(
        UserError, match=r"^label\.(flip|scales): must be left out, for this teacher"
    ):
        source.looks(config)
