"""Suppression, hard and soft, against the rule written out box by box, class by class."""

import math

import pytest
import torch
from torchvision.ops import box_iou

from ray_st.tasks.candidates import Candidates, best_first
from ray_st.tasks.nms import hard_nms, soft_nms

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

NUM_CLASSES = 3


def scored(rows):
    """(image, class, score, box) -> candidates in their order."""
    image, class_ids, scores, boxes = zip(*rows, strict=True) if rows else ((), (), (), ())
    image, scores = torch.tensor(image, dtype=torch.int64), torch.tensor(scores)
    found = Candidates(
        image=image,
        boxes_xyxy=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        class_ids=torch.tensor(class_ids, dtype=torch.int64),
        scores=scores.float(),
    )
    return found[best_first(image, found.scores)]


def crowded(seed, counts):
    """Images of many overlapping boxes; `counts` of 0 are images without any."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for i, count in enumerate(counts):
        corner = torch.rand(count, 2, generator=generator) * 60
        side = 8 + torch.rand(count, 2, generator=generator) * 30
        boxes = torch.cat([corner, corner + side], 1).tolist()
        classes = torch.randint(0, NUM_CLASSES, (count,), generator=generator).tolist()
        scores = (0.05 + 0.9 * torch.rand(count, generator=generator)).tolist()
        rows += zip([i] * count, classes, scores, boxes, strict=True)
    return scored(rows)


def slow(found, image, limit, decay, score_floor=0.0):
    """Greedy in float64: each class alone, then the best `limit` of all."""
    rows = []
    for k in range(NUM_CLASSES):
        mine = (found.image == image) & (found.class_ids == k)
        boxes = found.boxes_xyxy[mine].double()
        left = list(enumerate(found.scores[mine].tolist()))
        while left and max(score for _, score in left) > score_floor:
            best, score = max(left, key=lambda pair: (pair[1], -pair[0]))
            rows.append((score, k, boxes[best].tolist()))
            left = [
                (j, s * decay(box_iou(boxes[best][None], boxes[j][None]).item()))
                for j, s in left
                if j != best
            ]
    return sorted(rows, key=lambda row: -row[0])[:limit]


def assert_equal(actual, found, num_images, limit, decay, score_floor=0.0):
    assert (actual.image.diff() >= 0).all()
    for i in range(num_images):
        one = actual[actual.image == i]
        expected = slow(found, i, limit, decay, score_floor)
        assert one.scores.tolist() == pytest.approx([s for s, _, _ in expected], rel=1e-5)
        assert one.class_ids.tolist() == [k for _, k, _ in expected]
        assert one.boxes_xyxy.tolist() == [box for _, _, box in expected]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_hard_nms_equals_slow_reference(seed, limit):
    found = crowded(seed, [70, 0, 1, 45, 0])
    actual = hard_nms(found, iou=0.4, limit=limit)
    assert_equal(actual, found, 5, limit, lambda iou: 0.0 if iou > 0.4 else 1.0)
    assert len(actual) < len(found)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [1, 7, 1000])
@pytest.mark.parametrize("sigma", [0.1, 0.3, 5.0])
def test_soft_nms_equals_slow_reference(seed, limit, sigma):
    found = crowded(seed, [40, 0, 1, 25, 0])
    actual = soft_nms(found, sigma=sigma, score_floor=0.05, limit=limit)
    assert_equal(actual, found, 5, limit, lambda iou: math.exp(-0.5 * iou**2 / sigma), 0.05)


def test_soft_nms_by_hand():
    # The second is half of the first: IoU 1/2.
    rows = [
        (0, 0, 0.9, [0, 0, 10, 10]),
        (0, 0, 0.8, [0, 0, 10, 5]),
        (0, 1, 0.7, [0, 0, 10, 10]),  # another class: untouched
        (0, 0, 0.6, [50, 50, 60, 60]),  # apart: untouched
    ]
    actual = soft_nms(scored(rows), sigma=0.3, score_floor=0.05, limit=100)
    lowered = 0.8 * math.exp(-0.5 * 0.25 / 0.3)  # 0.527: behind both others now
    assert actual.scores.tolist() == pytest.approx([0.9, 0.7, 0.6, lowered])
    assert actual.class_ids.tolist() == [0, 1, 0, 0]
    # The form of the Soft-NMS paper, s * exp(-IoU^2 / sigma), with twice the sigma.
    assert lowered == pytest.approx(0.8 * math.exp(-(0.5**2) / 0.6))


def test_soft_nms_drops_what_falls_to_the_floor():
    twins = scored([(0, 0, 0.9, [0, 0, 9, 9]), (0, 0, 0.5, [0, 0, 9, 9])])
    lowered = 0.5 * math.exp(-0.5 / 0.3)  # 0.094
    for floor, count in ((lowered - 0.001, 2), (lowered + 0.001, 1), (0.95, 0)):
        assert len(soft_nms(twins, sigma=0.3, score_floor=floor, limit=10)) == count


def test_no_candidate_at_all():
    for kept in (
        hard_nms(scored([]), iou=0.5, limit=5),
        soft_nms(scored([]), sigma=0.3, score_floor=0.05, limit=5),
    ):
        assert len(kept) == 0
        assert kept.boxes_xyxy.shape == (0, 4)


def test_of_equal_scores_the_earlier_counts():
    rows = [(0, 0, 0.5, [0, 0, 10, 10 + k]) for k in range(20)]
    assert hard_nms(scored(rows), iou=0.5, limit=100).boxes_xyxy.tolist()[0] == [0, 0, 10, 10]
    first = soft_nms(scored(rows), sigma=0.3, score_floor=0.01, limit=1)
    assert first.boxes_xyxy.tolist() == [[0, 0, 10, 10]]


def test_hard_nms_looks_as_far_as_it_must():
    # Thousand copies of one box, then a lone one at the end: all must be looked at for it.
    rows = [(0, 0, 0.9, [0, 0, 10, 10])] * 1000 + [(0, 0, 0.1, [50, 50, 60, 60])]
    kept = hard_nms(scored(rows), iou=0.5, limit=2)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.1])


def test_a_class_far_from_the_first_is_suppressed_as_exactly():
    box, near = [0, 0, 8, 8], [0, 0, 8, 8 / 0.501]  # IoU 0.501
    for k in (0, 100_000):
        found = scored([(0, k, 0.9, box), (0, k, 0.8, near)])
        assert len(hard_nms(found, iou=0.5, limit=9)) == 1
        assert len(hard_nms(found, iou=0.502, limit=9)) == 2
