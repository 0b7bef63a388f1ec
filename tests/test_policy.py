"""Raw predictions to pseudo labels."""

import math

import numpy as np
import pyarrow as pa
import pytest
from test_detection import SIZE_HW, random_outputs, task_with

from ray_st.config import UserError
from ray_st.data.labels import IGNORE, KINDS, ClassLabel, Detections, Origin, SegmentationMap
from ray_st.data.rows import kind_of, label_row, pack, unpack
from ray_st.labeling.policy import Holdout, PolicyConfig, Summed, choose, human_fact, pseudo_labels
from ray_st.labeling.policy.kinds import parts_of

pytestmark = pytest.mark.pure

CLASSES = [f"class {k}" for k in range(9)]

SCORES = [[0.9, 0.5, 0.3], [], [0.49], [0.5, 0.1]]


def raw(scores=SCORES, origin=Origin.PSEUDO):
    labels = [
        Detections.of([[i, 0, i + 2, 3] for i in range(len(s))], range(len(s)), scores=s)
        for s in scores
    ]
    return rows(labels, origin)


def rows(labels, origin=Origin.PSEUDO):
    return pack(
        image_ids=[7 - i for i in range(len(labels))],
        uris=[f"{i}.jpg" for i in range(len(labels))],
        sizes_hw=[(10 + i, 20) for i in range(len(labels))],
        labels=labels,
        origin=origin,
    )


def facts_of(raw, human):
    """How much of a pool is labelled from 0.5 on, beside people, without what is by class."""
    kind = kind_of(raw.schema)
    summed = Summed(choice=choose(lambda: (), kind, PolicyConfig(score_threshold=0.5), CLASSES))
    summed.accept(raw)
    facts = {**summed.facts(), **human_fact(human, kind, CLASSES)}
    return {name: value for name, value in facts.items() if not isinstance(value, dict | list)}


def test_what_reaches_the_threshold_stays_and_images_that_keep_nothing_too():
    kept = pseudo_labels(raw(), PolicyConfig(score_threshold=0.5), CLASSES)
    assert kept.schema.equals(label_row(Detections), check_metadata=True)
    plain = ["image_id", "uri", "height_px", "width_px", "origin"]
    assert kept.select(plain).equals(raw().select(plain))
    labels = unpack(kept)
    assert [one.scores.tolist() for one in labels] == [pytest.approx([0.9, 0.5]), [], [], [0.5]]
    assert labels[0].boxes_xyxy.tolist() == [[0, 0, 2, 3], [1, 0, 3, 3]]
    assert labels[0].class_ids.tolist() == [0, 1]


def test_a_threshold_that_float32_does_not_hold_still_keeps_its_own_score():
    kept = unpack(
        pseudo_labels(raw([[0.3, 0.1, 0.29]]), PolicyConfig(score_threshold=0.3), CLASSES)
    )
    assert kept[0].scores.tolist() == [np.float32(0.3)]


@pytest.mark.parametrize(("threshold", "counts"), [(0.0, [3, 0, 1, 2]), (1.0, [0, 0, 0, 0])])
def test_the_ends_keep_all_and_none(threshold, counts):
    kept = pseudo_labels(raw(), PolicyConfig(score_threshold=threshold), CLASSES)
    assert [len(one) for one in unpack(kept)] == counts


def test_chunks_and_slices_and_no_image():
    policy = PolicyConfig(score_threshold=0.5)
    whole = pseudo_labels(raw(), policy, CLASSES)
    parts = pa.concat_tables([raw().slice(0, 1), raw().slice(1)])
    assert pseudo_labels(parts, policy, CLASSES).equals(whole)
    assert pseudo_labels(raw().slice(3), policy, CLASSES).equals(whole.slice(3))
    assert pseudo_labels(label_row(Detections).empty_table(), policy, CLASSES).num_rows == 0


@pytest.mark.parametrize("threshold", [0.1, 0.35, 0.6])
def test_to_choose_later_is_to_have_labelled_with_that_threshold(threshold):
    outputs = random_outputs(3, offset=-2.0)
    no_limits = {"max_detections": 10**4, "max_candidates": 10**4}
    low, high = (
        task_with(score_floor=floor, **no_limits).predictions(outputs, SIZE_HW)
        for floor in (0.05, threshold)
    )
    kept = unpack(pseudo_labels(rows(low), PolicyConfig(score_threshold=threshold), CLASSES))
    assert sum(map(len, low)) > sum(map(len, high)) > 10
    for one, other in zip(kept, high, strict=True):
        assert one.boxes_xyxy.tolist() == other.boxes_xyxy.tolist()
        assert one.class_ids.tolist() == other.class_ids.tolist()
        assert one.scores.tolist() == other.scores.tolist()


def test_labels_by_a_teacher_are_pseudo_whoever_claims_them():
    kept = pseudo_labels(raw(origin=Origin.HUMAN), PolicyConfig(), CLASSES)
    assert set(kept.column("origin").to_pylist()) == {int(Origin.PSEUDO)}


def test_facts_by_hand():
    human = raw([[1.0], [1.0, 1.0, 1.0, 1.0]], Origin.HUMAN)
    assert facts_of(raw(), human) == {  # 2, 0, 0 and 1 boxes
        "images": 4,
        "boxes_per_image": 3 / 4,
        "human_boxes_per_image": 5 / 2,
        "empty_share": 2 / 4,
    }


def test_facts_of_nothing():
    empty = label_row(Detections).empty_table()
    assert facts_of(empty, empty) == {
        "images": 0,
        "boxes_per_image": 0.0,
        "human_boxes_per_image": 0.0,
        "empty_share": 0.0,
    }


def test_pixels_of_maps_and_their_facts_by_hand():
    maps = [([[1, 2, 0, 0]], [[255, 128, 127, 0]]), ([[3, 3]], [[0, 9]])]
    labels = [
        SegmentationMap(class_map=np.array(m, np.uint8), confidence=np.array(c, np.uint8))
        for m, c in maps
    ]
    raw = rows([*labels, SegmentationMap.unknown()])
    kept = pseudo_labels(raw, PolicyConfig(score_threshold=0.5), CLASSES)
    assert kept.schema.equals(label_row(SegmentationMap), check_metadata=True)
    found = unpack(kept)
    assert found[0].class_map.tolist() == [[1, 2, IGNORE, IGNORE]]
    assert found[1].class_map.tolist() == [[IGNORE, IGNORE]]
    assert [one.confidence for one in found] == [None] * 3
    human = rows([SegmentationMap(class_map=np.array([[0, 1, 2, IGNORE]], np.uint8))])
    assert facts_of(raw, human) == {
        "images": 3,
        "labelled_share": pytest.approx((2 / 4 + 0 + 0) / 3),
        "human_labelled_share": 3 / 4,
        "empty_share": pytest.approx(2 / 3),
    }


def test_classes_and_their_facts_by_hand():
    raw = rows([ClassLabel.of([3, 1], [0.5, 0.4]), ClassLabel.of([2, 0], [0.4, 0.3])])
    kept = pseudo_labels(raw, PolicyConfig(score_threshold=0.5), CLASSES)
    assert kept.schema.equals(label_row(ClassLabel), check_metadata=True)
    assert [one.top_class_ids.tolist() for one in unpack(kept)] == [[3], []]
    assert facts_of(raw, rows([ClassLabel.of([1])])) == {
        "images": 2,
        "labelled_share": 0.5,
        "human_labelled_share": 1.0,
        "empty_share": 0.5,
    }


@pytest.mark.parametrize("count", [255, 256, 257, 600])
def test_a_pool_of_any_size_is_chosen_from_row_by_row(count):
    scores = np.random.default_rng(count).random(count)
    raw = rows([ClassLabel.of([i % 9], [score]) for i, score in enumerate(scores)])
    kept = pseudo_labels(raw, PolicyConfig(score_threshold=0.5), CLASSES)
    assert kept.column("image_id").equals(raw.column("image_id"))
    chosen = [i for i, one in enumerate(unpack(kept)) if one.amount()]
    assert chosen == np.flatnonzero(scores.astype(np.float32) >= 0.5).tolist()
    facts = facts_of(raw, kept)
    assert facts["human_labelled_share"] == facts["labelled_share"]
    assert facts["images"] == count
    assert facts["labelled_share"] == pytest.approx(len(chosen) / count)


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_of_any_kind(kind):
    empty = label_row(kind).empty_table()
    kept = pseudo_labels(empty, PolicyConfig(), CLASSES)
    assert kept.schema.equals(label_row(kind), check_metadata=True)
    assert set(facts_of(empty, empty).values()) == {0}


@pytest.mark.parametrize("threshold", [-0.1, 1.01, math.nan])
def test_a_threshold_that_is_no_score(threshold):
    with pytest.raises(UserError, match=r"^policy\.score_threshold: must be in \[0, 1\], got "):
        PolicyConfig(score_threshold=threshold)


def test_facts_of_a_band_count_labels_and_not_what_is_ignored():
    policy = PolicyConfig(ignore_from=0.3)
    choice = choose(lambda: parts_of(raw()), Detections, policy, CLASSES)
    summed = Summed(choice=choice)
    parts = [raw().slice(0, 1), raw().slice(1)]
    accepted = pa.concat_tables(map(summed.accept, parts)).combine_chunks()
    assert [one.is_crowd.tolist() for one in unpack(accepted)] == [
        [False, False, True],
        [],
        [True],
        [False],
    ]
    assert accepted.equals(pseudo_labels(raw(), policy, CLASSES))
    facts = summed.facts()
    assert facts == {
        "images": 4,
        "boxes_per_image": 3 / 4,
        "empty_share": 2 / 4,
        "labels_per_class": dict(zip(CLASSES, [2, 1, 0, 0, 0, 0, 0, 0, 0], strict=True)),
        # 0.1, 0.3 (its float32 is a little more), 0.49, twice 0.5, 0.9 (a little less)
        "score_histogram": [0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    }
    assert human_fact(accepted, Detections, CLASSES) == {
        "human_boxes_per_image": facts["boxes_per_image"],
        "human_labels_per_class": facts["labels_per_class"],
    }


def test_facts_of_classes_and_maps_that_pass_by_in_parts():
    labels = [ClassLabel.of([3, 1], [1.0, 0.0]), ClassLabel.of([2], [0.4]), ClassLabel.of()]
    choice = choose(lambda: (), ClassLabel, PolicyConfig(), CLASSES)
    summed = Summed(choice=choice)
    for i in range(3):
        summed.accept(rows(labels).slice(i, 1))
    facts = summed.facts()
    assert (facts["images"], facts["labelled_share"]) == (3, pytest.approx(1 / 3))
    assert facts["labels_per_class"]["class 3"] == 1
    assert (facts["score_histogram"][8], facts["score_histogram"][19]) == (1, 1)
    whole = SegmentationMap(
        class_map=np.array([[0, 1, 1]], np.uint8), confidence=np.array([[255, 200, 0]], np.uint8)
    )
    summed = Summed(choice=choose(lambda: (), SegmentationMap, PolicyConfig(), CLASSES))
    summed.accept(rows([whole, SegmentationMap.unknown()]))
    facts = summed.facts()
    assert facts["labelled_share"] == pytest.approx((2 / 3 + 0) / 2)
    assert facts["empty_share"] == 0.5
    assert facts["labels_per_class"] == dict.fromkeys(CLASSES, 0) | {"class 0": 1, "class 1": 1}
    assert facts["score_histogram"][0] == facts["score_histogram"][19] == 1


def test_a_class_that_never_is_precise_enough_gets_no_label_and_is_named():
    box, far = [0, 0, 10, 10], [50, 50, 60, 60]
    truths = rows([Detections.of([box, box], [0, 1])])
    seen = Detections.of([box, far, box, far], [0, 0, 1, 1], scores=[0.9, 0.8, 0.3, 0.6])
    policy = PolicyConfig(target_precision=0.9)
    holdout = Holdout(truths=truths, predictions=rows([seen]))
    choice = choose(lambda: (), Detections, policy, CLASSES[:3], holdout)
    assert choice.thresholds.tolist() == [np.float32(0.9), np.inf, np.inf]
    assert choice.account()["thresholds"] == {
        "class 0": pytest.approx(0.9),
        "class 1": None,
        "class 2": None,
    }
    assert choice.warnings == [
        "no threshold has precision 0.9 on the hold-out for class 1, class 2: "
        "no pseudo label of these classes"
    ]
    kept = unpack(choice.accepted(rows([Detections.of([box] * 2, [0, 1], scores=[0.95, 1.0])])))
    assert kept[0].class_ids.tolist() == [0]
    ignoring = PolicyConfig(target_precision=0.9, ignore_from=0.2)
    choice = choose(lambda: (), Detections, ignoring, CLASSES[:3], holdout)
    kept = unpack(choice.accepted(rows([Detections.of([box], [1], scores=[1.0])])))
    assert kept[0].is_crowd.tolist() == [True]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ignore_from": 1.5}, "policy.ignore_from: must be in [0, 1], got 1.5"),
        ({"ignore_from": 0.5}, "policy.ignore_from: must be below a threshold, got 0.5"),
        ({"target_precision": math.nan}, "policy.target_precision: must be in [0, 1], got nan"),
        ({"balance_share": 0.0}, "policy.balance_share: must be above 0, at most 1, got 0.0"),
        ({"max_per_image": 0}, "policy.max_per_image: must be at least 1, got 0"),
        ({"max_per_class": 0}, "policy.max_per_class: must be at least 1, got 0"),
        ({"min_size_px": -1.0}, "policy.min_size_px: must be 0 or more, got -1.0"),
        ({"nms_iou": 0.4}, "policy.nms_iou: must be left out unless policy.nms is hard, got 0.4"),
        ({"nms": "soft", "soft_nms_sigma": 0.0}, "policy.soft_nms_sigma: must be above 0, got 0.0"),
        (
            {"nms": "hard", "soft_nms_sigma": 0.4},
            "policy.soft_nms_sigma: must be left out unless policy.nms is soft, got 0.4",
        ),
        (
            {"balance_share": 0.2, "score_threshold": 0.3},
            "policy.score_threshold: must be left out beside policy.balance_share, got 0.3; "
            "pass 0.5",
        ),
        (
            {"balance_share": 0.2, "target_precision": 0.9},
            "policy.balance_share: must be left out beside policy.target_precision, got 0.2",
        ),
        (
            {"class_thresholds": ("person",)},
            "policy.class_thresholds: must be a class and a score in [0, 1], such as 'person 0.6', "
            "got 'person'",
        ),
        (
            {"class_thresholds": ("person 1.2",)},
            "policy.class_thresholds: must be a class and a score in [0, 1], such as 'person 0.6', "
            "got 'person 1.2'",
        ),
        (
            {"class_thresholds": ("person 0.2", "person 0.3")},
            "policy.class_thresholds: must be one score a class, got 'person 0.3'",
        ),
    ],
)
def test_what_no_policy_can_be(fields, said):
    with pytest.raises(UserError) as raised:
        PolicyConfig(**fields)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (ClassLabel, {"min_size_px": 8.0}, "policy.min_size_px: must be left out for classif"),
        (
            ClassLabel,
            {"nms": "hard"},
            "policy.nms: must be left out for classification, got 'hard'",
        ),
        (
            Detections,
            {"soft_targets": True},
            "policy.soft_targets: must be left out for detection, got True; pass False",
        ),
        (SegmentationMap, {"ignore_from": 0.2}, "policy.ignore_from: must be left out for segment"),
        (SegmentationMap, {"max_per_class": 9}, "policy.max_per_class: must be left out for segm"),
        (SegmentationMap, {"max_per_image": 9}, "policy.max_per_image: must be left out for segm"),
        (
            Detections,
            {"class_thresholds": ("trafic light 0.6",)},
            "policy.class_thresholds: 'trafic light' is no class; did you mean traffic light?",
        ),
        (
            ClassLabel,
            {"class_thresholds": ("xyz 0.6",)},
            "policy.class_thresholds: 'xyz' is no class; the classes are ['cat', 'traffic light']",
        ),
    ],
)
def test_a_policy_that_is_not_for_these_labels(kind, fields, said):
    with pytest.raises(UserError) as raised:
        PolicyConfig(**fields).require_known(kind, ("cat", "traffic light"))
    assert str(raised.value).startswith(said)


def test_a_band_above_the_threshold_is_for_what_other_rules_refuse():
    labels = Detections.of([[0, 0, 5, 5], [0, 0, 9, 9], [9, 9, 14, 14]], [0] * 3, scores=[0.7] * 3)
    policy = PolicyConfig(ignore_from=0.6, min_size_px=6.0)
    kept = unpack(pseudo_labels(rows([labels]), policy, CLASSES))[0]
    assert kept.is_crowd.tolist() == [True, False, True]
    kept = unpack(pseudo_labels(rows([labels]), PolicyConfig(min_size_px=6.0), CLASSES))[0]
    assert kept.boxes_xyxy.tolist() == [[0, 0, 9, 9]]


def test_a_band_may_lie_below_the_threshold_of_one_class_alone():
    policy = PolicyConfig(ignore_from=0.5, class_thresholds=("class 1 0.6",))
    labels = Detections.of([[0, 0, 5, 5]] * 4, [0, 0, 1, 1], scores=[0.5, 0.4, 0.5, 0.6])
    kept = unpack(pseudo_labels(rows([labels]), policy, CLASSES))[0]
    assert kept.class_ids.tolist() == [0, 1, 1]
    assert kept.is_crowd.tolist() == [False, True, False]
