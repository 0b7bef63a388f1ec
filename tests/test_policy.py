"""Raw predictions to pseudo labels."""

import math

import numpy as np
import pyarrow as pa
import pytest

from ray_st.config import UserError
from ray_st.data.labels import IGNORE, KINDS, ClassLabel, Detections, Origin, SegmentationMap
from ray_st.data.rows import label_row, pack, unpack
from ray_st.labeling.policy import PolicyConfig, pool_facts, pseudo_labels

pytestmark = pytest.mark.pure

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


def test_what_reaches_the_threshold_stays_and_images_that_keep_nothing_too():
    kept = pseudo_labels(raw(), PolicyConfig(score_threshold=0.5))
    assert kept.schema.equals(label_row(Detections), check_metadata=True)
    plain = ["image_id", "uri", "height_px", "width_px", "origin"]
    assert kept.select(plain).equals(raw().select(plain))
    labels = unpack(kept)
    assert [one.scores.tolist() for one in labels] == [pytest.approx([0.9, 0.5]), [], [], [0.5]]
    assert labels[0].boxes_xyxy.tolist() == [[0, 0, 2, 3], [1, 0, 3, 3]]
    assert labels[0].class_ids.tolist() == [0, 1]


def test_a_threshold_that_float32_does_not_hold_still_keeps_its_own_score():
    kept = unpack(pseudo_labels(raw([[0.3, 0.1, 0.29]]), PolicyConfig(score_threshold=0.3)))
    assert kept[0].scores.tolist() == [np.float32(0.3)]


@pytest.mark.parametrize(("threshold", "counts"), [(0.0, [3, 0, 1, 2]), (1.0, [0, 0, 0, 0])])
def test_the_ends_keep_all_and_none(threshold, counts):
    kept = pseudo_labels(raw(), PolicyConfig(score_threshold=threshold))
    assert [len(one) for one in unpack(kept)] == counts


def test_chunks_and_slices_and_no_image():
    policy = PolicyConfig(score_threshold=0.5)
    whole = pseudo_labels(raw(), policy)
    parts = pa.concat_tables([raw().slice(0, 1), raw().slice(1)])
    assert pseudo_labels(parts, policy).equals(whole)
    assert pseudo_labels(raw().slice(3), policy).equals(whole.slice(3))
    assert pseudo_labels(label_row(Detections).empty_table(), policy).num_rows == 0


def test_labels_by_a_teacher_are_pseudo_whoever_claims_them():
    kept = pseudo_labels(raw(origin=Origin.HUMAN), PolicyConfig())
    assert set(kept.column("origin").to_pylist()) == {int(Origin.PSEUDO)}


def test_facts_by_hand():
    kept = pseudo_labels(raw(), PolicyConfig(score_threshold=0.5))  # 2, 0, 0 and 1 boxes
    human = raw([[1.0], [1.0, 1.0, 1.0, 1.0]], Origin.HUMAN)
    assert pool_facts(kept, human) == {
        "images": 4,
        "boxes_per_image": 3 / 4,
        "human_boxes_per_image": 5 / 2,
        "empty_share": 2 / 4,
    }


def test_facts_of_nothing():
    empty = label_row(Detections).empty_table()
    assert pool_facts(empty, empty) == {
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
    kept = pseudo_labels(raw, PolicyConfig(score_threshold=0.5))
    assert kept.schema.equals(label_row(SegmentationMap), check_metadata=True)
    found = unpack(kept)
    assert found[0].class_map.tolist() == [[1, 2, IGNORE, IGNORE]]
    assert found[1].class_map.tolist() == [[IGNORE, IGNORE]]
    assert [one.confidence for one in found] == [None] * 3
    human = rows([SegmentationMap(class_map=np.array([[0, 1, 2, IGNORE]], np.uint8))])
    assert pool_facts(kept, human) == {
        "images": 3,
        "labelled_share": pytest.approx((2 / 4 + 0 + 0) / 3),
        "human_labelled_share": 3 / 4,
        "empty_share": pytest.approx(2 / 3),
    }


def test_classes_and_their_facts_by_hand():
    raw = rows([ClassLabel.of([3, 1], [0.5, 0.4]), ClassLabel.of([2, 0], [0.4, 0.3])])
    kept = pseudo_labels(raw, PolicyConfig(score_threshold=0.5))
    assert kept.schema.equals(label_row(ClassLabel), check_metadata=True)
    assert [one.top_class_ids.tolist() for one in unpack(kept)] == [[3], []]
    assert pool_facts(kept, rows([ClassLabel.of([1])])) == {
        "images": 2,
        "labelled_share": 0.5,
        "human_labelled_share": 1.0,
        "empty_share": 0.5,
    }


@pytest.mark.parametrize("count", [255, 256, 257, 600])
def test_a_pool_of_any_size_is_chosen_from_row_by_row(count):
    scores = np.random.default_rng(count).random(count)
    raw = rows([ClassLabel.of([i % 9], [score]) for i, score in enumerate(scores)])
    kept = pseudo_labels(raw, PolicyConfig(score_threshold=0.5))
    assert kept.column("image_id").equals(raw.column("image_id"))
    chosen = [i for i, one in enumerate(unpack(kept)) if one.amount()]
    assert chosen == np.flatnonzero(scores.astype(np.float32) >= 0.5).tolist()
    facts = pool_facts(kept, kept)
    assert facts["images"] == count
    assert facts["labelled_share"] == pytest.approx(len(chosen) / count)


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_of_any_kind(kind):
    empty = label_row(kind).empty_table()
    kept = pseudo_labels(empty, PolicyConfig())
    assert kept.schema.equals(label_row(kind), check_metadata=True)
    assert set(pool_facts(kept, empty).values()) == {0}


@pytest.mark.parametrize("threshold", [-0.1, 1.01, math.nan])
def test_a_threshold_that_is_no_score(threshold):
    with pytest.raises(UserError, match=r"^policy\.score_threshold: must be in \[0, 1\], got "):
        PolicyConfig(score_threshold=threshold)
