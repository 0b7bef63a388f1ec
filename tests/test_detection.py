"""The detection task: targets, loss sums and predictions against plain definitions."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, nms, sigmoid_focal_loss

from ray_st.config import UserError, from_dict
from ray_st.data.labels import Detections
from ray_st.models import ModelConfig, build
from ray_st.models.retinanet import Outputs
from ray_st.tasks.anchors import decode, encode, match, pyramid_anchors
from ray_st.tasks.detection import DetectConfig, Detection
from ray_st.tasks.focal import focal_sums

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CPU = torch.device("cpu")
SIZE_HW = (61, 83)  # odd: feature maps 8 x 11 and 4 x 6
FEATURE_SIZES = ((8, 11), (4, 6))
NUM_CLASSES = 3
NUM_ANCHORS = 9 * (88 + 24)


def task_with(**detect):
    return Detection(
        num_classes=NUM_CLASSES, levels=(3, 4), anchor_scale=4.0, detect=DetectConfig(**detect)
    )


TASK = task_with()
ANCHORS = pyramid_anchors(FEATURE_SIZES, (8, 16), 4.0, CPU)


def random_labels(count, seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(3, 20, (count, 2))], 1)
    return Detections.of(boxes, rng.integers(0, NUM_CLASSES, count))


def random_outputs(num_images, seed=0, *, offset=-2.0):
    generator = torch.Generator().manual_seed(seed)
    return Outputs(
        class_logits=torch.randn(num_images, NUM_ANCHORS, NUM_CLASSES, generator=generator)
        + offset,
        box_codes=torch.randn(num_images, NUM_ANCHORS, 4, generator=generator) * 0.3,
        feature_sizes=FEATURE_SIZES,
    )


def take(outputs, images):
    return Outputs(
        class_logits=outputs.class_logits[images],
        box_codes=outputs.box_codes[images],
        feature_sizes=outputs.feature_sizes,
    )


def loss_of(outputs, labels):
    return TASK.loss_sums(outputs, TASK.targets(labels, SIZE_HW, CPU))


LABELS = [random_labels(4, 1), Detections.of(), random_labels(1, 2), random_labels(7, 3)]


def test_targets_are_padded_and_leave_crowds_out():
    crowd = Detections.of([[0, 0, 9, 9], [1, 2, 3, 4]], [0, 2], is_crowd=[True, False])
    targets = TASK.targets([crowd, Detections.of(), random_labels(3, 0)], SIZE_HW, CPU)
    assert targets.boxes_xyxy.shape == (3, 3, 4)
    assert targets.is_box.sum(1).tolist() == [1, 0, 3]
    assert targets.boxes_xyxy[0, 0].tolist() == [1, 2, 3, 4]
    assert targets.class_ids[0, 0] == 2
    assert TASK.targets([Detections.of()], SIZE_HW, CPU).boxes_xyxy.shape == (1, 0, 4)


def test_class_id_beyond_the_model_is_the_users_mistake():
    with pytest.raises(UserError, match=r"data\.classes: .*0\.\.2, got 3\.\.3"):
        TASK.targets([Detections.of([[0, 0, 5, 5]], [3])], SIZE_HW, CPU)


@pytest.mark.parametrize("gamma", [1.5, 2.0])
def test_focal_sums_equal_torchvisions(gamma):
    logits = torch.randn(3, 20, 4) * 5
    image, anchor = torch.tensor([0, 0, 2]), torch.tensor([3, 4, 19])
    class_ids = torch.tensor([1, 0, 3])
    hot = torch.zeros_like(logits)
    hot[image, anchor, class_ids] = 1
    mine, theirs = (logits.clone().requires_grad_() for _ in range(2))
    actual = focal_sums(mine, image, anchor, class_ids, gamma=gamma)
    expected = sigmoid_focal_loss(theirs, hot, alpha=0.25, gamma=gamma).sum((1, 2))
    torch.testing.assert_close(actual, expected)
    actual.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("value", [-200.0, 200.0])
def test_focal_loss_and_gradient_are_finite_at_the_ends(value):
    logits = torch.full((1, 2, 2), value, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.int64)
    focal_sums(logits, zero, zero, zero).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_loss_sums_equal_the_plain_definition():
    outputs = random_outputs(4)
    actual = loss_of(outputs, LABELS)
    for i, one in enumerate(LABELS):
        hot, box_sum, positives = torch.zeros(NUM_ANCHORS, NUM_CLASSES), 0.0, 0
        boxes = torch.from_numpy(one.boxes_xyxy)
        matched = match(ANCHORS, boxes[None], torch.ones(1, len(one), dtype=torch.bool))[0]
        for a in range(NUM_ANCHORS):
            if matched[a] < 0:
                continue
            positives += 1
            hot[a, one.class_ids[matched[a]]] = 1
            for error in (outputs.box_codes[i, a] - encode(boxes[matched[a]], ANCHORS[a])).tolist():
                size = abs(error)
                box_sum += 0.5 * size**2 if size <= 0.1 else 0.1 * (size - 0.05)
        focal = sigmoid_focal_loss(outputs.class_logits[i], hot, alpha=0.25, gamma=1.5).sum()
        assert actual.counts[i] == positives
        assert actual.parts["class"][i].item() == pytest.approx(focal.item(), rel=1e-4)
        assert actual.parts["box"][i].item() == pytest.approx(50 / 4 * box_sum, rel=1e-4)
        total = focal.item() + 50 / 4 * box_sum
        assert actual.sums[i].item() == pytest.approx(total, rel=1e-4)
    assert actual.count_offset == 1
    assert not any(part.requires_grad for part in actual.parts.values())


def test_image_without_boxes_has_no_positive_and_no_box_loss():
    sums = loss_of(random_outputs(2), [Detections.of(), Detections.of()])
    assert sums.counts.tolist() == [0, 0]
    assert sums.parts["box"].tolist() == [0, 0]
    assert (sums.parts["class"] > 0).all()


def test_loss_of_a_batch_is_that_of_its_images_in_any_order():
    outputs = random_outputs(4)
    whole = loss_of(outputs, LABELS)
    order = [2, 0, 3, 1]
    shuffled = loss_of(take(outputs, order), [LABELS[i] for i in order])
    torch.testing.assert_close(shuffled.sums, whole.sums[order])
    assert shuffled.counts.tolist() == whole.counts[order].tolist()
    alone = [loss_of(take(outputs, [i]), [LABELS[i]]) for i in range(4)]
    torch.testing.assert_close(torch.cat([one.sums for one in alone]), whole.sums)
    assert torch.cat([one.counts for one in alone]).tolist() == whole.counts.tolist()


def test_batch_of_one_through_the_model_trains_every_parameter():
    torch.manual_seed(0)
    config = ModelConfig(
        backbone="resnet10t", image_size_px=64, levels=(3, 4), channels=16, head_convs=1
    )
    model = build(config, "detection", NUM_CLASSES)
    outputs = model(torch.randint(0, 256, (1, 3, 97, 131), dtype=torch.uint8))
    for labels in ([Detections.of()], [random_labels(3, 0)]):
        model.zero_grad()
        loss_of(outputs, labels).sums.sum().backward(retain_graph=True)
        assert all(p.grad is not None for p in model.parameters())
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.boxes.predict.parameters())


def test_gradient_steps_lead_to_the_labels():
    labels = [Detections.of([[10, 10, 40, 44], [50, 20, 75, 50]], [0, 2]), Detections.of()]
    codes = torch.zeros(2, NUM_ANCHORS, 4, requires_grad=True)
    logits = torch.full((2, NUM_ANCHORS, NUM_CLASSES), -4.6, requires_grad=True)
    optimizer = torch.optim.Adam([codes, logits], lr=0.1)
    outputs = Outputs(class_logits=logits, box_codes=codes, feature_sizes=FEATURE_SIZES)
    for _ in range(200):
        optimizer.zero_grad()
        loss_of(outputs, labels).sums.sum().backward()
        optimizer.step()
    found, none = TASK.predictions(outputs, SIZE_HW)
    found = found[found.scores > 0.5]
    assert sorted(found.class_ids.tolist()) == [0, 2]
    for box, k in zip(found.boxes_xyxy, found.class_ids, strict=True):
        np.testing.assert_allclose(box, labels[0].boxes_xyxy[[0, 2].index(k)], atol=0.5)
    assert len(none) == 0


def slow_predictions(task, outputs, size_hw, image):
    """All anchors and classes of one image, class by class."""
    scores = outputs.class_logits[image].sigmoid()
    boxes = decode(outputs.box_codes[image], ANCHORS)
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, size_hw[1])
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, size_hw[0])
    cut = max(
        task.detect.score_floor,
        scores.flatten().sort().values[-task.detect.max_candidates - 1].item(),
    )
    rows = []
    for k in range(NUM_CLASSES):
        chosen = (
            (scores[:, k] > cut) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        ).nonzero()[:, 0]
        kept = chosen[nms(boxes[chosen], scores[chosen, k], task.detect.nms_iou)]
        rows += [(scores[j, k].item(), k, boxes[j].tolist()) for j in kept]
    return sorted(rows, reverse=True)[: task.detect.max_detections]


@pytest.mark.parametrize(
    "task",
    [
        TASK,
        task_with(max_candidates=50, max_detections=7),
        task_with(score_floor=0.5, nms_iou=0.3),
    ],
)
def test_predictions_equal_slow_reference(task):
    outputs = random_outputs(5, offset=-1.0)
    outputs.class_logits[2] = -10.0  # one image without any
    actual = task.predictions(outputs, SIZE_HW)
    assert [len(one) for one in actual][2] == 0
    assert sum(len(one) for one in actual) > 20
    for i, one in enumerate(actual):
        expected = slow_predictions(task, outputs, SIZE_HW, i)
        np.testing.assert_allclose(one.scores, [s for s, _, _ in expected], rtol=1e-5)
        assert one.class_ids.tolist() == [k for _, k, _ in expected]
        if expected:
            np.testing.assert_allclose(one.boxes_xyxy, [b for _, _, b in expected], atol=1e-3)


def test_predictions_are_numpy_inside_the_view_and_best_first():
    outputs = random_outputs(2)
    outputs.box_codes[:, :, 0] += 1e4  # half of the boxes far outside: nothing left of them
    outputs.box_codes[:, ::2, 0] -= 1e4
    for one in TASK.predictions(outputs, SIZE_HW):
        assert len(one) > 0
        assert one.boxes_xyxy.dtype == one.scores.dtype == np.float32
        assert one.class_ids.dtype == np.int32
        assert (np.diff(one.scores) <= 0).all()
        assert one.boxes_xyxy.min() >= 0
        assert (one.boxes_xyxy[:, 2:] <= (SIZE_HW[1], SIZE_HW[0])).all()
        assert (one.boxes_xyxy[:, 2:] > one.boxes_xyxy[:, :2]).all()


def test_no_prediction_above_the_floor_in_the_whole_batch():
    found = TASK.predictions(random_outputs(3, offset=-20.0), SIZE_HW)
    assert [len(one) for one in found] == [0, 0, 0]
    assert found[0].boxes_xyxy.shape == (0, 4)


def test_images_far_down_a_big_batch_are_suppressed_as_exactly_as_the_first():
    # 100 images x 1000 classes: groups reach 1e5, which torchvision moves 3e7 px away, where
    # float32 knows these boxes of 8 px to 2 px only. (Beyond 1000 boxes it goes another way.)
    detect = DetectConfig(max_candidates=9)
    task = Detection(num_classes=1000, levels=(5, 5), anchor_scale=0.25, detect=detect)
    one = torch.full((1, 90, 1000), -9.0)
    one[0, 81:, 999] = torch.linspace(0, 1, 9)  # the nine anchors about (304, 16)
    outputs = Outputs(
        class_logits=one.expand(100, -1, -1),
        box_codes=(torch.arange(360.0).view(1, 90, 4).sin() * 0.2).expand(100, -1, -1),
        feature_sizes=((1, 10),),
    )
    found = task.predictions(outputs, (320, 320))
    assert len(found[0]) > 1
    boxes = torch.from_numpy(found[0].boxes_xyxy)
    assert box_iou(boxes, boxes).fill_diagonal_(0).max() <= 0.5
    for other in found[1:]:
        np.testing.assert_array_equal(other.boxes_xyxy, found[0].boxes_xyxy)


def test_permuting_images_permutes_predictions():
    outputs = random_outputs(3)
    whole = TASK.predictions(outputs, SIZE_HW)
    shuffled = TASK.predictions(take(outputs, [2, 0, 1]), SIZE_HW)
    for one, i in zip(shuffled, [2, 0, 1], strict=True):
        np.testing.assert_array_equal(one.boxes_xyxy, whole[i].boxes_xyxy)
        np.testing.assert_array_equal(one.class_ids, whole[i].class_ids)


def test_soft_nms_is_asked_for_by_name():
    outputs = random_outputs(3)
    hard = TASK.predictions(outputs, SIZE_HW)
    soft = task_with(nms="soft", max_detections=10_000).predictions(outputs, SIZE_HW)
    for kept, lowered in zip(hard, soft, strict=True):
        assert len(lowered) > len(kept) > 0
        assert (np.diff(lowered.scores) <= 0).all()
        assert lowered.scores.min() > TASK.detect.score_floor
        np.testing.assert_array_equal(lowered.boxes_xyxy[0], kept.boxes_xyxy[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nms_iou": 1.1}, r"detect\.nms_iou: must be 0 to 1, got 1\.1"),
        ({"soft_nms_sigma": 0.0}, r"detect\.soft_nms_sigma: must be above 0, got 0\.0"),
        ({"soft_nms_sigma": float("nan")}, r"detect\.soft_nms_sigma: .*got nan"),
        ({"score_floor": 1.0}, r"detect\.score_floor: must be at least 0 and below 1, got 1\.0"),
        ({"max_detections": 0}, r"detect\.max_detections: must be at least 1, got 0"),
        ({"max_candidates": 0}, r"detect\.max_candidates: must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(wrong, message):
    with pytest.raises(UserError, match=message):
        DetectConfig(**wrong)


def test_settings_come_from_a_recipe():
    assert from_dict(DetectConfig, {"nms": "soft"}) == DetectConfig(nms="soft")
    with pytest.raises(UserError, match="candidates"):
        from_dict(DetectConfig, {"candidates": "pixel"})
