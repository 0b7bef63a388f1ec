"""Which boxes go into suppression: the three rules against a sort of everything."""

import numpy as np
import pytest
import torch

from ray_st.models.retinanet import Outputs
from ray_st.tasks import candidates
from ray_st.tasks.anchors import decode, pyramid_anchors
from ray_st.tasks.candidates import best_first, find_candidates, ranks

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SIZE_HW = (61, 83)
FEATURE_SIZES = ((8, 11), (4, 6))
ENDS = (9 * 88, 9 * (88 + 24))
ANCHORS = pyramid_anchors(FEATURE_SIZES, (8, 16), 4.0, torch.device("cpu"))
NUM_CLASSES = 3


def random_outputs(num_images=4, seed=0, offset=-1.0, step=None):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_images, ENDS[-1], NUM_CLASSES, generator=generator) + offset
    if step is not None:  # few different values: ties everywhere
        logits = (logits / step).round() * step
    codes = torch.randn(num_images, ENDS[-1], 4, generator=generator) * 0.3
    return Outputs(class_logits=logits, box_codes=codes, feature_sizes=FEATURE_SIZES)


def group_of(per, anchor, k):
    return {"image": 0, "level": int(anchor >= ENDS[0]), "class": k}[per]


def slow(outputs, image, per, limit, floor):
    """(score, anchor, class) of all, best first, the earlier of equals first; then counted."""
    scores = outputs.class_logits[image].sigmoid().tolist()
    rows = [
        (-score, anchor, k)
        for anchor, of_anchor in enumerate(scores)
        for k, score in enumerate(of_anchor)
        if score > floor
    ]
    counts, kept = {}, []
    for score, anchor, k in sorted(rows):
        group = group_of(per, anchor, k)
        counts[group] = counts.get(group, 0) + 1
        if counts[group] <= limit:
            kept.append((-score, anchor, k))
    return kept


def assert_equal(outputs, per, limit, floor=0.05):
    found = find_candidates(outputs, ANCHORS, SIZE_HW, score_floor=floor, per=per, limit=limit)
    for i in range(len(outputs.class_logits)):
        expected = slow(outputs, i, per, limit, floor)
        one = found[found.image == i]
        anchor = torch.tensor([a for _, a, _ in expected], dtype=torch.int64)
        boxes = decode(outputs.box_codes[i, anchor], ANCHORS[anchor])
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, SIZE_HW[1])
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, SIZE_HW[0])
        solid = ((boxes[:, 2:] - boxes[:, :2]) >= 0.01).all(1)
        np.testing.assert_allclose(one.boxes_xyxy, boxes[solid], atol=1e-4)
        assert one.class_ids.tolist() == [
            k for s, (_, _, k) in zip(solid, expected, strict=True) if s
        ]
        scores = torch.tensor([s for s, _, _ in expected])[solid]
        np.testing.assert_allclose(one.scores, scores, rtol=1e-5)


@pytest.mark.parametrize("per", ["image", "level", "class"])
@pytest.mark.parametrize("limit", [1, 40, 10_000])
def test_candidates_equal_slow_reference(per, limit):
    outputs = random_outputs()
    outputs.class_logits[1] = -9.0  # an image without any
    outputs.class_logits[2, : ENDS[0]] = -9.0  # one with some on the coarse level only
    assert_equal(outputs, per, limit)


@pytest.mark.parametrize("per", ["image", "level", "class"])
def test_equal_scores_are_cut_in_order(per):
    assert_equal(random_outputs(step=0.5), per, 40)


@pytest.mark.parametrize("floor", [0.0, 0.001, 0.9])
@pytest.mark.parametrize("per", ["image", "level"])
def test_a_model_that_says_yes_everywhere_is_cut_to_the_same(per, floor):
    # So many spots pass that they are cut before their classes are looked at.
    outputs = random_outputs(offset=3.0, step=0.25)
    assert ENDS[-1] > candidates._MANY * 20
    assert_equal(outputs, per, 20, floor)


def test_no_candidate_in_the_whole_batch():
    found = find_candidates(
        random_outputs(offset=-20.0), ANCHORS, SIZE_HW, score_floor=0.05, per="level", limit=9
    )
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)


def test_a_single_anchor_is_enough():
    outputs = Outputs(
        class_logits=torch.tensor([[[2.0]]]),
        box_codes=torch.zeros(1, 1, 4),
        feature_sizes=((1, 1),),
    )
    anchors = torch.tensor([[1.0, 2.0, 30.0, 40.0]])
    for per in ("image", "level", "class"):
        found = find_candidates(outputs, anchors, (35, 50), score_floor=0.05, per=per, limit=5)
        assert found.boxes_xyxy.tolist() == [[1, 2, 30, 35]]
        assert found.scores.tolist() == pytest.approx([1 / (1 + np.exp(-2))])


def test_a_score_at_the_floor_is_left_out():
    logits = torch.tensor([[[0.0, -1e-4, 1e-4]]])
    outputs = Outputs(class_logits=logits, box_codes=torch.zeros(1, 1, 4), feature_sizes=((1, 1),))
    found = find_candidates(
        outputs, ANCHORS[:1] + 20, SIZE_HW, score_floor=0.5, per="image", limit=5
    )
    assert found.class_ids.tolist() == [2]


def test_ranks_and_order_by_hand():
    group = torch.tensor([2, 0, 2, 2, 0])
    assert ranks(group).tolist() == [0, 0, 1, 2, 1]
    assert best_first(group, torch.tensor([0.1, 0.3, 0.9, 0.1, 0.4])).tolist() == [4, 1, 2, 0, 3]
    assert ranks(group[:0]).tolist() == []
