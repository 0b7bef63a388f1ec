"""What counts as the same boxes: near ties may fall either way, nothing else may differ."""

import numpy as np
import pytest

from ray_st.portable.replay import Close, DisagreementError, Found, paired, replayed
from ray_st.tasks.detection import DetectConfig

pytestmark = pytest.mark.pure

CLOSE = Close(scores=1e-3, boxes_px=0.01)
A, B, C = (0, 0, 10, 10), (1, 0, 11, 10), (30, 0, 40, 10)  # IoU of A and B: 90 / 110


def found(*rows):
    """Rows of (box, class id, score)."""
    return Found(
        boxes_xyxy=np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        class_ids=np.array([k for _, k, _ in rows], np.int64),
        scores=np.array([score for _, _, score in rows], np.float32),
    )


def replay(one, pool, extra=(), **settings):
    is_extra = np.isin(np.arange(len(pool)), extra)
    return replayed(one, pool, is_extra, DetectConfig(**settings), CLOSE)


def test_sets_of_boxes():
    model = found((A, 0, 0.9), (C, 0, 0.5), (C, 1, 0.5))
    moved = found((C, 1, 0.5005), (C, 0, 0.5), ((0, 0, 10.005, 10), 0, 0.9))
    assert paired(moved, model, CLOSE) == pytest.approx((0.0005, 0.005), abs=1e-6)
    assert paired(model, found((A, 0, 0.9), (C, 0, 0.5)), CLOSE) is None  # one more
    assert paired(found((A, 0, 0.9)), found((A, 1, 0.9)), CLOSE) is None  # another class
    assert paired(found((A, 0, 0.9)), found((A, 0, 0.902)), CLOSE) is None
    assert paired(found((A, 0, 0.9)), found(((0, 0, 10.02, 10), 0, 0.9)), CLOSE) is None
    assert paired(found((A, 0, 0.9), (A, 0, 0.9)), found((A, 0, 0.9), (C, 0, 0.9)), CLOSE) is None
    assert paired(found(), found(), CLOSE) == (0, 0)
    nan = found(((0, 0, float("nan"), 10), 0, 0.9))
    assert paired(nan, found((A, 0, 0.9)), CLOSE) is None


def test_of_two_rivals_with_nearly_the_same_score_either_stands():
    pool = found((A, 0, 0.9), (B, 0, 0.8999))
    assert replay(found((A, 0, 0.9)), pool) == (0, 0)
    assert replay(found((B, 0, 0.9)), pool) == pytest.approx((0.0001, 0), abs=1e-6)
    with pytest.raises(DisagreementError, match=r"score 0\.9000, at \[0\.00, .* is missing"):
        replay(found((B, 0, 0.8)), found((A, 0, 0.9), (B, 0, 0.8)))
    with pytest.raises(DisagreementError, match="is not one of the model's boxes"):
        replay(found((A, 0, 0.9), (B, 0, 0.8999)), pool)  # suppressed, whoever came first


def test_an_overlap_on_the_threshold_may_be_either():
    pool = found((A, 0, 0.9), (B, 0, 0.8))
    iou = 90 / 110
    for both in (found((A, 0, 0.9), (B, 0, 0.8)), found((A, 0, 0.9))):
        replay(both, pool, nms_iou=iou)
    with pytest.raises(DisagreementError, match="is missing"):
        replay(found((A, 0, 0.9)), pool, nms_iou=iou + 0.01)
    with pytest.raises(DisagreementError, match="is not one of"):
        replay(found((A, 0, 0.9), (B, 0, 0.8)), pool, nms_iou=iou - 0.01)


def test_the_floor_and_the_last_row():
    pool = found((A, 0, 0.9), (C, 0, 0.0505))
    replay(found((A, 0, 0.9)), pool)  # 0.0505 is the floor of 0.05, by a hair
    replay(found((A, 0, 0.9), (C, 0, 0.0505)), pool)
    with pytest.raises(DisagreementError, match="is missing"):
        replay(found((A, 0, 0.9)), found((A, 0, 0.9), (C, 0, 0.06)))
    replay(found((A, 0, 0.9)), found((A, 0, 0.9), (C, 0, 0.6)), max_detections=1)
    with pytest.raises(DisagreementError, match="is missing"):
        replay(found(), pool)


def test_candidates_that_a_limit_leaves_out_by_a_hair_need_not_be_there():
    pool = found((A, 0, 0.9), (C, 0, 0.5))
    replay(found((A, 0, 0.9)), pool, extra=[1])
    replay(found((A, 0, 0.9), (C, 0, 0.5)), pool, extra=[1])


def test_soft_nms_in_either_order():
    """The second of two rivals falls by exp(-(9/11)^2 / 0.6) = 0.32767, whichever it is."""
    pool, fallen = found((A, 0, 0.9), (B, 0, 0.8995)), 0.32767
    replay(found((A, 0, 0.9), (B, 0, 0.8995 * fallen)), pool, nms="soft")
    replay(found((B, 0, 0.8995), (A, 0, 0.9 * fallen)), pool, nms="soft")
    with pytest.raises(DisagreementError, match="is not one of"):
        replay(found((A, 0, 0.9), (B, 0, 0.8)), pool, nms="soft")
    with pytest.raises(DisagreementError, match="is missing"):
        replay(found((A, 0, 0.9)), pool, nms="soft")


def test_no_candidate():
    assert replay(found(), found()) == (0, 0)
    with pytest.raises(DisagreementError, match="is not one of"):
        replay(found((A, 0, 0.9)), found())
