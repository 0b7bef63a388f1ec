"""Raw predictions to pseudo labels."""

import math

import numpy as np
import pyarrow as pa
import pytest

from ray_st.config import UserError
from ray_st.data.labels import Detections, Origin
from ray_st.data.rows import label_row, pack, unpack
from ray_st.labeling.policy import PolicyConfig, pool_facts, pseudo_labels

pytestmark = pytest.mark.pure

SCORES = [[0.9, 0.5, 0.3], [], [0.49], [0.5, 0.1]]


def raw(scores=SCORES, origin=Origin.PSEUDO):
    labels = [
        Detections.of([[i, 0, i + 2, 3] for i in range(len(s))], range(len(s)), scores=s)
        for s in scores
    ]
    return pack(
        image_ids=[7 - i for i in range(len(scores))],
        uris=[f"{i}.jpg" for i in range(len(scores))],
        sizes_hw=[(10 + i, 20) for i in range(len(scores))],
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


@pytest.mark.parametrize("threshold", [-0.1, 1.01, math.nan])
def test_a_threshold_that_is_no_score(threshold):
    with pytest.raises(UserError, match=r"^policy\.score_threshold: must be in \[0, 1\], got "):
        PolicyConfig(score_threshold=threshold)
