"""Anchors, matching and box codes against slow, obvious references."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou

from ray_st.models.retinanet import ANCHORS_PER_LOCATION
from ray_st.tasks.anchors import best_iou, decode, encode, match, pyramid_anchors, strides_of

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CPU = torch.device("cpu")


def anchors_of_64():
    return pyramid_anchors(((8, 8), (4, 4)), (8, 16), 4.0, CPU)


def random_boxes(*shape, side=64.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=generator) * side * 0.8
    size = side * (0.02 + 0.5 * torch.rand(*shape, 2, generator=generator))  # ratio below 62.5
    return torch.cat([corner, corner + size], dim=-1)


def slow_match(anchors, boxes):
    iou = box_iou(boxes, anchors)
    result = [-1] * len(anchors)
    for a in range(len(anchors)):
        best = max(range(len(boxes)), key=lambda m: iou[m, a])
        if iou[best, a] >= 0.5:
            result[a] = best
    for m in reversed(range(len(boxes))):  # the first box is written last, and so has it
        best = int(iou[m].argmax())
        if iou[m, best] > 0:
            result[best] = m
    return torch.tensor(result)


def test_first_anchors_by_hand():
    anchors = anchors_of_64()
    assert len(anchors) == ANCHORS_PER_LOCATION * (64 + 16)
    # Level 3: stride 8, side 4 * 8 = 32, first centre (4, 4).
    assert anchors[0].tolist() == [-12, -12, 20, 20]
    w, h = 32 * math.sqrt(2), 32 / math.sqrt(2)
    assert anchors[1].tolist() == pytest.approx([4 - w / 2, 4 - h / 2, 4 + w / 2, 4 + h / 2])
    assert anchors[2].tolist() == pytest.approx([4 - h / 2, 4 - w / 2, 4 + h / 2, 4 + w / 2])
    side = 32 * 2 ** (1 / 3)
    assert anchors[3].tolist() == pytest.approx([4 - side / 2] * 2 + [4 + side / 2] * 2)
    assert anchors[9].tolist() == [-4, -12, 28, 20]  # next column: 8 px to the right
    assert anchors[9 * 64].tolist() == [-24, -24, 40, 40]  # level 4: side 64 about (8, 8)


def test_anchors_are_made_once_and_serve_training_after_inference():
    pyramid_anchors.cache_clear()
    with torch.inference_mode():
        first = anchors_of_64()
    assert anchors_of_64() is first
    codes = torch.zeros_like(first).requires_grad_()
    (codes * first).sum().backward()
    assert torch.equal(codes.grad, first)


def test_strides_of_levels():
    assert strides_of((3, 7)) == (8, 16, 32, 64, 128)


@pytest.mark.parametrize("seed", range(5))
def test_match_equals_slow_reference(seed):
    boxes = random_boxes(3, 6, seed=seed)
    actual = match(anchors_of_64(), boxes, torch.ones(3, 6, dtype=torch.bool))
    assert (actual >= 0).any()
    for i in range(3):
        assert actual[i].tolist() == slow_match(anchors_of_64(), boxes[i]).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_match_equals_torchvisions_but_for_forced_anchors(seed):
    anchors, boxes = anchors_of_64(), random_boxes(6, seed=seed)
    iou = box_iou(boxes, anchors)
    expected = Matcher(0.5, 0.5, allow_low_quality_matches=False)(iou)
    actual = match(anchors, boxes[None], torch.ones(1, 6, dtype=torch.bool))[0]
    free = torch.ones(len(anchors), dtype=torch.bool)
    free[iou.argmax(1)] = False
    assert actual[free].tolist() == expected[free].tolist()
    assert set(actual.tolist()) >= set(range(6)) or len(set(iou.argmax(1).tolist())) < 6


@pytest.mark.parametrize("seed", range(5))
def test_the_best_anchor_of_a_box_is_found_without_comparing_it_with_all(seed):
    levels = ((7, 9), (4, 5)), (8, 16), 3.0  # of a view that no stride divides
    boxes = torch.cat([
        random_boxes(60, side=80.0, seed=seed),
        random_boxes(20, side=4.0, seed=seed),
        random_boxes(20, side=300.0, seed=seed) - 60,  # larger than the view, and beside it
    ])  # fmt: skip
    expected = box_iou(boxes, pyramid_anchors(*levels, CPU)).amax(dim=1)
    torch.testing.assert_close(best_iou(boxes, *levels), expected, rtol=1e-5, atol=1e-6)
    assert len(best_iou(boxes[:0], *levels)) == 0


def test_padding_is_never_matched():
    boxes = random_boxes(2, 5)
    is_box = torch.tensor([[True, True, False, False, False], [False] * 5])
    boxes[1] = 0  # zero padding
    actual = match(anchors_of_64(), boxes, is_box)
    assert actual[0].tolist() == slow_match(anchors_of_64(), boxes[0, :2]).tolist()
    assert actual[1].max() == -1


def test_box_that_touches_no_anchor_matches_none():
    far = torch.tensor([[[1000.0, 1000, 1010, 1010], [5, 5, 5, 5]]])  # far away; of no area
    assert match(anchors_of_64(), far, torch.ones(1, 2, dtype=torch.bool)).max() == -1


def test_tiny_box_gets_exactly_its_best_anchor():
    tiny = torch.tensor([[[11.0, 11, 13, 13]]])
    actual = match(anchors_of_64(), tiny, torch.ones(1, 1, dtype=torch.bool))[0]
    assert (actual >= 0).sum() == 1
    assert actual[box_iou(tiny[0], anchors_of_64())[0].argmax()] == 0


def test_two_boxes_that_want_one_anchor_leave_it_to_the_first():
    twins = torch.tensor([[[11.0, 11, 13, 13], [11, 11, 13, 13]]])
    actual = match(anchors_of_64(), twins, torch.ones(1, 2, dtype=torch.bool))
    assert actual.max() == 0


def test_no_box_in_the_whole_batch():
    actual = match(anchors_of_64(), torch.zeros(3, 0, 4), torch.zeros(3, 0, dtype=torch.bool))
    assert actual.shape == (3, 720)
    assert actual.max() == -1


def test_permuting_images_permutes_matches():
    boxes, is_box = random_boxes(4, 3), torch.rand(4, 3) > 0.3
    order = [2, 0, 3, 1]
    whole = match(anchors_of_64(), boxes, is_box)
    assert torch.equal(match(anchors_of_64(), boxes[order], is_box[order]), whole[order])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(1.0, 1000.0))
def test_decode_undoes_encode(seed, side):
    boxes = random_boxes(20, side=side, seed=seed)
    anchors = random_boxes(20, side=side, seed=seed + 1)
    torch.testing.assert_close(
        decode(encode(boxes, anchors), anchors), boxes, rtol=1e-4, atol=1e-5 * side
    )


def test_encode_by_hand():
    anchor = torch.tensor([0.0, 0, 10, 20])
    box = torch.tensor([5.0, 5, 25, 15])  # centre (15, 10), 20 x 10
    expected = [1.0, 0.0, math.log(2), math.log(0.5)]
    assert encode(box, anchor).tolist() == pytest.approx(expected)


def test_codes_and_boxes_equal_torchvisions_with_unit_weights():
    coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
    boxes, anchors = random_boxes(30), random_boxes(30, seed=1)
    torch.testing.assert_close(encode(boxes, anchors), coder.encode_single(boxes, anchors))
    codes = torch.randn(30, 4) * 3  # some beyond the clip at log(1000 / 16) = 4.14
    assert codes[:, 2:].max() > math.log(1000 / 16)
    torch.testing.assert_close(decode(codes, anchors), coder.decode_single(codes, anchors))
