"""What is drawn on pictures: pixels beside the numbers they must have, and words for all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from ray_st.data.labels import IGNORE, ClassLabel, Detections, SegmentationMap
from ray_st.report.class_colours import as_seen, class_colours
from ray_st.report.drawing import Drawing, Seen, Swatch, Viewer, draw
from ray_st.report.drawing.drawing import SIDE_PX

pytestmark = pytest.mark.pure

HUMAN = Viewer(title="Human labels", colour="human")
STUDENT = Viewer(title="Student", colour="student")
PSEUDO = Viewer(title="Pseudo labels", colour="pseudo")
CLASSES = ("sky", "road", "car")


def drawn(
    labels: Any,
    *,
    viewer: Viewer = HUMAN,
    truth: Any = None,
    picture: np.ndarray | None = None,
    **how: Any,
) -> Drawing:
    pixels = np.full((4, 4, 3), 200, np.uint8) if picture is None else picture
    return draw(
        Seen(picture=Image.fromarray(pixels), labels=labels, truth=truth, classes=CLASSES,
             viewer=viewer, **how)
    )  # fmt: skip


def map_of(rows: list[list[int]]) -> SegmentationMap:
    return SegmentationMap(class_map=np.array(rows, np.uint8))


def test_class_colours_all_differ_and_those_of_low_ids_the_most_for_everybody() -> None:
    colours = class_colours()
    assert len(np.unique(colours, axis=0)) == len(colours) == 255
    labs = as_seen(colours)

    def closest(count: int) -> float:
        pairs = [(i, j) for i in range(count) for j in range(i)]
        return min(float(np.linalg.norm(lab[i] - lab[j])) for lab in labs for i, j in pairs)

    assert closest(8) > 0.07  # a difference of 0.02 is just seen
    assert closest(21) > 0.07  # the classes of PASCAL VOC
    assert closest(40) > 0.04


def test_colours_as_seen() -> None:
    full, protan, deutan = as_seen(np.array([[255, 255, 255], [255, 0, 0], [90, 90, 90]], np.uint8))
    np.testing.assert_allclose(full[0], [1, 0, 0], atol=1e-4)
    # Red as the author of OKLab gives it.
    np.testing.assert_allclose(full[1], [0.62796, 0.22486, 0.12585], atol=1e-4)
    for lab in (protan, deutan):
        np.testing.assert_allclose(lab[[0, 2]], full[[0, 2]], atol=1e-4)  # greys stay grey
        assert abs(lab[1, 1]) < 0.06  # red is no longer red
    assert protan[1, 0] < min(deutan[1, 0], full[1, 0])  # and darkest without red cones


def test_a_class_map_is_half_picture_and_half_colour() -> None:
    class_map = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    class_map[:, 160:] = 2
    picture = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
    canvas = np.asarray(drawn(SegmentationMap(class_map=class_map), picture=picture).canvas)
    for x, class_id in ((0, 0), (158, 0), (160, 2), (319, 2)):
        mixed = (picture[:, x].astype(float) + class_colours()[class_id]) / 2
        np.testing.assert_allclose(canvas[:, x], mixed, atol=0.51)
    assert canvas[:, 159].mean() < 0.5 * canvas[:, 158].mean()  # a dark line where classes meet


def test_pixels_without_a_label_are_plain_between_hatches() -> None:
    labels = SegmentationMap(class_map=np.full((SIDE_PX, SIDE_PX), IGNORE, np.uint8))
    canvas = np.asarray(drawn(labels, picture=np.full((9, 9, 3), 120, np.uint8)).canvas)
    values, counts = np.unique(canvas[:, :, 0], return_counts=True)
    assert values.tolist() == [25, 120, 235]
    np.testing.assert_allclose(counts / SIDE_PX**2, [1 / 8, 6 / 8, 1 / 8], atol=0.001)


def test_the_legend_names_the_classes_that_are_there_in_their_colours() -> None:
    drawing = drawn(map_of([[2, 0], [2, IGNORE]]), viewer=PSEUDO)
    hexes = [f"#{bytes(colour).hex()}" for colour in class_colours()]
    assert drawing.legend == (
        Swatch(0, "sky", hexes[0]),
        Swatch(2, "car", hexes[2]),
        Swatch(IGNORE, "no label", ""),
    )
    assert drawing.words == "car 50%, sky 25%, no label 25%"
    assert drawing.caption == "2 classes, 75% labelled"


@pytest.mark.parametrize(
    ("labels", "truth", "caption"),
    [
        ([[0, 0], [0, 1]], None, "2 classes"),
        ([[0, 0], [0, 1]], [[0, 0], [1, 1]], "2 classes, 75% right"),
        ([[0, 0], [0, 1]], [[0, IGNORE], [1, IGNORE]], "2 classes, 50% right"),
        ([[0, 0], [0, 1]], [[IGNORE] * 2] * 2, "2 classes"),  # nothing to compare with
        ([[1, 1], [1, 1]], [[1, 1], [1, 1]], "1 class, 100% right"),
        ([[1, 1], [1, 1]], [[0, 0], [0, 0]], "1 class, 0% right"),
        ([[1, 1], [1, 1]], [[1]], "1 class, 100% right"),  # of another size: by nearest pixel
        ([[IGNORE] * 2] * 2, [[1, 1], [1, 1]], "no label"),
    ],
)
def test_the_caption_of_a_class_map_compares_pixels_that_people_labelled(
    labels: list[list[int]], truth: list[list[int]] | None, caption: str
) -> None:
    person = None if truth is None else map_of(truth)
    assert drawn(map_of(labels), viewer=STUDENT, truth=person).caption == caption


def test_a_little_is_never_nothing_and_nearly_all_never_all() -> None:
    class_map = np.zeros((100, 100), np.uint8)
    class_map[0, :9] = 1
    truth = SegmentationMap(class_map=np.zeros((100, 100), np.uint8))
    picture = np.zeros((100, 100, 3), np.uint8)
    drawing = drawn(
        SegmentationMap(class_map=class_map), viewer=STUDENT, truth=truth, picture=picture
    )
    assert drawing.caption == "2 classes, >99% right"
    assert drawing.words == "sky >99%, road <1%"


def test_a_map_that_is_not_known_and_a_class_past_the_list_are_drawn_all_the_same() -> None:
    nothing = SegmentationMap.unknown()
    unknown = drawn(nothing)
    assert (unknown.caption, unknown.words) == ("no label", "no label 100%")
    assert unknown.canvas.size == (SIDE_PX, SIDE_PX)
    assert drawn(map_of([[7, 254]])).words == "class 7 50%, class 254 50%"
    assert drawn(nothing, viewer=STUDENT, truth=map_of([[1]])).caption == "no label"
    assert drawn(map_of([[1]]), viewer=STUDENT, truth=nothing).caption == "1 class"


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 900), (900, 1), (97, 131)])
@pytest.mark.parametrize(
    "labels",
    [Detections.of([[0, 0, 1, 1]], [0]), map_of([[0, 1], [2, IGNORE]]), ClassLabel.of([1])],
)
def test_every_kind_fits_pictures_of_any_shape(labels: Any, size_hw: tuple[int, int]) -> None:
    drawing = drawn(labels, picture=np.zeros((*size_hw, 3), np.uint8))
    assert max(drawing.canvas.size) == SIDE_PX
    assert drawing.caption


def test_boxes_are_scaled_by_the_picture() -> None:
    box = Detections.of([[8, 2, 24, 10]], [1], scores=[0.9])
    drawing = drawn(box, viewer=STUDENT, picture=np.full((16, 32, 3), 255, np.uint8))
    canvas = np.asarray(drawing.canvas).astype(int)  # 320 wide: ten times
    assert canvas.shape == (160, 320, 3)
    below_tag = canvas[60]
    dark = np.flatnonzero(below_tag.sum(axis=1) < 600)
    assert dark.min() == pytest.approx(80, abs=2)
    assert dark.max() == pytest.approx(240, abs=2)
    assert (drawing.caption, drawing.words) == ("1 box", "road 0.90")
    assert drawing.note == "Predicted boxes from score 0.3."
    assert drawn(box).note == ""  # people's have no score


def test_boxes_by_class_have_a_colour_each_and_a_legend_in_place_of_tags() -> None:
    boxes = Detections.of([[2, 2, 6, 6], [8, 2, 14, 14], [1, 9, 6, 15]], [2, 0, 2])
    white = np.full((16, 16, 3), 255, np.uint8)
    drawing = drawn(boxes, picture=white, side_px=160, by_class=True)
    sky, car = (f"#{bytes(class_colours()[i]).hex()}" for i in (1, 3))
    assert drawing.legend == (Swatch(0, "sky", sky), Swatch(2, "car", car))
    assert (drawing.caption, drawing.words) == ("3 boxes", "car, sky, car")
    assert drawing.canvas.size == (160, 160)
    for (x, y), colour in (((20, 40), car), ((80, 80), sky), ((10, 120), car)):
        assert f"#{bytes(drawing.canvas.getpixel((x, y))).hex()}" == colour
    pixels = np.asarray(drawing.canvas)
    inside = pixels[26:55, 26:55], pixels[26:135, 86:135], pixels[96:145, 16:55]
    assert all((one == 255).all() for one in inside)
    assert drawn(boxes).legend == ()


def test_boxes_of_any_class_have_a_colour() -> None:
    ids = [0, 79, 253, 254, 255, 100_000]
    boxes = Detections.of([[0, 0, 4, 4]] * len(ids), ids)
    colours = [swatch.colour for swatch in drawn(boxes, by_class=True).legend]
    grey = f"#{bytes(class_colours()[0]).hex()}"
    assert grey not in colours  # of the background on class maps
    assert colours[3] == colours[0]  # they begin anew
    assert drawn(Detections.of(), by_class=True).legend == ()


@pytest.mark.parametrize(
    ("labels", "truth", "words", "is_right"),
    [
        (ClassLabel.of([2, 0], [0.7, 0.3]), ClassLabel.of([2]), "car 0.70, right", True),
        (ClassLabel.of([2, 0], [0.7, 0.3]), ClassLabel.of([0]), "car 0.70, wrong", False),
        (ClassLabel.of(), ClassLabel.of([0]), "no class, wrong", False),
        (ClassLabel.of([2], [0.7]), ClassLabel.of(), "car 0.70", None),
        (ClassLabel.of([2], [0.7]), None, "car 0.70", None),
        (ClassLabel.of([9], [0.7]), None, "class 9 0.70", None),
    ],
)
def test_a_class_is_said_with_its_score_and_whether_people_agree(
    labels: ClassLabel, truth: ClassLabel | None, words: str, is_right: bool | None
) -> None:
    drawing = drawn(labels, viewer=STUDENT, truth=truth)
    assert (drawing.words, drawing.is_right) == (words, is_right)
    assert drawing.caption == words.split(",")[0]


def test_the_class_that_people_gave_has_no_score() -> None:
    assert drawn(ClassLabel.of([1])).words == "road"
