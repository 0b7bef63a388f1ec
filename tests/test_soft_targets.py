"""Soft targets: what is kept of a teacher's probabilities, and the loss against them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_accumulation import WHOLE, balance_of, gradients, model_of
from tiny import MODEL, tiny_batch, tiny_state

from ray_st.config import UserError
from ray_st.data.augment import AugmentConfig, view
from ray_st.data.batches import in_parts
from ray_st.data.images import Source
from ray_st.data.labels import IGNORE, ClassLabel, Origin, SegmentationMap
from ray_st.data.rows import pack, unpack
from ray_st.labeling.policy import PolicyConfig, pseudo_labels
from ray_st.models import build
from ray_st.tasks import make_task
from ray_st.tasks.classification import TOP, Classification
from ray_st.tasks.segmentation import Segmentation
from ray_st.tasks.soft_targets import class_probabilities
from ray_st.training.accumulation import gradient_in_parts
from ray_st.training.gradient import gradient, targets_of
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import train_step

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CPU = torch.device("cpu")
SIZE_HW = (8, 12)
SEEDS = st.integers(0, 2**32)
SOFT = PolicyConfig(soft_targets=True, score_threshold=0.0)


def logits_of(seed, *shape, spread=3.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


def losses(task, logits, labels, size_hw=SIZE_HW):
    """Sums, counts and the gradient of the logits."""
    logits = logits.clone().requires_grad_()
    targets = task.targets(labels, size_hw, CPU)
    found = task.loss_sums(logits, targets)
    found.sums.sum().backward()
    assert task.counts(logits[:0], targets).equal(found.counts)
    return found.sums.detach(), found.counts, logits.grad


# Classes


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, num_classes=st.integers(1, 12), half=st.booleans())
def test_probabilities_of_all_classes(seed, num_classes, half):
    """What was kept stays, the others share what is left, and all sum to 1."""
    logits = logits_of(seed, 3, num_classes)
    true = logits.double().softmax(dim=1).numpy()
    labels = Classification(num_classes=num_classes).predictions(logits, SIZE_HW)
    if half:  # as scores rest in a store
        labels = [
            ClassLabel.of(one.top_class_ids, one.top_scores.astype(np.float16)) for one in labels
        ]
    found = class_probabilities(labels, num_classes)
    close = 1e-3 if half else 1e-5
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    for row, truth, one in zip(found, true, labels, strict=True):
        others = np.setdiff1d(np.arange(num_classes), one.top_class_ids)
        np.testing.assert_allclose(row[one.top_class_ids], truth[one.top_class_ids], atol=close)
        assert len(set(row[others])) <= 1
        if len(others):
            assert 0 <= row[others[0]] <= row[one.top_class_ids[-1]]
            assert row[others].sum() == pytest.approx(truth[others].sum(), abs=TOP * close)


def test_probabilities_by_hand():
    labels = [
        ClassLabel.of([2, 0], [0.5, 0.25]),  # 1/4 left for classes 1 and 3
        ClassLabel.of([1, 3], [0.25, 0.125]),  # 5/8 left, of which two get 1/8: else they were kept
        ClassLabel.of([0, 1, 2, 3], [0.25, 0.25, 0.125, 0.125]),  # none to spread 1/4 over
        ClassLabel.of([3, 2], [0.0, 0.0]),
        ClassLabel.of([3], [0.3]),  # hard
        ClassLabel.unknown(),
    ]
    expected = [
        [1 / 4, 1 / 8, 1 / 2, 1 / 8],
        [1 / 5, 2 / 5, 1 / 5, 1 / 5],
        [1 / 3, 1 / 3, 1 / 6, 1 / 6],
        [1 / 4] * 4,
        [0, 0, 0, 1],
        [0, 0, 0, 0],
    ]
    np.testing.assert_allclose(class_probabilities(labels, 4), expected, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, num_classes=st.integers(2, 9), size=st.integers(1, 5))
def test_the_loss_of_classes_equals_a_slow_one(seed, num_classes, size):
    task, logits = Classification(num_classes=num_classes), logits_of(seed, size, num_classes)
    soft = task.predictions(logits_of(seed + 1, size, num_classes), SIZE_HW)
    labels = [[one, ClassLabel.of([i % num_classes]), ClassLabel.unknown()][i % 3]
              for i, one in enumerate(soft)]  # fmt: skip
    sums, counts, slope = losses(task, logits, labels)
    assert counts.tolist() == [float(i % 3 < 2) for i in range(size)]
    shares = class_probabilities(labels, num_classes).astype(np.float64)
    log_likely = logits.double().log_softmax(dim=1)
    expected = -(torch.from_numpy(shares) * log_likely).sum(dim=1)
    np.testing.assert_allclose(sums.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
    wanted = counts[:, None] * (log_likely.exp() - torch.from_numpy(shares))
    np.testing.assert_allclose(slope.numpy(), wanted.numpy(), atol=1e-5)


def test_a_soft_label_that_is_sure_is_a_hard_one():
    task, logits = Classification(num_classes=7), logits_of(3, 4, 7)
    hard = [ClassLabel.of([k]) for k in (2, 0, 6)] + [ClassLabel.unknown()]
    sure = [ClassLabel.of([2, 5], [1, 0]), *hard[1:]]
    assert not task.targets(hard, SIZE_HW, CPU).is_floating_point()
    assert task.targets(sure, SIZE_HW, CPU).is_floating_point()
    for found, expected in zip(losses(task, logits, sure), losses(task, logits, hard), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_model_of_one_class_has_nothing_to_spread():
    task = Classification(num_classes=1)
    labels = task.predictions(logits_of(0, 2, 1), SIZE_HW)
    sums, counts, _ = losses(task, logits_of(1, 2, 1), labels)
    assert (sums.tolist(), counts.tolist()) == ([0, 0], [1, 1])


def test_a_class_beyond_the_model_is_refused_wherever_it_stands():
    with pytest.raises(UserError, match=r"^data\.classes: .* must be 0\.\.6, got 1\.\.7; give"):
        Classification(num_classes=7).targets([ClassLabel.of([1, 7], [0.9, 0.1])], SIZE_HW, CPU)


# Pixels


def random_map(seed, num_classes, size_hw=SIZE_HW, *, soft=True):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, num_classes, size_hw).astype(np.uint8)
    values[rng.random(size_hw) < 0.2] = IGNORE
    confidence = rng.integers(0, 256, size_hw, np.uint8) if soft else None
    return SegmentationMap(class_map=values, confidence=confidence)


def slow_loss(logits, one):
    """Sum and count of an image whose map is on the logits' grid, pixel by pixel in float64."""
    num_classes, total, count = len(logits), 0.0, 0
    log_likely = logits.double().log_softmax(dim=0).numpy()
    for y, x in np.ndindex(one.class_map.shape):
        label = int(one.class_map[y, x])
        if label != IGNORE:
            sure = 1.0 if one.confidence is None else one.confidence[y, x] / 255
            sure = max(sure, 1 / num_classes)
            shares = np.full(num_classes, (1 - sure) / max(1, num_classes - 1))
            shares[label] = sure
            assert shares.sum() == pytest.approx(1)
            total -= float((shares * log_likely[:, y, x]).sum())
            count += 1
    return total, count


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, num_classes=st.integers(1, 6))
def test_the_loss_of_pixels_equals_a_slow_one(seed, num_classes):
    task, logits = Segmentation(num_classes=num_classes), logits_of(seed, 3, num_classes, *SIZE_HW)
    labels = [random_map(seed, num_classes), random_map(seed + 1, num_classes, soft=False)]
    sums, counts, slope = losses(task, logits, [*labels, SegmentationMap.unknown()])
    for i, one in enumerate(labels):
        total, count = slow_loss(logits[i], one)
        assert sums[i].item() == pytest.approx(total, rel=1e-4, abs=1e-4)
        assert counts[i] == count
        assert not slope[i][:, torch.from_numpy(one.class_map == IGNORE)].any()
    assert (sums[2], counts[2]) == (0, 0)
    assert not slope[2].any()


def test_pixels_of_which_the_teacher_is_sure_are_hard_ones():
    task, logits = Segmentation(num_classes=5), logits_of(7, 2, 5, 2, 3)
    hard = [random_map(seed, 5, soft=False) for seed in (0, 1)]
    sure = replace(hard[0], confidence=np.full(SIZE_HW, 255, np.uint8))
    assert isinstance(task.targets(hard, SIZE_HW, CPU), torch.Tensor)
    assert not isinstance(task.targets([sure, hard[1]], SIZE_HW, CPU), torch.Tensor)
    for found, expected in zip(
        losses(task, logits, [sure, hard[1]]), losses(task, logits, hard), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_two_classes_of_pixels_are_learned_exactly():
    """The gradient is what is said less what the teacher said, to the 255th that is kept."""
    task, teacher = Segmentation(num_classes=2), logits_of(1, 1, 2, *SIZE_HW)
    labels = task.predictions(teacher, SIZE_HW)
    student = logits_of(2, 1, 2, *SIZE_HW)
    _, _, slope = losses(task, student, labels)
    wanted = student.softmax(dim=1) - teacher.softmax(dim=1)
    assert (slope - wanted).abs().max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize("policy", ["S1", "S2", "S3", "S4"])
def test_confidences_follow_their_pixels_into_a_view(policy):
    """Each class has a confidence of its own here, which a pixel must never lose."""
    class_map = np.random.default_rng(0).integers(0, 200, (37, 64), np.uint8)
    labels = SegmentationMap(class_map=class_map, confidence=class_map)
    source = Source.of_pixels(np.zeros((37, 64, 3), np.uint8))
    hard = SegmentationMap(class_map=class_map)
    for seed in range(12):
        config = AugmentConfig(policy=policy)
        one, other = (
            view(source, each, 48, np.random.default_rng(seed), config)[1]
            for each in (labels, hard)
        )
        assert other.confidence is None
        np.testing.assert_array_equal(one.class_map, other.class_map)
        np.testing.assert_array_equal(one.confidence, one.class_map)
        assert (one.class_map != IGNORE).any()


# From a policy to a student


def rows(labels, origin=Origin.PSEUDO):
    return pack(image_ids=range(len(labels)), uris=["a.png"] * len(labels),
                sizes_hw=[SIZE_HW] * len(labels), labels=labels, origin=origin)  # fmt: skip


KINDS = ("classification", "segmentation")


def soft_batch(task, seed=0):
    """Four human images with hard labels and four pseudo ones, of which two are soft."""
    batch = tiny_batch(seed, num_human=4, num_pseudo=4)
    if task == "classification":
        hard = [ClassLabel.of([i % 2]) for i in range(6)]
        soft = [ClassLabel.of([1, 0], [0.75, 0.25]), ClassLabel.of([0, 1], [0.625, 0.375])]
    else:
        hard = [random_map(i, 2, (64, 64), soft=False) for i in range(6)]
        soft = [random_map(i, 2, (64, 64)) for i in (6, 7)]
    return replace(batch, labels=(*hard, *soft))


@pytest.mark.parametrize("task", KINDS)
def test_a_step_in_parts_of_which_one_is_soft_is_the_whole_step(task):
    objective, found = make_task(task, MODEL, 2), []
    for learn, config in ((gradient, WHOLE), (gradient_in_parts, replace(WHOLE, accumulate=4))):
        model = model_of(task)
        learned = learn(model, soft_batch(task), objective, balance_of(config), config)
        found.append((learned.loss.losses, learned.loss.total, gradients(model)))
    kinds = {type(each) if isinstance(each, torch.Tensor) is False else each.dtype
             for each in (targets_of(part, objective)
                          for part in in_parts(soft_batch(task), 4))}  # fmt: skip
    assert len(kinds) == 2  # parts with soft labels, and parts without
    largest = max(each.abs().max().item() for each in found[0][2].values())
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6 * largest)


CLASSES = 7
STEPS = TrainConfig(
    steps=40, warmup_steps=4, optimizer="adamw", lr=0.01, batch_size=4, weight_decay=0.0
)


def divergence(teacher, student):
    """Mean of KL(teacher || student) over images or pixels, in nats."""
    logs = teacher.log_softmax(dim=1)
    return (logs.exp() * (logs - student.log_softmax(dim=1))).sum(dim=1).mean().item()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("task", KINDS)
def test_a_student_of_soft_labels_comes_nearer_to_its_teacher(task, seed):
    """The same images, model, start and steps; only the policy differs."""
    objective, batch = make_task(task, MODEL, CLASSES), tiny_batch(seed, num_human=4, num_pseudo=4)
    torch.manual_seed(100 + seed)
    with torch.no_grad():
        teacher = build(MODEL, task, CLASSES).train()(batch.pixels)
        teacher = 1.5 * (teacher - teacher.mean()) / teacher.std()  # neither sure nor without a say
    raw = rows(objective.predictions(teacher, (64, 64)))
    hard = unpack(pseudo_labels(raw, replace(SOFT, soft_targets=False), [*"abcdefg"]))
    soft = unpack(pseudo_labels(raw, SOFT, [*"abcdefg"]))
    found = {}
    for name, labels in (("hard", hard), ("soft", soft)):
        state = tiny_state(STEPS, model=model_of_classes(task, seed))
        taught = replace(batch, labels=(*hard[:4], *labels[4:]))  # people know no probabilities
        for _ in range(STEPS.steps):
            train_step(state, taught, objective, STEPS)
        with torch.no_grad():
            found[name] = divergence(teacher[4:], state.model(batch.pixels)[4:])
    assert math.isfinite(found["soft"])
    assert found["soft"] < found["hard"]


def model_of_classes(task, seed):
    torch.manual_seed(seed)
    return build(MODEL, task, CLASSES).to(memory_format=torch.channels_last)
