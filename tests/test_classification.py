"""The classification task against slow definitions and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from ray_st.config import UserError
from ray_st.data.labels import ClassLabel, Origin
from ray_st.data.rows import label_row, pack
from ray_st.models import ModelConfig
from ray_st.tasks import make_task
from ray_st.tasks.classification import TOP, Classification
from ray_st.training.loss_balance import LossBalance, balanced_loss

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CPU = torch.device("cpu")
SIZE_HW = (32, 32)
NUM_CLASSES = 7
TASK = Classification(num_classes=NUM_CLASSES)
CLASSES = tuple("abcdefg")


def random_logits(num_images, seed=0, num_classes=NUM_CLASSES):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_images, num_classes, generator=generator) * 3


def loss_of(logits, labels):
    return TASK.loss_sums(logits, TASK.targets(labels, SIZE_HW, CPU))


def rows(labels, ids=None, origin=Origin.HUMAN):
    return pack(
        image_ids=range(len(labels)) if ids is None else ids,
        uris=["a.png"] * len(labels),
        sizes_hw=[(1, 1)] * len(labels),
        labels=labels,
        origin=origin,
        kind=ClassLabel,
    )


# Targets and loss


def test_targets_are_the_classes():
    labels = [ClassLabel.of([3]), ClassLabel.unknown(), ClassLabel.of([6], [0.5])]
    assert TASK.targets(labels, SIZE_HW, CPU).tolist() == [3, -1, 6]
    assert TASK.targets([], SIZE_HW, CPU).shape == (0,)
    assert TASK.targets([ClassLabel.unknown()], SIZE_HW, CPU).tolist() == [-1]


@pytest.mark.parametrize("class_id", [NUM_CLASSES, 1000, -2])
def test_a_class_beyond_the_model_is_the_users_mistake(class_id):
    with pytest.raises(UserError, match=rf"^data\.classes: .*0\.\.6, got .*{class_id}.*; give"):
        TASK.targets([ClassLabel.of([2]), ClassLabel.of([class_id])], SIZE_HW, CPU)


@settings(max_examples=40, deadline=None)
@given(class_ids=st.lists(st.integers(-1, NUM_CLASSES - 1), min_size=1, max_size=6))
def test_loss_equals_a_slow_one(class_ids):
    labels = [ClassLabel.unknown() if k < 0 else ClassLabel.of([k]) for k in class_ids]
    logits = random_logits(len(labels))
    sums = loss_of(logits, labels)
    for i, class_id in enumerate(class_ids):
        scores = [math.exp(float(value)) for value in logits[i]]
        expected = 0 if class_id < 0 else -math.log(scores[class_id] / sum(scores))
        assert float(sums.sums[i]) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert sums.counts.tolist() == [float(k >= 0) for k in class_ids]
    assert sums.count_offset == 0
    assert sums.parts["class"].equal(sums.sums)


def test_where_nothing_is_known_nothing_is_learned():
    logits = random_logits(2).requires_grad_()
    loss_of(logits, [ClassLabel.unknown(), ClassLabel.of([1])]).sums.sum().backward()
    assert not logits.grad[0].any()
    assert logits.grad[1].any()
    logits = random_logits(2).requires_grad_()
    balance = LossBalance.start(alpha=1.0, normalised=True, decay=0.99)
    sums = loss_of(logits, [ClassLabel.unknown()] * 2)
    loss = balanced_loss(sums, torch.tensor([0, 1]), torch.tensor([True, True]), balance)
    loss.to_differentiate.backward()
    assert loss.total == 0
    assert not logits.grad.any()


# Predictions


@pytest.mark.parametrize("num_classes", [1, 2, TOP, TOP + 1, 50])
def test_predictions_are_the_likeliest_classes_best_first(num_classes):
    logits = random_logits(4, 3, num_classes)
    found = Classification(num_classes=num_classes).predictions(logits, SIZE_HW)
    shares = logits.double().softmax(dim=1).numpy()
    assert len(found) == 4
    for labels, share in zip(found, shares, strict=True):
        order = np.argsort(-share)[:TOP]
        assert labels.top_class_ids.tolist() == order.tolist()
        np.testing.assert_allclose(labels.top_scores, share[order], rtol=1e-5)
        assert labels.top_scores.dtype == np.float32


def test_no_image():
    assert TASK.predictions(random_logits(0), SIZE_HW) == []


# Figures


def ranked(*class_ids):
    return ClassLabel.of(class_ids, np.linspace(0.9, 0.1, len(class_ids)))


def test_metrics_by_hand():
    truths = rows([ClassLabel.of([k]) for k in (0, 0, 1, 2)], ids=[5, 6, 7, 8])
    guesses = rows(
        [ranked(0, 1), ranked(1, 2, 3, 4, 0), ranked(0, 2, 3, 4, 5), ranked(6)],
        ids=[5, 6, 7, 99],  # 8 could not be read; 99 is no image of this set
    )
    figures = TASK.metrics(truths, guesses, CLASSES)
    assert figures["top1"] == 25
    assert figures["top5"] == 50
    assert (figures["top1/a"], figures["top1/b"], figures["top1/c"]) == (50, 0, 0)
    assert math.isnan(figures["top1/d"])
    assert set(figures) == {"top1", "top5", *(f"top1/{name}" for name in CLASSES)}


def test_a_sixth_guess_does_not_count():
    truths = rows([ClassLabel.of([5])])
    assert TASK.metrics(truths, rows([ranked(0, 1, 2, 3, 4, 5)]), CLASSES)["top5"] == 0
    assert TASK.metrics(truths, rows([ranked(0, 1, 2, 3, 5, 4)]), CLASSES)["top5"] == 100


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 30))
def test_metrics_equal_scikit_learn(seed, count):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, NUM_CLASSES, count)
    logits = torch.from_numpy(rng.normal(0, 1, (count, NUM_CLASSES))).float()
    order = rng.permutation(count)
    found = TASK.predictions(logits, SIZE_HW)
    figures = TASK.metrics(
        rows([ClassLabel.of([k]) for k in truth.tolist()]),
        rows([found[i] for i in order], ids=order.tolist()),
        CLASSES,
    )
    for name, k in (("top1", 1), ("top5", 5)):
        expected = top_k_accuracy_score(truth, logits.numpy(), k=k, labels=range(NUM_CLASSES))
        assert figures[name] == pytest.approx(100 * expected)


def test_metrics_of_nothing():
    empty = label_row(ClassLabel).empty_table()
    for truths in (empty, rows([ClassLabel.unknown()])):
        assert all(math.isnan(v) for v in TASK.metrics(truths, empty, CLASSES).values())
        assert all(math.isnan(share) for share in TASK.agreement(truths, empty))


def test_agreement_by_hand():
    truths = rows([ClassLabel.of([k]) for k in (0, 1, 2, 3)] + [ClassLabel.unknown()])
    labels = rows(
        [ranked(0), ranked(5), ClassLabel.unknown(), ranked(6), ranked(0)],
        ids=[0, 1, 2, 4, 77],  # 3 failed; of 4 the truth is not known; 77 is another image
    )
    assert TASK.agreement(truths, labels) == (1 / 2, 1 / 4)
    assert TASK.agreement(truths, truths) == (1.0, 1.0)
    precision, recall = TASK.agreement(truths, rows([ClassLabel.unknown()] * 5))
    assert math.isnan(precision)
    assert recall == 0


def test_the_task_of_a_recipe():
    task = make_task("classification", ModelConfig(), 9)
    assert isinstance(task, Classification)
    assert (task.num_classes, task.name, task.kind) == (9, "classification", ClassLabel)
