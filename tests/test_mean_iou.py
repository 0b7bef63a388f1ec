"""Intersection over union against scikit-learn, and by hand where it has no opinion."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from ray_st.data.labels import IGNORE, Origin, SegmentationMap
from ray_st.data.rows import label_row, pack
from ray_st.tasks.mean_iou import confusion, iou_figures

pytestmark = pytest.mark.pure


def rows(maps):
    """Rows of maps by image id."""
    return pack(
        image_ids=list(maps),
        uris=["a.png"] * len(maps),
        sizes_hw=[(1, 1)] * len(maps),
        labels=[
            SegmentationMap.unknown()
            if values is None
            else SegmentationMap(class_map=np.array(values, np.uint8))
            for values in maps.values()
        ],
        origin=Origin.HUMAN,
        kind=SegmentationMap,
    )


@pytest.mark.filterwarnings("ignore:A single label")
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    num_classes=st.integers(1, 6),
    num_images=st.integers(0, 4),
    used=st.integers(1, 6),
)
def test_equals_scikit_learn(seed, num_classes, num_images, used):
    rng = np.random.default_rng(seed)
    choices = np.array([*range(min(used, num_classes)), IGNORE], np.uint8)
    sizes = {10 * i - 7: tuple(rng.integers(1, 9, 2)) for i in range(num_images)}
    truths = {i: rng.choice(choices, size) for i, size in sizes.items()}
    guesses = {i: rng.integers(0, num_classes, sizes[i]) for i in [*sizes][::-1]}  # another order
    counts = confusion(rows(truths), rows(guesses), num_classes)
    assert counts.shape == (num_classes, num_classes + 1)
    assert counts.dtype == np.int64
    truth = np.concatenate([np.empty(0), *(truths[i].ravel() for i in sizes)])
    guess = np.concatenate([np.empty(0), *(guesses[i].ravel() for i in sizes)])
    truth, guess = truth[truth != IGNORE], guess[truth != IGNORE]
    figures = iou_figures(counts, [str(k) for k in range(num_classes)])
    if not len(truth):
        assert not counts.any()
        assert all(math.isnan(value) for value in figures.values())
        return
    labels = [*range(num_classes)]
    np.testing.assert_array_equal(counts[:, :-1], confusion_matrix(truth, guess, labels=labels))
    assert not counts[:, -1].any()
    assert figures["pixel_accuracy"] == pytest.approx(100 * accuracy_score(truth, guess))
    each = jaccard_score(truth, guess, labels=labels, average=None, zero_division=0)
    for k, value in enumerate(each):
        if k in truth or k in guess:
            assert figures[f"IoU/{k}"] == pytest.approx(100 * value)
        else:
            assert math.isnan(figures[f"IoU/{k}"])
    assert figures["mIoU"] == pytest.approx(100 * each[np.isin(labels, [*truth, *guess])].mean())


def test_pixels_without_a_prediction_are_wrong():
    truths = rows({1: [[0, 1, IGNORE]], 2: [[0, 0]], 3: [[1]]})
    guesses = rows({1: [[0, IGNORE, 0]], 3: None})  # 2 could not be read, of 3 nothing is known
    counts = confusion(truths, guesses, 2)
    assert counts.tolist() == [[1, 0, 2], [0, 0, 2]]
    figures = iou_figures(counts, ("a", "b"))
    assert figures["IoU/a"] == pytest.approx(100 / 3)  # 1 right of 3 true; none is wrongly a
    assert figures["IoU/b"] == 0
    assert figures["mIoU"] == pytest.approx(50 / 3)
    assert figures["pixel_accuracy"] == 20


def test_images_without_truth_do_not_count():
    truths = rows({1: [[0]], 2: None})
    guesses = rows({1: [[0]], 2: [[1, 1]], 9: [[1]]})  # 9 is no image of this set
    assert confusion(truths, guesses, 2).tolist() == [[1, 0, 0], [0, 0, 0]]


def test_a_prediction_of_another_size_is_none():
    truths = rows({1: [[0, 1]]})
    for guess in ([[0], [1]], [[0, 1, 1]], [[0]]):
        assert confusion(truths, rows({1: guess}), 2).tolist() == [[0, 0, 1], [0, 0, 1]]


def test_the_mean_is_over_classes_that_occur():
    # c is predicted but never true: it occurs, with 0. d does neither.
    counts = confusion(rows({0: [[0, 0, 1, 1]]}), rows({0: [[0, 0, 1, 2]]}), 4)
    figures = iou_figures(counts, ("a", "b", "c", "d"))
    assert (figures["IoU/a"], figures["IoU/b"], figures["IoU/c"]) == (100, 50, 0)
    assert math.isnan(figures["IoU/d"])
    assert figures["mIoU"] == 50


def test_no_image_at_all():
    empty = label_row(SegmentationMap).empty_table()
    counts = confusion(empty, empty, 3)
    assert counts.tolist() == [[0] * 4] * 3
    assert all(math.isnan(value) for value in iou_figures(counts, "abc").values())
    assert confusion(rows({0: [[2]]}), empty, 3)[2].tolist() == [0, 0, 0, 1]


def test_chunks_change_nothing():
    truths, guesses = rows({1: [[0, 1]], 2: [[1, 1]]}), rows({2: [[1, 0]], 1: [[0, 1]]})
    expected = confusion(truths, guesses, 2)
    in_chunks = [pa.concat_tables([t.slice(0, 1), t.slice(1)]) for t in (truths, guesses)]
    np.testing.assert_array_equal(confusion(*in_chunks, 2), expected)


def test_more_pixels_than_a_byte_counts():
    values = np.zeros((300, 300), np.uint8)
    counts = confusion(rows({0: values}), rows({0: values + 253}), 254)
    assert counts[0, 253] == counts.sum() == 90_000
