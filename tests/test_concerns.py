"""What would worry us about a labelling: each worry is told when it is there, and only then."""

from __future__ import annotations

from typing import Any

import pytest

from ray_st.labeling.concerns import concerns, weak_teacher

pytestmark = pytest.mark.pure

# A sound labelling of boxes, of maps and of classes.
BOXES: dict[str, Any] = {
    "images": 1000,
    "boxes_per_image": 2.0,
    "human_boxes_per_image": 2.5,
    "empty_share": 0.1,
    "failures": 3,
    "labels_per_class": {"cat": 1200, "dog": 700, "owl": 100},
    "human_labels_per_class": {"cat": 60, "dog": 30, "owl": 10},
    "score_histogram": [0, 4000, *[500] * 16, 900, 700],
}
MAPS = {
    **{name: BOXES[name] for name in ("images", "empty_share", "failures")},
    "labelled_share": 0.8,
    "human_labelled_share": 0.97,
    "labels_per_class": {"sky": 9_500_000, "road": 400_000, "car": 100_000},
    "human_labels_per_class": {"sky": 940, "road": 40, "car": 20},
    "score_histogram": [0] * 19 + [10_000_000],
}
CLASSES = {
    **{name: BOXES[name] for name in ("images", "failures", "labels_per_class")},
    "labelled_share": 0.9,
    "empty_share": 0.1,
    "score_histogram": [0] * 19 + [1000],
}
FLOOR = {"score_floor": 0.05, "thresholds": {"cat": 0.5, "dog": 0.5, "owl": None}}


def of(facts: dict[str, Any], changes: dict[str, Any], **beside: Any) -> list[str]:
    return concerns({"pseudo": {**facts, **changes}, **FLOOR, **beside})


@pytest.mark.parametrize("facts", [BOXES, MAPS, CLASSES])
def test_a_sound_labelling_worries_nobody(facts: dict[str, Any]) -> None:
    assert of(facts, {}) == []
    assert concerns({"pseudo": facts}) == []  # of an older run, which told less


def test_of_nothing_nothing_is_said() -> None:
    assert concerns({}) == []
    assert concerns({"pseudo": {"images": 0, "boxes_per_image": 0.0}}) == []


@pytest.mark.parametrize(
    ("facts", "bad", "fair", "said"),
    [
        (BOXES, {"empty_share": 0.51}, {"empty_share": 0.5}, "51% of the pool images have no"),
        (
            BOXES,
            {"boxes_per_image": 0.62},
            {"boxes_per_image": 0.625},
            "0.62 boxes an image, where people drew 2.50: less than a quarter.",
        ),
        (
            BOXES,
            {"boxes_per_image": 7.51},
            {"boxes_per_image": 7.5},
            "7.51 boxes an image, where people drew 2.50: more than 3 times as many.",
        ),
        (
            MAPS,
            {"labelled_share": 0.2},
            {"labelled_share": 0.25},
            "20% labelled, where people labelled 97%: less than a quarter.",
        ),
        (BOXES, {"precision": 0.49}, {"precision": 0.5}, "Only 49% of the pseudo boxes are right."),
        (BOXES, {"failures": 11}, {"failures": 10}, "11 images could not be read or labelled"),
        (
            BOXES,
            {"labels_per_class": {"cat": 1900, "dog": 60, "owl": 40}},
            {"labels_per_class": {"cat": 1800, "dog": 160, "owl": 40}},
            "95% of all that is labelled is cat, where people's are 60%.",
        ),
        (
            CLASSES,
            {"labels_per_class": {"cat": 910, "dog": 60, "owl": 30}},
            {"labels_per_class": {"cat": 910, "dog": 90}},  # one of two may well be rare
            "91% of all that is labelled is cat.",
        ),
        (
            MAPS,
            {"human_labels_per_class": {"sky": 70, "road": 20, "car": 10}},
            {"human_labels_per_class": None},  # a background, for all we know
            "95% of all that is labelled is sky, where people's are 70%.",
        ),
        (
            BOXES,
            {"labels_per_class": {"cat": 1200, "dog": 0, "owl": 700}},
            {
                "labels_per_class": {"cat": 1200, "dog": 0, "owl": 700},
                "human_labels_per_class": {"cat": 60, "dog": 0, "owl": 1},
            },
            "1 of 3 classes have no pseudo label: dog.",
        ),
        (
            BOXES,
            {"score_histogram": [0, 9600, *[0] * 8, *[40] * 10]},
            {"score_histogram": [0, 9400, *[0] * 8, *[60] * 10]},
            "96% of all scores lie just above the floor of 0.05",
        ),
        (
            BOXES,
            {"score_histogram": [*[1] * 19, 190]},
            {"score_histogram": [*[2] * 19, 190]},
            "91% of all scores are 0.95 or more: no threshold can tell",
        ),
    ],
)
def test_each_worry_is_told_when_it_is_there_and_not_before(
    facts: dict[str, Any], bad: dict[str, Any], fair: dict[str, Any], said: str
) -> None:
    (line,) = of(facts, bad)
    assert line.startswith(said)
    assert "\n" not in line
    assert line.endswith(".")  # and what to do stands behind it
    assert of(facts, fair) == []


def test_a_pool_without_any_label_is_told_once() -> None:
    nothing = {"boxes_per_image": 0.0, "empty_share": 1.0, "precision": float("nan")}
    none = {"labels_per_class": dict.fromkeys(("cat", "dog"), 0), "score_histogram": [0] * 20}
    (line,) = of(BOXES, {**nothing, **none})
    assert line.startswith("100% of the pool images have no pseudo label at all.")


def test_few_images_tell_nothing_of_classes_and_few_boxes_nothing_of_scores() -> None:
    few = {"images": 99, "failures": 0, "labels_per_class": {"cat": 1200, "dog": 0, "owl": 0}}
    assert of(BOXES, few) == []
    none = {"labels_per_class": {"cat": 20, "dog": 0, "owl": 9}, "score_histogram": [0] * 19 + [29]}
    assert of(BOXES, none) == []


def test_a_class_without_a_threshold_is_told_by_the_policy_alone() -> None:
    none = {"labels_per_class": {"cat": 1200, "dog": 700, "owl": 0}}
    assert of(BOXES, none) == []
    assert len(of(BOXES, none, thresholds={"cat": 0.5, "dog": 0.5, "owl": 0.5})) == 1


def test_many_classes_without_a_label_are_counted() -> None:
    counts = {"cat": 9000, "dog": 8000} | {f"c{i}": 0 for i in range(7)}
    (line,) = of(BOXES, {"labels_per_class": counts, "human_labels_per_class": None})
    assert line.startswith("7 of 9 classes have no pseudo label: c0, c1, c2, c3, c4 and 2 more.")


def test_a_threshold_below_what_was_stored() -> None:
    low = {"thresholds": {"cat": 0.5, "dog": 0.01}}
    (line,) = of(BOXES, {}, **low)
    assert line.startswith("The lowest threshold, 0.01, is below what labelling kept: boxes up to")
    assert of(BOXES, {}, thresholds={"cat": 0.05}) == []
    assert of(BOXES, {}, thresholds={"cat": None}) == []
    assert of(BOXES, {}, **low, score_floor=None) == []
    assert of(BOXES, {}, **low, policy={"balance_share": 0.2}) == []  # as low as its scores are


@pytest.mark.parametrize(
    ("policy", "more", "fewer"),
    [
        ({}, "Lower policy.score_threshold", "Raise policy.score_threshold"),
        ({"target_precision": 0.9}, "Lower policy.target_precision", "Raise policy.target_"),
        ({"balance_share": 0.2}, "Raise policy.balance_share", "Lower policy.balance_share"),
    ],
)
def test_the_next_move_is_one_that_the_policy_knows(
    policy: dict[str, float], more: str, fewer: str
) -> None:
    (little,) = of(BOXES, {"boxes_per_image": 0.1}, policy=policy)
    (much,) = of(BOXES, {"boxes_per_image": 10.0}, policy=policy)
    assert more in little
    assert fewer in much


def test_a_teacher_worth_following() -> None:
    assert weak_teacher({}) == []
    assert weak_teacher({"AP": 5.0, "AP50": 1.0}) == []
    assert weak_teacher({"AP": 4.9})[0].startswith("the teacher has AP 4.9 on the hold-out: ")
    assert weak_teacher({"mIoU": None})[0].startswith("the teacher has no mIoU on the hold-out")
