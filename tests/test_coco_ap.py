"""Metrics on cases that can be worked by hand."""

import math
import time

import numpy as np
import pytest

from ray_st.data.labels import Detections, Origin
from ray_st.data.rows import pack
from ray_st.tasks.coco_ap import box_ap, precision_recall

pytestmark = pytest.mark.pure

CLASSES = ("cat", "dog")
BOX = [10.0, 10, 50, 50]  # 1600 px: medium
SHIFTED = [10.0, 10, 50, 40]  # 1200 / 1600: IoU 0.75 with BOX
FAR = [100.0, 100, 140, 140]


def table(labels, image_ids=None):
    ids = list(range(len(labels))) if image_ids is None else image_ids
    return pack(
        image_ids=ids,
        uris=[f"{i}.jpg" for i in ids],
        sizes_hw=[(200, 200)] * len(ids),
        labels=labels,
        origin=Origin.HUMAN,
        kind=Detections,
    )


TRUTHS = [Detections.of([BOX, FAR], [0, 1]), Detections.of(), Detections.of([BOX], [1])]
NONE = [Detections.of()] * 3


def test_perfect_predictions_have_ap_100_in_any_order():
    guesses = table([TRUTHS[2], TRUTHS[0], TRUTHS[1]], [2, 0, 1])
    figures = box_ap(table(TRUTHS), guesses, CLASSES)
    for name in ("AP", "AP50", "AP75", "APm", "AR100", "AP/cat", "AP/dog"):
        assert figures[name] == pytest.approx(100)
    assert math.isnan(figures["APs"])
    assert math.isnan(figures["APl"])


@pytest.mark.parametrize("guesses", [table(NONE), table([])])
def test_no_predictions_have_ap_0(guesses):
    figures = box_ap(table(TRUTHS), guesses, CLASSES)
    assert figures["AP"] == figures["AR100"] == figures["AP/dog"] == 0


@pytest.mark.parametrize("truths", [table(NONE), table([])])
def test_without_truths_there_is_no_figure(truths):
    figures = box_ap(truths, table(TRUTHS), CLASSES)
    assert set(figures) >= {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100"}
    assert all(math.isnan(value) for value in figures.values())


def test_ap_by_hand():
    # One true cat; best guess at IoU 0.75 counts at thresholds .50 to .75, six of ten.
    truths, guesses = table([Detections.of([BOX], [0])]), table([Detections.of([SHIFTED], [0])])
    figures = box_ap(truths, guesses, CLASSES)
    assert figures["AP"] == figures["AP/cat"] == pytest.approx(60)
    assert figures["AP50"] == figures["AP75"] == pytest.approx(100)
    assert math.isnan(figures["AP/dog"])


def test_wrong_box_ahead_of_the_right_one_halves_ap():
    guesses = table([Detections.of([FAR, BOX], [0, 0], scores=[0.9, 0.8])])
    figures = box_ap(table([Detections.of([BOX], [0])]), guesses, CLASSES)
    assert figures["AP"] == pytest.approx(50)  # precision 1/2 at every recall
    assert figures["AR1"] == 0
    assert figures["AR10"] == pytest.approx(100)


def test_crowd_is_neither_missed_nor_an_error():
    truths = table([Detections.of([BOX, FAR], [0, 0], is_crowd=[False, True])])
    inside = [105.0, 105, 120, 120]
    guesses = table([Detections.of([inside, BOX], [0, 0], scores=[0.9, 0.8])])
    assert box_ap(truths, guesses, CLASSES)["AP"] == pytest.approx(100)
    assert precision_recall(truths, guesses) == (1.0, 1.0)


def test_size_goes_by_the_truths_own_area():
    truths = table([Detections.of([BOX], [0], areas_px=[900])])  # a thin mask: small
    # A wrong box ahead, which is medium and so no error among the small; its area in the
    # view, 7, does not matter.
    guesses = table([Detections.of([FAR, BOX], [0, 0], scores=[0.9, 0.8], areas_px=[7, 7])])
    figures = box_ap(truths, guesses, CLASSES)
    assert figures["APs"] == pytest.approx(100)
    assert math.isnan(figures["APm"])


def test_predictions_of_other_images_are_not_judged():
    guesses = table([*TRUTHS, Detections.of([FAR], [0])], [0, 1, 2, 77])
    assert box_ap(table(TRUTHS), guesses, CLASSES)["AP"] == pytest.approx(100)
    assert precision_recall(table(TRUTHS), guesses) == (1.0, 1.0)


def test_nothing_is_printed(capsys):
    box_ap(table(TRUTHS), table(TRUTHS), CLASSES)
    assert capsys.readouterr().out == ""


def test_precision_and_recall_by_hand():
    guesses = table(
        [
            # Right, a second on the same cat, and the wrong class on the dog.
            Detections.of([BOX, SHIFTED, FAR], [0, 0, 0], scores=[0.5, 0.9, 0.8]),
            Detections.of([BOX], [0]),
            Detections.of([BOX], [1]),
        ]
    )
    assert precision_recall(table(TRUTHS), guesses) == (2 / 5, 2 / 3)


def test_iou_threshold_is_inclusive():
    truths, guesses = table([Detections.of([BOX], [0])]), table([Detections.of([SHIFTED], [0])])
    assert precision_recall(truths, guesses, iou=0.75) == (1.0, 1.0)
    assert precision_recall(truths, guesses, iou=0.76) == (0.0, 0.0)


def test_shares_of_nothing_are_nan():
    precision, recall = precision_recall(table(TRUTHS), table(NONE))
    assert math.isnan(precision)
    assert recall == 0
    precision, recall = precision_recall(table(NONE), table(TRUTHS))
    assert precision == 0
    assert math.isnan(recall)
    assert all(math.isnan(share) for share in precision_recall(table([]), table([])))


def random_table(num_images, num_boxes, seed):
    rng = np.random.default_rng(seed)

    def one():
        corner = rng.uniform(0, 60, (num_boxes, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (num_boxes, 2))], 1)
        return Detections.of(boxes, rng.integers(0, 2, num_boxes), scores=rng.random(num_boxes))

    return [one() for _ in range(num_images)]


def slow_precision_recall(truths, guesses):
    right = total = true = 0
    for truth, guess in zip(truths, guesses, strict=True):
        taken = set()
        for g in np.argsort(-guess.scores):
            best, best_iou = None, 0.5
            for t in range(len(truth)):
                a, b = guess.boxes_xyxy[g].tolist(), truth.boxes_xyxy[t].tolist()
                w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
                h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
                areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
                iou = w * h / (areas - w * h)
                if guess.class_ids[g] == truth.class_ids[t] and t not in taken and iou >= best_iou:
                    best, best_iou = t, iou
            if best is not None:
                taken.add(best)
        right, total, true = right + len(taken), total + len(guess), true + len(truth)
    return right / total, right / true


def test_precision_and_recall_equal_slow_reference():
    truths, guesses = random_table(30, 8, 0), random_table(30, 12, 1)
    expected = slow_precision_recall(truths, guesses)
    assert 0 < expected[0] < 1
    assert precision_recall(table(truths), table(guesses)) == pytest.approx(expected)


def test_two_thousand_images_take_less_than_two_seconds():
    truths, guesses = table(random_table(2000, 10, 0)), table(random_table(2000, 10, 1))
    start = time.process_time()
    precision_recall(truths, guesses)
    assert time.process_time() - start < 2
