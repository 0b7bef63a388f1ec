"""The segmentation task: targets, loss sums and predictions against slow definitions."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, interpolate

from ray_st.config import UserError
from ray_st.data.labels import IGNORE, Origin, SegmentationMap
from ray_st.data.rows import pack
from ray_st.models import ModelConfig
from ray_st.tasks import make_task
from ray_st.tasks.segmentation import Segmentation
from ray_st.training.loss_balance import LossBalance, balanced_loss

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CPU = torch.device("cpu")
NUM_CLASSES = 3
TASK = Segmentation(num_classes=NUM_CLASSES)
SIZES_HW = [(8, 8), (9, 7), (1, 13), (64, 5), (1, 1)]


def random_map(size_hw, seed, *, ignored=0.3):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, NUM_CLASSES, size_hw).astype(np.uint8)
    values[rng.random(size_hw) < ignored] = IGNORE
    return SegmentationMap(class_map=values)


def random_logits(num_images, grid_hw, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_images, NUM_CLASSES, *grid_hw, generator=generator) * 3


def grid_of(size_hw):
    return math.ceil(size_hw[0] / 4), math.ceil(size_hw[1] / 4)


def loss_of(logits, labels, size_hw):
    return TASK.loss_sums(logits, TASK.targets(labels, size_hw, CPU))


def slow_loss(logits, class_map):
    """Sum and count of one image, logit by logit, in float64."""
    _, height, width = logits.shape
    total, count = 0.0, 0
    for y in range(height):
        for x in range(width):
            # The label under the centre of this logit.
            row = int(Fraction(2 * y + 1, 2) * class_map.shape[0] / height)
            column = int(Fraction(2 * x + 1, 2) * class_map.shape[1] / width)
            label = int(class_map[row, column])
            if label != IGNORE:
                scores = [math.exp(float(value)) for value in logits[:, y, x]]
                total -= math.log(scores[label] / sum(scores))
                count += 1
    return total, count


# Targets


def test_targets_are_the_maps_and_of_an_unknown_image_nothing():
    labels = [random_map((9, 7), 0), SegmentationMap.unknown(), random_map((9, 7), 1, ignored=1)]
    targets = TASK.targets(labels, (9, 7), CPU)
    assert targets.shape == (3, 9, 7)
    np.testing.assert_array_equal(targets[0].numpy(), labels[0].class_map)
    assert (targets[1:] == IGNORE).all()
    assert TASK.targets([], (9, 7), CPU).shape == (0, 9, 7)


@pytest.mark.parametrize("value", [3, 254])
def test_a_class_beyond_the_model_is_the_users_mistake(value):
    labels = SegmentationMap(class_map=np.array([[0, value, IGNORE]], np.uint8))
    with pytest.raises(UserError, match=rf"^data\.classes: .*0\.\.2 or 255, got {value}; give"):
        TASK.targets([labels], (1, 3), CPU)


# Loss


@pytest.mark.parametrize("size_hw", SIZES_HW)
@pytest.mark.parametrize("ignored", [0.0, 0.4, 1.0])
def test_loss_equals_a_slow_one(size_hw, ignored):
    labels = [random_map(size_hw, seed, ignored=ignored) for seed in range(3)]
    logits = random_logits(3, grid_of(size_hw))
    sums = loss_of(logits, labels, size_hw)
    expected = [slow_loss(logits[i], one.class_map) for i, one in enumerate(labels)]
    np.testing.assert_allclose(sums.sums, [total for total, _ in expected], rtol=1e-5, atol=1e-6)
    assert sums.counts.tolist() == [count for _, count in expected]
    assert sums.count_offset == 0
    assert sums.parts["class"].equal(sums.sums)
    assert not sums.parts["class"].requires_grad


def test_a_logit_at_stride_4_learns_the_label_in_the_middle_of_its_cell():
    class_map = np.full((4, 8), IGNORE, np.uint8)
    class_map[2, 2], class_map[2, 6] = 1, 2
    logits = random_logits(1, (1, 2)).requires_grad_()
    sums = loss_of(logits, [SegmentationMap(class_map=class_map)], (4, 8))
    expected = cross_entropy(logits[0, :, 0].T, torch.tensor([1, 2]), reduction="sum")
    torch.testing.assert_close(sums.sums, expected[None])
    assert sums.counts.tolist() == [2]


def test_where_nothing_is_known_nothing_is_learned():
    logits = random_logits(2, (4, 4)).requires_grad_()
    labels = [SegmentationMap.unknown(), random_map((16, 16), 0)]
    sums = loss_of(logits, labels, (16, 16))
    assert sums.sums[0] == 0
    assert sums.counts[0] == 0
    sums.sums.sum().backward()
    assert not logits.grad[0].any()
    assert logits.grad[1].any()
    # All unknown: a sum of 0 by a count of 0 is a step of 0, not NaN.
    logits = random_logits(2, (4, 4)).requires_grad_()
    sums = loss_of(logits, [SegmentationMap.unknown()] * 2, (16, 16))
    balance = LossBalance.start(alpha=1.0, normalised=True, decay=0.99)
    loss = balanced_loss(sums, torch.tensor([0, 1]), torch.tensor([True, True]), balance)
    loss.to_differentiate.backward()
    assert loss.total == 0
    assert not logits.grad.any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), order=st.permutations(range(4)))
def test_each_image_has_its_own_loss_whatever_stands_beside_it(seed, order):
    labels = [random_map((9, 7), seed + i) for i in range(4)]
    logits = random_logits(4, grid_of((9, 7)), seed)
    together = loss_of(logits, labels, (9, 7))
    shuffled = loss_of(logits[list(order)], [labels[i] for i in order], (9, 7))
    torch.testing.assert_close(shuffled.sums, together.sums[list(order)])
    assert shuffled.counts.equal(together.counts[list(order)])
    alone = loss_of(logits[1:2], labels[1:2], (9, 7))
    torch.testing.assert_close(alone.sums, together.sums[1:2])


def test_extreme_logits_give_a_finite_loss():
    logits = torch.zeros(1, NUM_CLASSES, 1, 2)
    logits[0, 0] = torch.tensor([1e4, -1e4])
    sums = loss_of(logits, [SegmentationMap(class_map=np.zeros((1, 2), np.uint8))], (1, 2))
    assert sums.sums.tolist() == [pytest.approx(1e4 + math.log(2))]  # 0 and log(e^1e4 + 2)


# Predictions


@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_predictions_equal_softmax_at_full_size(size_hw):
    logits = random_logits(3, grid_of(size_hw), 5)
    found = TASK.predictions(logits, size_hw)
    assert len(found) == 3
    full = interpolate(logits.double(), size=size_hw, mode="bilinear", align_corners=False)
    best = full.softmax(dim=1).max(dim=1)
    for i, labels in enumerate(found):
        assert labels.class_map.shape == labels.confidence.shape == size_hw
        assert labels.class_map.dtype == labels.confidence.dtype == np.uint8
        np.testing.assert_array_equal(labels.class_map, best.indices[i])
        exact = best.values[i].numpy() * 255
        # Rounded down, but for the last bits of a float32.
        assert (labels.confidence <= exact + 1e-3).all()
        assert (labels.confidence > exact - 1 - 1e-3).all()


def test_enlarging_by_hand():
    # Two logits at stride 4: their centres lie at 1.5 and 5.5, and between them is a straight line.
    logits = torch.tensor([[[[0.0, 4.0]], [[2.0, 2.0]]]])
    (labels,) = Segmentation(num_classes=2).predictions(logits, (1, 8))
    lines = [[0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4], [2] * 8]
    assert labels.class_map.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    for x, (a, b) in enumerate(zip(*lines, strict=True)):
        share = math.exp(max(a, b)) / (math.exp(a) + math.exp(b))
        assert labels.confidence[0, x] == int(share * 255)


@pytest.mark.parametrize(("scale", "confidence", "class_id"), [(0.0, 127, 0), (1e4, 255, 1)])
def test_confidence_at_its_ends(scale, confidence, class_id):
    logits = torch.zeros(1, 2, 1, 1)
    logits[0, 1] = scale
    (labels,) = Segmentation(num_classes=2).predictions(logits, (2, 3))
    assert (labels.confidence == confidence).all()
    assert (labels.class_map == class_id).all()


def test_the_largest_number_of_classes_fits_a_byte():
    logits = torch.zeros(1, 254, 1, 1)
    logits[0, 253] = 9
    (labels,) = Segmentation(num_classes=254).predictions(logits, (1, 1))
    assert labels.class_map.tolist() == [[253]]


def test_no_image():
    assert TASK.predictions(random_logits(0, (4, 4)), (16, 16)) == []


def test_predicting_leaves_no_graph():
    logits = random_logits(1, (2, 2)).requires_grad_()
    TASK.predictions(logits, (8, 8))
    assert logits.grad is None


# Figures


def rows(maps, ids=None, origin=Origin.HUMAN):
    return pack(
        image_ids=range(len(maps)) if ids is None else ids,
        uris=["a.png"] * len(maps),
        sizes_hw=[(2, 2)] * len(maps),
        labels=[SegmentationMap(class_map=np.array(values, np.uint8)) for values in maps],
        origin=origin,
        kind=SegmentationMap,
    )


def test_agreement_by_hand():
    truths = rows([[[0, 1], [2, IGNORE]], [[0, 0], [0, 0]]])
    # Three of image 0's four pixels count; two are labelled there, one rightly. Image 1 has none.
    labels = rows([[[0, 0], [IGNORE, 1]]], origin=Origin.PSEUDO)
    assert TASK.agreement(truths, labels) == (1 / 2, 1 / 7)
    assert TASK.agreement(truths, truths) == (1.0, 1.0)


def test_agreement_of_nothing():
    nothing = rows([[[IGNORE, IGNORE], [IGNORE, IGNORE]]])
    truths = rows([[[0, 1], [2, 0]]])
    precision, recall = TASK.agreement(truths, nothing)
    assert math.isnan(precision)
    assert recall == 0
    assert all(math.isnan(share) for share in TASK.agreement(nothing, truths))
    assert all(math.isnan(share) for share in TASK.agreement(rows([]), rows([])))


def test_metrics_are_those_of_the_pixels():
    truths = rows([[[0, 1], [2, IGNORE]]])
    guesses = rows([[[0, 1], [1, 0]]], origin=Origin.PSEUDO)
    figures = TASK.metrics(truths, guesses, ("a", "b", "c"))
    assert figures["IoU/a"] == 100
    assert figures["IoU/b"] == 50
    assert figures["IoU/c"] == 0
    assert figures["mIoU"] == 50
    assert figures["pixel_accuracy"] == pytest.approx(200 / 3)
    assert set(TASK.figures) <= set(figures)


def test_the_task_of_a_recipe():
    task = make_task("segmentation", ModelConfig(), 7)
    assert isinstance(task, Segmentation)
    assert (task.num_classes, task.name, task.kind) == (7, "segmentation", SegmentationMap)
