import numpy as np
import pytest

from ray_st.data import boxes

pytestmark = pytest.mark.pure

NONE = np.zeros((0, 4), np.float32)


def test_area_of_plain_empty_and_inverted_boxes():
    some = np.array([[0, 0, 4, 5], [2, 2, 2, 9], [5, 5, 1, 1]], np.float32)
    assert boxes.area_px(some).tolist() == [20, 0, 0]
    assert boxes.area_px(NONE).shape == (0,)


def test_clip_cuts_at_the_border_and_never_inverts():
    some = np.array([[-3, -4, 50, 60], [90, 90, 99, 99]], np.float32)
    assert boxes.clip(some, (40, 30)).tolist() == [[0, 0, 30, 40], [30, 40, 30, 40]]


def test_clip_takes_one_size_a_box():
    some = np.array([[0, 0, 9, 9], [0, 0, 9, 9]], np.float32)
    assert boxes.clip(some, np.array([[4, 5], [6, 7]])).tolist() == [[0, 0, 5, 4], [0, 0, 7, 6]]


def test_iou_by_hand():
    a = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [40, 40, 40, 40]], np.float32)
    # Halves overlap by 50 of 150.
    np.testing.assert_allclose(boxes.iou(a, b), [[1, 1 / 3, 0], [0, 0, 0]], rtol=1e-6)


def test_iou_without_boxes_and_without_area():
    point = np.array([[3, 3, 3, 3]], np.float32)
    assert boxes.iou(NONE, point).shape == (0, 1)
    assert boxes.iou(point, NONE).shape == (1, 0)
    assert boxes.iou(point, point).tolist() == [[0]]
