"""Boxes chosen in fixed shapes: the same that the task chooses, by every rule."""

import pytest
import torch

from ray_st.models.retinanet import Outputs
from ray_st.portable.choosing import Scored, candidates, chosen
from ray_st.tasks.anchors import pyramid_anchors, strides_of
from ray_st.tasks.detection import DetectConfig, Detection

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SIDE_PX, LEVELS, SIZES = 64, (3, 4), ((8, 8), (4, 4))
ANCHORS = pyramid_anchors(SIZES, strides_of(LEVELS), 4.0, torch.device("cpu"))
NUM_ANCHORS = 9 * (64 + 16)


@pytest.fixture(autouse=True)
def plain_loops():
    """`torch.while_loop` as Python runs it, without compiling it first."""
    with torch.compiler.set_stance("force_eager"):
        yield


def outputs_of(class_logits, box_codes):
    return Outputs(class_logits=class_logits, box_codes=box_codes, feature_sizes=SIZES)


def random_outputs(offset=-2.0, num_images=3, num_classes=3, spread=0.3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_images, NUM_ANCHORS, num_classes, generator=generator) + offset
    return outputs_of(logits, spread * torch.randn(num_images, NUM_ANCHORS, 4, generator=generator))


def assert_same(outputs, **settings):
    """Rows up to the count are the task's labels, in its order; all behind are 0."""
    detect, num_classes = DetectConfig(**settings), outputs.class_logits.shape[2]
    task = Detection(num_classes=num_classes, levels=LEVELS, anchor_scale=4.0, detect=detect)
    found = chosen(candidates(outputs, ANCHORS, SIDE_PX, detect), detect)
    assert found.scores.shape == (len(outputs.class_logits), detect.max_detections)
    counts = []
    for i, one in enumerate(task.predictions(outputs, (SIDE_PX, SIDE_PX))):
        n = len(one)
        assert int((found.scores[i] > 0).sum()) == n
        assert found.class_ids[i, :n].tolist() == one.class_ids.tolist()
        torch.testing.assert_close(found.scores[i, :n], torch.from_numpy(one.scores))
        boxes = torch.from_numpy(one.boxes_xyxy)
        torch.testing.assert_close(found.boxes_xyxy[i, :n], boxes, rtol=0, atol=1e-5)
        for values in found:
            assert not values[i, n:].any()
        counts.append(n)
    return counts


@pytest.mark.parametrize("nms", ["hard", "soft"])
@pytest.mark.parametrize(
    ("per", "limit"), [("image", 1000), ("image", 50), ("level", 40), ("class", 30)]
)
def test_every_rule(nms, per, limit):
    counts = assert_same(
        random_outputs(), nms=nms, candidates=per, max_candidates=limit, max_detections=60
    )
    assert min(counts) > 15  # something was chosen, and something left


def test_more_rows_than_anchors():
    """720 anchors of 1 class: candidates are all of them, and most rows stay empty."""
    counts = assert_same(random_outputs(num_classes=1), max_detections=900)
    assert max(counts) < 720


def test_images_of_nothing_and_of_little():
    outputs = random_outputs()
    outputs.class_logits[0] = -9.0  # sigmoid 0.0001
    outputs.class_logits[1] = -9.0
    outputs.class_logits[1, 5, 2] = 0.0
    assert assert_same(outputs)[:2] == [0, 1]
    assert assert_same(outputs, nms="soft")[:2] == [0, 1]
    outputs.class_logits[:] = -9.0
    assert assert_same(outputs) == [0, 0, 0]


def test_a_score_at_the_floor_and_boxes_without_area_are_left_out():
    outputs = random_outputs(num_images=1)
    outputs.class_logits[:] = -9.0
    outputs.class_logits[0, :3, 0] = torch.tensor([0.0, 2.0, 3.0])
    assert torch.tensor(0.0).sigmoid() == 0.5
    outputs.box_codes[0, :2] = 0.0
    outputs.box_codes[0, 2] = torch.tensor([-9.0, 0.0, 0.0, 0.0])  # left of the view: no width
    assert assert_same(outputs, score_floor=0.5) == [1]


def test_a_floor_of_zero():
    assert_same(random_outputs(num_classes=1, num_images=1), score_floor=0.0, max_candidates=90)
    assert_same(
        random_outputs(num_classes=1, num_images=1), score_floor=0.0, nms="soft", max_candidates=90
    )


def test_equal_scores_go_by_anchor_and_class():
    outputs = random_outputs()
    outputs.class_logits[:] = outputs.class_logits.round()
    assert_same(outputs, max_candidates=2160)  # all; whom of equals a limit cuts is left open


def test_suppression_by_hand():
    """IoU of 0..10 with 5..15 is 1/3, with 1..11 is 9/11; the other class stands apart."""
    sides = torch.tensor([[0.0, 10], [5, 15], [1, 11], [0, 10]])
    boxes = torch.stack([sides[:, 0], sides[:, 0] * 0, sides[:, 1], sides[:, 1] * 0 + 10], dim=1)
    boxes[:, 3] = 10
    found = Scored(boxes[None], torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0.9, 0.8, 0.7, 0.6]]))
    hard = chosen(found, DetectConfig(max_detections=5))
    assert hard.scores.tolist() == [pytest.approx([0.9, 0.8, 0.6, 0, 0])]
    assert hard.class_ids.tolist() == [[0, 0, 1, 0, 0]]
    assert hard.boxes_xyxy[0, 1].tolist() == [5, 0, 15, 10]
    soft = chosen(found, DetectConfig(nms="soft", soft_nms_sigma=0.5, max_detections=3))
    # 0.8 * exp(-(1/3)^2 / 1) = 0.71588; then 0.6 of the other class, before
    # 0.7 * exp(-(9/11)^2) * exp(-(6/14)^2) = 0.7 * 0.51201 * 0.83219 = 0.29827
    assert soft.scores.tolist() == [pytest.approx([0.9, 0.71588, 0.6], abs=1e-5)]
