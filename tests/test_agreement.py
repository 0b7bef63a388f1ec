"""How close results are to a model's: what passes, what is refused, and by how much it differs."""

import numpy as np
import pytest
import torch

from ray_st.models.retinanet import Outputs
from ray_st.portable.agreement import (
    SCORES,
    boxes_agree,
    classes_agree,
    maps_agree,
    numbers_agree,
    together,
)
from ray_st.portable.replay import DisagreementError
from ray_st.tasks.anchors import pyramid_anchors
from ray_st.tasks.classification import Classification
from ray_st.tasks.detection import DetectConfig, Detection
from ray_st.tasks.segmentation import Segmentation

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

ANCHORS = pyramid_anchors(((2, 2),), (8,), 4.0, torch.device("cpu"))  # 36, from 23 px wide
ROWS = 4


def detector(*logits):
    """One image of 16 px; anchors 0, 1, ... have these logits, their boxes as large as a half."""
    class_logits = torch.full((1, 36, 1), -9.0)
    class_logits[0, : len(logits), 0] = torch.tensor(logits)
    codes = torch.zeros(1, 36, 4)
    codes[0, :, 2:] = -2.0
    return Outputs(class_logits=class_logits, box_codes=codes, feature_sizes=((2, 2),))


def rows_of(outputs, task):
    """The task's own labels, in the form that a file gives."""
    (one,) = task.predictions(outputs, (16, 16))
    n = len(one)
    got = {
        "boxes": np.zeros((1, ROWS, 4), np.float32),
        "scores": np.zeros((1, ROWS), np.float32),
        "labels": np.zeros((1, ROWS), np.int64),
        "count": np.array([n]),
    }
    got["boxes"][0, :n], got["scores"][0, :n] = one.boxes_xyxy, one.scores
    return got


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_boxes(nms):
    task = Detection(
        num_classes=1, levels=(3, 3), anchor_scale=4.0,
        detect=DetectConfig(max_detections=ROWS, nms=nms),
    )  # fmt: skip
    outputs = detector(2.0, -1.0, 0.0, *[-9.0] * 24, 1.0)  # three shapes of one place, another's

    def compare(got):
        return boxes_agree(got, outputs, ANCHORS, 16, task)

    found = compare(rows_of(outputs, task))
    assert (found.what, found.near_ties) == ("boxes", 0)
    assert found.compared >= 2
    assert found.largest == {"scores": 0, "boxes_px": 0}

    moved = rows_of(outputs, task)
    moved["boxes"][0, 0] += 0.001
    moved["scores"][0, 0] -= 0.0005
    assert compare(moved).largest == pytest.approx({"scores": 5e-4, "boxes_px": 1e-3}, rel=1e-3)

    for name, change, said in (
        ("boxes", 0.01, "is not one of the model's boxes"),
        ("scores", 0.01, "is not one of the model's boxes"),
        ("labels", 1, "of class id 1, .* is not one of"),
        ("scores", np.nan, "is not one of"),
    ):
        wrong = rows_of(outputs, task)
        wrong[name][0, 0] += change
        with pytest.raises(DisagreementError, match=said):
            compare(wrong)
    fewer = rows_of(outputs, task)
    fewer["count"] -= 1
    with pytest.raises(DisagreementError, match="rows behind `count` are not 0"):
        compare(fewer)
    for name in ("boxes", "scores"):
        fewer[name][0, fewer["count"][0] :] = 0
    with pytest.raises(DisagreementError, match="is missing"):
        compare(fewer)


def test_a_near_tie_is_counted():
    """Anchors 0 and 3 are of one shape and two sizes: IoU 2^(-2/3) = 0.63 of their boxes."""
    task = Detection(
        num_classes=1, levels=(3, 3), anchor_scale=4.0, detect=DetectConfig(max_detections=ROWS)
    )
    outputs, other = detector(1.0, -9, -9, 0.999), detector(0.999, -9, -9, 1.0)
    found = boxes_agree(rows_of(other, task), outputs, ANCHORS, 16, task)
    assert (found.compared, found.near_ties) == (1, 1)
    far, alone = detector(1.0, -9, -9, 0.9), detector(-9, -9, -9, 0.9)
    with pytest.raises(DisagreementError, match=r"score 0\.7311, .* is missing"):  # sigmoid(1)
        boxes_agree(rows_of(alone, task), far, ANCHORS, 16, task)


def test_maps():
    torch.manual_seed(0)
    outputs = torch.randn(2, 3, 2, 3)
    outputs[1, :, 0, 0] = torch.tensor([1.0, 1.0005, -3.0])  # classes 0 and 1 are near a tie
    expected = Segmentation(num_classes=3).predictions(outputs, (2, 3))
    shares = outputs.softmax(1)
    got = {
        "class_map": np.stack([one.class_map for one in expected]),
        "confidence": shares.amax(1).numpy(),
    }
    found = maps_agree(got, outputs, expected)
    assert (found.compared, found.near_ties) == (12, 0)
    assert found.largest["confidences"] < 1e-6
    got["class_map"][1, 0, 0] = 0
    assert maps_agree(got, outputs, expected).near_ties == 1
    got["class_map"][1, 0, 0] = 2
    with pytest.raises(DisagreementError, match=r"the class of a pixel: .* differs by 0\.4"):
        maps_agree(got, outputs, expected)
    got["class_map"][1, 0, 0] = 255
    with pytest.raises(DisagreementError, match="names class id 255, which is none"):
        maps_agree(got, outputs, expected)
    got["class_map"][1, 0, 0] = 1
    got["confidence"][0, 1, 2] += 2 * SCORES
    with pytest.raises(DisagreementError, match=r"a pixel's confidence differs by 0\.002"):
        maps_agree(got, outputs, expected)
    got["confidence"][0, 1, 2] = np.nan
    with pytest.raises(DisagreementError, match="differs by nan"):
        maps_agree(got, outputs, expected)


def test_classes():
    logits = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6]])
    expected = Classification(num_classes=7).predictions(logits, (0, 0))
    shares = logits.softmax(1).numpy()
    assert classes_agree({"probabilities": shares}, expected).compared == 5
    wrong = shares.copy()
    wrong[0, 0] = 0.5
    with pytest.raises(DisagreementError, match="not among the likeliest"):
        classes_agree({"probabilities": wrong}, expected)
    wrong = shares.copy()
    wrong[0, 6] -= 0.01
    with pytest.raises(
        DisagreementError, match=r"a probability differs by 0\.01, more than 0\.001"
    ):
        classes_agree({"probabilities": wrong}, expected)


def test_numbers_are_measured_by_the_largest_of_an_output():
    expected = {"small": torch.tensor([0.5]), "large": torch.tensor([2000.0, 1.0])}
    got = {"small": np.array([0.50005]), "large": np.array([2000.0, 1.1])}
    found = numbers_agree(got, expected)
    assert found.largest == pytest.approx({"small": 5e-5, "large": 0.1})
    assert found.compared == 3
    both = together([found, numbers_agree({**got, "large": np.array([2000.0, 1.05])}, expected)])
    assert both.largest == pytest.approx({"small": 5e-5, "large": 0.1})
    assert (both.compared, both.what) == (6, "numbers")
    with pytest.raises(DisagreementError, match=r"small differs by 0\.0002, more than 0\.0001"):
        numbers_agree({**got, "small": np.array([0.5002])}, expected)
    with pytest.raises(DisagreementError, match=r"small has shape \(1, 1\), not \(1,\)"):
        numbers_agree({**got, "small": np.array([[0.5]])}, expected)
