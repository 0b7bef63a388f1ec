"""Crowd regions on their way from rows to the loss: neither objects nor background."""

import numpy as np
import pytest
import torch
from test_coco_ap import table
from torchvision.ops import sigmoid_focal_loss

from ray_st.data.augment import AugmentConfig, view
from ray_st.data.batches import collate
from ray_st.data.images import Source
from ray_st.data.labels import Detections, Origin
from ray_st.models.retinanet import Outputs
from ray_st.tasks.anchors import inside, match, pyramid_anchors
from ray_st.tasks.coco_ap import box_ap, precision_recall
from ray_st.tasks.detection import Detection
from ray_st.tasks.focal import focal_sums

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CPU = torch.device("cpu")
SIZE_HW = (64, 64)
FEATURE_SIZES = ((8, 8), (4, 4))
NUM_CLASSES = 3
TASK = Detection(num_classes=NUM_CLASSES, levels=(3, 4), anchor_scale=4.0)
ANCHORS = pyramid_anchors(FEATURE_SIZES, (8, 16), 4.0, CPU)


def random_outputs(num_images, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (num_images, len(ANCHORS))
    return Outputs(
        class_logits=torch.randn(*shape, NUM_CLASSES, generator=generator) - 2,
        box_codes=torch.randn(*shape, 4, generator=generator) * 0.3,
        feature_sizes=FEATURE_SIZES,
    )


def loss_of(outputs, labels):
    return TASK.loss_sums(outputs, TASK.targets(labels, SIZE_HW, CPU))


BOXES = Detections.of([[4, 4, 30, 28], [33, 35, 60, 50]], [0, 2])
CROWDED = Detections.of(
    [[4, 4, 30, 28], [20, 10, 64, 40], [33, 35, 60, 50], [0, 50, 22, 64]],
    [0, 1, 2, 2],
    is_crowd=[False, True, False, True],
)


def slow_share(anchor, region):
    """Share of an anchor that lies in a region, in plain arithmetic."""
    width = min(anchor[2], region[2]) - max(anchor[0], region[0])
    height = min(anchor[3], region[3]) - max(anchor[1], region[1])
    area = (anchor[2] - anchor[0]) * (anchor[3] - anchor[1])
    return max(width, 0) * max(height, 0) / area


def slow_spared(labels):
    regions = labels.boxes_xyxy[labels.is_crowd].tolist()
    return torch.tensor(
        [any(slow_share(a, r) >= 0.5 for r in regions) for a in ANCHORS.double().tolist()]
    )


def test_anchors_in_a_region_by_hand():
    anchors = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [5.1, 0, 15.1, 10], [20, 0, 30, 10]])
    regions = torch.tensor([[[0.0, 0, 10, 40]], [[0, 0, 0, 0]], [[-9, -9, 99, 99]]])
    assert inside(anchors, regions).tolist() == [
        [True, True, False, False],
        [False] * 4,
        [True] * 4,
    ]


def test_an_anchor_in_a_crowd_costs_nothing_unless_it_answers_for_an_object():
    outputs = random_outputs(3)
    found = loss_of(outputs, [CROWDED, Detections.of(), BOXES])
    plain = loss_of(outputs, [BOXES, Detections.of(), BOXES])
    matched = match(ANCHORS, torch.tensor(BOXES.boxes_xyxy)[None], torch.ones(1, 2).bool())[0]
    spared = slow_spared(CROWDED) & (matched < 0)
    assert 20 < spared.sum() < len(ANCHORS) / 2
    assert (slow_spared(CROWDED) & (matched >= 0)).any()  # some answer for an object in there
    logits = outputs.class_logits[0][spared]
    cost = sigmoid_focal_loss(logits, torch.zeros_like(logits), alpha=0.25, gamma=1.5).sum()
    expected = plain.parts["class"] - torch.tensor([cost, 0.0, 0.0])
    torch.testing.assert_close(found.parts["class"], expected)
    assert found.counts.tolist() == plain.counts.tolist()
    assert torch.equal(found.parts["box"], plain.parts["box"])


def test_spared_anchors_have_no_gradient_and_the_others_their_own():
    outputs = random_outputs(1)
    gradients = []
    for labels in (CROWDED, BOXES):
        logits = outputs.class_logits.clone().requires_grad_()
        mine = Outputs(
            class_logits=logits, box_codes=outputs.box_codes, feature_sizes=FEATURE_SIZES
        )
        loss_of(mine, [labels]).sums.sum().backward()
        gradients.append(logits.grad[0])
    matched = match(ANCHORS, torch.tensor(BOXES.boxes_xyxy)[None], torch.ones(1, 2).bool())[0]
    spared = slow_spared(CROWDED) & (matched < 0)
    assert (gradients[0][spared] == 0).all()
    assert (gradients[1][spared] != 0).all()
    assert torch.equal(gradients[0][~spared], gradients[1][~spared])


def test_without_a_crowd_no_bit_of_the_loss_changes():
    outputs = random_outputs(2)
    labels = [BOXES, Detections.of()]
    targets = TASK.targets(labels, SIZE_HW, CPU)
    assert targets.crowds_xyxy.shape == (2, 0, 4)
    matched = match(ANCHORS, targets.boxes_xyxy, targets.is_box)
    image, anchor = torch.nonzero(matched >= 0, as_tuple=True)
    class_ids = targets.class_ids[image, matched[image, anchor]]

    def cost(x):
        return torch.exp(
            1.5 * (x - torch.nn.functional.softplus(x))
        ) * torch.nn.functional.softplus(x)

    # The formula as it was before there were regions to spare, operation by operation.
    logits = outputs.class_logits
    positive = logits[image, anchor, class_ids]
    expected = ((1 - 0.25) * cost(logits).sum(dim=(1, 2))).index_add(
        0, image, 0.25 * cost(-positive) - (1 - 0.25) * cost(positive)
    )
    assert torch.equal(focal_sums(logits, image, anchor, class_ids), expected)
    assert torch.equal(loss_of(outputs, labels).parts["class"], expected)


def test_a_batch_of_crowds_alone():
    crowd = Detections.of([[-99, -99, 199, 199]], [0], is_crowd=[True])
    sums = loss_of(random_outputs(2), [crowd, Detections.of()])
    assert sums.parts["class"][0] == 0
    assert sums.parts["class"][1] > 0
    assert sums.counts.tolist() == [0, 0]


def test_crowds_follow_their_pixels_into_the_targets():
    pixels = np.zeros((40, 80, 3), np.uint8)
    config = AugmentConfig(flip_probability=1.0, scale_jitter=(0.5, 0.5))
    labels = Detections.of([[0, 0, 20, 40], [40, 10, 60, 30]], [0, 1], is_crowd=[True, False])
    shown, seen = view(Source.of_pixels(pixels), labels, 64, np.random.default_rng(0), config)
    batch = collate(
        shown[None],
        [seen],
        origin=Origin.PSEUDO,
        is_valid=np.ones(1, bool),
        image_ids=np.zeros(1, np.int64),
    )
    targets = TASK.targets(batch.labels, SIZE_HW, CPU)
    # 80 x 40 mirrored, then at 32 x 16: 0.4 of its size.
    assert targets.crowds_xyxy[0].tolist() == [pytest.approx([24, 0, 32, 16])]
    assert targets.boxes_xyxy[0].tolist() == [pytest.approx([8, 4, 16, 12])]


def test_predicted_crowds_predict_nothing():
    truths = table([Detections.of([[0, 0, 10, 10]], [0])])
    right = Detections.of([[0, 0, 10, 10]], [0], scores=[0.9])
    band = Detections.of(
        [[0, 0, 10, 10], [40, 40, 60, 60]], [0, 0], scores=[0.9, 0.4], is_crowd=[False, True]
    )
    assert precision_recall(truths, table([band])) == (1.0, 1.0)
    assert precision_recall(truths, table([right])) == (1.0, 1.0)
    only = band[1:]
    assert np.isnan(precision_recall(truths, table([only]))[0])
    assert box_ap(truths, table([right]), ["a"])["AP"] == pytest.approx(100)
