"""What is seen in several views of an image comes to one answer, against the slow way."""

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ray_st.data import boxes as box_arithmetic
from ray_st.data.images import PAD_RGB, Source, fit
from ray_st.data.labels import IGNORE
from ray_st.labeling.looks import Looks, views
from ray_st.labeling.teacher import Teacher
from ray_st.models import ModelConfig, build
from ray_st.models.retinanet import ANCHORS_PER_LOCATION, Outputs
from ray_st.tasks import make_task
from ray_st.tasks.candidates import Candidates, best_first, carried, together
from ray_st.tasks.classification import Classification
from ray_st.tasks.detection import DetectConfig, Detection
from ray_st.tasks.nms import hard_nms, soft_nms
from ray_st.tasks.segmentation import Segmentation
from ray_st.tasks.task import Shown

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SIDE = 64
SIZES_HW = [(64, 64), (101, 37), (37, 101), (40, 64), (5, 3), (200, 171)]
ONCE = Looks(sides_px=(SIDE,))
FLIP = Looks(sides_px=(SIDE,), flip=True)
MANY = Looks(sides_px=(96, 64, 48), flip=True)


def pixels_of(sizes_hw, side=SIDE, seed=0):
    """Fitted views of images of coarse blocks, so that no two places look alike."""
    rng = np.random.default_rng(seed)
    fitted = []
    for height, width in sizes_hw:
        blocks = rng.integers(0, 256, (-(-height // 4), -(-width // 4), 3), np.uint8)
        image = np.kron(blocks, np.ones((4, 4, 1), np.uint8))[:height, :width]
        fitted.append(fit(Source.of_pixels(np.ascontiguousarray(image)), side))
    return np.array(fitted, np.uint8).reshape(-1, side, side, 3)


def predict(model, task, looks, sizes_hw=SIZES_HW, pixels=None):
    if pixels is None:
        pixels = pixels_of(sizes_hw, looks.largest_px)
    return Teacher(model, task, looks=looks).predict(pixels, np.array(sizes_hw).reshape(-1, 2))


# Detection -----------------------------------------------------------------------------------


def detection(**detect):
    detect = DetectConfig(**{"score_floor": 0.3, **detect})
    return Detection(num_classes=3, levels=(3, 3), anchor_scale=4.0, detect=detect)


class Cells(nn.Module):
    """A detector that does not know left from right: a cell's brightest colours are its classes.

    Boxes stay within their cells of 8 px. It takes the maximum, whose value no order changes.
    """

    def __init__(self, steepness=1 / 7):
        super().__init__()
        self.calls, self.steepness = [], steepness  # how much less likely each further shape is

    def forward(self, pixels):
        self.calls.append(tuple(pixels.shape))
        # Less than any colour where there is padding.
        is_padding = (pixels == torch.tensor(PAD_RGB).view(1, 3, 1, 1)).all(1, keepdim=True)
        seen = pixels.float().masked_fill(is_padding, -300)
        cells = torch.max_pool2d(seen, 8, ceil_mode=True)
        rows, columns = cells.shape[2:]
        shapes = torch.arange(ANCHORS_PER_LOCATION).view(1, 1, 1, -1, 1)
        logits = (cells.permute(0, 2, 3, 1)[..., None, :] - 150) / 30 - shapes * self.steepness
        logits = logits.flatten(1, 3)
        codes = torch.zeros(*logits.shape[:2], 4)
        codes[..., 2:] = -2.5  # of anchors of at most 32 * 1.6 * 1.4 px
        return Outputs(class_logits=logits, box_codes=codes, feature_sizes=((rows, columns),))


# Areas that whole cells fill, so that a mirrored image has the same cells.
IN_CELLS = [(64, 64), (64, 40), (24, 64), (128, 80), (8, 64), (64, 8)]


@pytest.mark.parametrize("nms_iou", [0.3, 0.5, 0.9])
def test_a_detector_that_does_not_know_left_from_right_gains_nothing(nms_iou):
    task, pixels = detection(nms_iou=nms_iou), pixels_of(IN_CELLS)
    plain = predict(Cells(), task, ONCE, IN_CELLS, pixels)
    merged = predict(Cells(), task, FLIP, IN_CELLS, pixels)
    assert all(len(one) > 0 for one in plain)
    for one, other in zip(plain, merged, strict=True):
        for name in one.FIELDS.names:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


class Drawn(nn.Module):
    """Answers at random, but always the same to the same pixels: a model of any size of views."""

    def __init__(self, task="detection", classes=3):
        super().__init__()
        self.task, self.classes = task, classes

    def forward(self, pixels):
        answers = [self.answer(one) for one in pixels]
        if self.task == "detection":
            side = -(-pixels.shape[2] // 8)
            logits = torch.stack([logits for logits, _ in answers])
            codes = torch.stack([codes for _, codes in answers])
            return Outputs(class_logits=logits, box_codes=codes, feature_sizes=((side, side),))
        return torch.stack(answers)

    def answer(self, image):
        generator = torch.Generator().manual_seed(int(image.long().sum()) * 7 + image.shape[1])

        def normal(*shape):
            return torch.randn(*shape, generator=generator)

        if self.task == "detection":
            count = (-(-image.shape[1] // 8)) ** 2 * ANCHORS_PER_LOCATION
            return normal(count, self.classes) - 2, normal(count, 4) / 3
        if self.task == "segmentation":
            side = -(-image.shape[1] // 4)
            return 3 * normal(self.classes, side, side)
        return normal(self.classes)


def all_boxes(task, model, view, shown):
    """Every candidate of each image of one view, as (score, class, box), best first."""
    free = DetectConfig(
        score_floor=task.detect.score_floor,
        candidates=task.detect.candidates,
        max_candidates=task.detect.max_candidates,
        nms_iou=1.0,
        max_detections=100_000,
    )
    every = Detection(num_classes=3, levels=task.levels, anchor_scale=4.0, detect=free)
    found = every.predictions(model(view), shown.size_hw)
    return [
        [*zip(one.scores.tolist(), one.class_ids.tolist(), one.boxes_xyxy.tolist(), strict=True)]
        for one in found
    ]


def upright(box, shown, i, first):
    """One box of a view in pixels of the first view, by arithmetic; None where nothing is left."""
    height, width = shown.areas_hw[i]
    left, right = (min(x, width) for x in (box[0], box[2]))
    top, bottom = (min(y, height) for y in (box[1], box[3]))
    if right - left < 0.01 or bottom - top < 0.01:
        return None
    if shown.is_mirrored:
        left, right = width - right, width - left
    new_h, new_w = first.areas_hw[i]
    x, y = new_w / width, new_h / height
    return [left * x, top * y, right * x, bottom * y]


def greedy(rows, iou, limit):
    """Rows that stand, best first; of equal scores the earlier one."""
    kept = []
    for score, class_id, box in sorted(rows, key=lambda row: -row[0]):
        mine = [other for _, k, other in kept if k == class_id]
        overlaps = box_arithmetic.iou(np.array([box]), np.array(mine).reshape(-1, 4))
        if not (overlaps > iou).any():
            kept.append((score, class_id, box))
    return kept[:limit]


@pytest.mark.parametrize("looks", [FLIP, MANY, Looks(sides_px=(72, 40))])
@pytest.mark.parametrize(
    "detect",
    [
        {},
        {"nms_iou": 0.2, "max_detections": 7},
        {"max_candidates": 20},  # a view
        {"candidates": "class", "max_candidates": 9},
    ],
)
def test_boxes_of_all_views_against_the_slow_way(looks, detect):
    task, model = detection(**detect), Drawn()
    decoded = torch.from_numpy(pixels_of(SIZES_HW, looks.largest_px)).permute(0, 3, 1, 2)
    found = task.merged((model(v), s) for v, s in views(decoded, SIZES_HW, looks))
    rows = [[] for _ in SIZES_HW]
    first = None
    for view, shown in views(decoded, SIZES_HW, looks):
        first = first or shown
        for i, seen in enumerate(all_boxes(task, model, view, shown)):
            moved = [(s, k, upright(box, shown, i, first)) for s, k, box in seen]
            rows[i] += [row for row in moved if row[2] is not None]
    for i, one in enumerate(found):
        expected = greedy(rows[i], task.detect.nms_iou, task.detect.max_detections)
        assert len(expected) > 0
        assert one.class_ids.tolist() == [k for _, k, _ in expected]
        assert one.scores.tolist() == [score for score, _, _ in expected]
        boxes = [box for _, _, box in expected]
        np.testing.assert_allclose(one.boxes_xyxy, boxes, rtol=1e-5, atol=1e-4)
        height, width = first.areas_hw[i]
        assert (one.boxes_xyxy >= 0).all()
        assert (one.boxes_xyxy <= [width, height, width, height]).all()


def test_soft_nms_lowers_what_another_view_repeats():
    model, sizes_hw = Cells(steepness=100), [(64, 40)]  # a box a cell and class, none overlap
    detect = {"nms": "soft", "soft_nms_sigma": 0.5, "max_detections": 1000, "score_floor": 0.05}
    (plain,) = predict(model, detection(**detect), ONCE, sizes_hw)
    (merged,) = predict(model, detection(**detect), FLIP, sizes_hw)
    assert merged.scores[0] == plain.scores[0]
    there = np.abs(merged.boxes_xyxy - plain.boxes_xyxy[0]).max(axis=1) < 1e-3
    scores = merged.scores[there & (merged.class_ids == plain.class_ids[0])]
    assert scores.tolist() == pytest.approx(
        [plain.scores[0], plain.scores[0] * np.exp(-1)], rel=1e-4
    )


def found_in(image, boxes, scores):
    image, scores = torch.tensor(image, dtype=torch.int64), torch.tensor(scores)
    return Candidates(
        image=image,
        boxes_xyxy=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        class_ids=torch.zeros_like(image),
        scores=scores,
    )


def test_boxes_are_carried_by_hand():
    # A view of 32 px of images 100 x 50 and 50 x 100: areas 32 x 16 and 16 x 32.
    sizes_hw = [(100, 50), (50, 100)]
    small, large = Shown.of(sizes_hw, 32), Shown.of(sizes_hw, 64)
    boxes = [[0, 0, 4, 8], [10, 20, 30, 30], [17, 3, 30, 9], [1, 10, 3, 32]]
    found = found_in([0, 0, 0, 1], boxes, [0.9, 0.8, 0.7, 0.6])
    moved = carried(found, small, large)
    assert moved.image.tolist() == [0, 0, 1]  # the third lies in the padding
    assert moved.boxes_xyxy.tolist() == [[0, 0, 8, 16], [20, 40, 32, 60], [2, 20, 6, 32]]
    moved = carried(found, small.mirrored(), large)
    assert moved.boxes_xyxy.tolist() == [[24, 0, 32, 16], [0, 40, 12, 60], [58, 20, 62, 32]]
    assert moved.scores.tolist() == found.scores[[0, 1, 3]].tolist()


def test_of_equal_scores_the_earlier_views_box_stands():
    one = found_in([0, 1], [[0, 0, 9, 10], [5, 5, 8, 8]], [0.5, 0.25])
    other = found_in([0, 0], [[0, 0, 10, 10], [20, 20, 30, 30]], [0.5, 0.75])
    both = together([one, other])
    assert both.image.tolist() == [0, 0, 0, 1]
    assert both.scores.tolist() == [0.75, 0.5, 0.5, 0.25]
    kept = hard_nms(both, iou=0.5, limit=9)
    assert kept.boxes_xyxy.tolist() == [[20, 20, 30, 30], [0, 0, 9, 10], [5, 5, 8, 8]]
    assert len(soft_nms(together([one[:0], other[:0]]), sigma=0.5, score_floor=0, limit=9)) == 0


@settings(deadline=None, max_examples=60)
@given(
    sizes_hw=st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), min_size=1, max_size=4),
    sides=st.tuples(st.integers(8, 200), st.integers(8, 200)),
    seed=st.integers(0, 2**31),
)
def test_boxes_go_to_another_view_and_back(sizes_hw, sides, seed):
    small, large = (Shown.of(sizes_hw, side) for side in sorted(sides))
    rng = np.random.default_rng(seed)
    image = np.sort(rng.integers(0, len(sizes_hw), 20))
    areas = np.array([large.areas_hw[i][::-1] for i in image])
    corners = np.sort(rng.uniform(0, 1, (20, 2, 2)), axis=1) * areas[:, None]
    order = best_first(torch.from_numpy(image), torch.rand(20))
    found = found_in(image.tolist(), corners.reshape(-1, 4).tolist(), [0.5] * 20)[order]
    wide = ((found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]) > 1.0).all(1)
    found = found[wide]
    mirrored = large.mirrored()
    twice = carried(carried(found, mirrored, large), mirrored, large)
    torch.testing.assert_close(twice.boxes_xyxy, found.boxes_xyxy, rtol=0, atol=1e-3)
    back = carried(carried(found, large, small), small, large)
    if len(back) == len(found):  # none became a sliver where it was small
        torch.testing.assert_close(back.boxes_xyxy, found.boxes_xyxy, rtol=0, atol=1e-3)
    for each in (twice, back):
        limits = torch.tensor([large.areas_hw[i][::-1] * 2 for i in each.image.tolist()])
        assert (each.boxes_xyxy >= 0).all()
        assert (each.boxes_xyxy <= limits.view(-1, 4)).all()


def test_nothing_found_and_no_image():
    task = detection(score_floor=0.999)
    for looks in (FLIP, MANY):
        found = predict(Drawn(), task, looks)
        assert [len(one) for one in found] == [0] * len(SIZES_HW)
        assert predict(Painted(), Segmentation(num_classes=4), looks, []) == []
        assert predict(Means(), Classification(num_classes=3), looks, []) == []


# Segmentation --------------------------------------------------------------------------------


class Painted(nn.Module):
    """A segmenter of single pixels: their colours are its logits; padding is surely class 3."""

    def __init__(self, temperature=40):
        super().__init__()
        self.temperature = temperature

    def forward(self, pixels):
        is_padding = (pixels == torch.tensor(PAD_RGB).view(1, 3, 1, 1)).all(1, keepdim=True)
        logits = pixels.float() / self.temperature
        return torch.cat([logits, 1000.0 * is_padding], dim=1)


def test_a_segmenter_of_single_pixels_gains_nothing_from_a_mirror():
    task, pixels = Segmentation(num_classes=4), pixels_of(SIZES_HW)
    plain = predict(Painted(), task, ONCE, pixels=pixels)
    merged = predict(Painted(), task, FLIP, pixels=pixels)
    for one, other, size_hw in zip(plain, merged, SIZES_HW, strict=True):
        assert one.class_map.shape == other.class_map.shape == size_hw
        np.testing.assert_array_equal(one.class_map, other.class_map)
        np.testing.assert_array_equal(one.confidence, other.confidence)


def test_padding_has_no_say_in_an_image():
    task = Segmentation(num_classes=4)
    for looks in (FLIP, MANY, Looks(sides_px=(72, 40))):
        for one in predict(Painted(), task, looks):
            assert one.class_map.max() < 3
    pixels = torch.from_numpy(pixels_of(SIZES_HW, 96)).permute(0, 3, 1, 2)
    model = Painted()
    maps = task.merged((model(v), s) for v, s in views(pixels, SIZES_HW, MANY))
    for one, (height, width) in zip(maps, Shown.of(SIZES_HW, 96).areas_hw, strict=True):
        assert one.class_map.shape == one.confidence.shape == (96, 96)
        outside = np.ones((96, 96), bool)
        outside[:height, :width] = False
        assert (one.class_map[outside] == IGNORE).all()
        assert (one.confidence[outside] == 0).all()
        assert (one.confidence[~outside] >= 255 // 4).all()


def stretch(length, new_length):
    """Matrix (new, old) of bilinear resizing, pixel centres half a pixel in, in float64."""
    matrix = np.zeros((new_length, length))
    for i in range(new_length):
        at = min(max((i + 0.5) * length / new_length - 0.5, 0), length - 1)
        low = int(at)
        matrix[i, low] += 1 - (at - low)
        matrix[i, min(low + 1, length - 1)] += at - low
    return matrix


@pytest.mark.parametrize("looks", [FLIP, MANY, Looks(sides_px=(70, 42), flip=True)])
def test_maps_of_all_views_against_the_slow_way(looks):
    task, model = Segmentation(num_classes=5), Drawn("segmentation", 5)
    decoded = torch.from_numpy(pixels_of(SIZES_HW, looks.largest_px)).permute(0, 3, 1, 2)
    found = task.merged((model(v), s) for v, s in views(decoded, SIZES_HW, looks))
    seen = [(model(v).double().numpy(), s) for v, s in views(decoded, SIZES_HW, looks)]
    for i, (one, (height, width)) in enumerate(zip(found, seen[0][1].areas_hw, strict=True)):
        total = np.zeros((5, height, width))
        for logits, shown in seen:
            grow = stretch(logits.shape[2], shown.side_px)
            full = grow @ logits[i] @ grow.T
            h, w = shown.areas_hw[i]
            area = full[:, :h, :w]
            if shown.is_mirrored:
                area = area[:, :, ::-1]
            area = stretch(h, height) @ area @ stretch(w, width).T
            area = np.exp(area - area.max(axis=0))
            total += area / area.sum(axis=0)
        mean = total / len(seen)
        top = np.sort(mean, axis=0)
        is_clear = top[-1] - top[-2] > 1e-5
        assert is_clear.mean() > 0.99 or is_clear.size < 100
        map_, confidence = one.class_map[:height, :width], one.confidence[:height, :width]
        np.testing.assert_array_equal(map_[is_clear], mean.argmax(axis=0)[is_clear])
        assert np.abs(confidence - top[-1] * 255 + 0.5).max() < 0.51


# Classification ------------------------------------------------------------------------------


class Means(nn.Module):
    """Mean colour of the left third minus that of the rest: it does know left from right."""

    def forward(self, pixels):
        third = pixels.shape[3] // 3
        left, rest = pixels[..., :third].float(), pixels[..., third:].float()
        return (left.mean(dim=(2, 3)) - rest.mean(dim=(2, 3))) / 20


@pytest.mark.parametrize("looks", [FLIP, MANY, Looks(sides_px=(72, 40))])
def test_classes_have_the_mean_of_their_probabilities(looks):
    task, model, pixels = (
        Classification(num_classes=3),
        Means(),
        pixels_of(SIZES_HW, looks.largest_px),
    )
    decoded = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    logits = [model(view).double().numpy() for view, _ in views(decoded, SIZES_HW, looks)]
    likely = [np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in logits]
    mean = np.mean(likely, axis=0)
    found = predict(model, task, looks, pixels=pixels)
    for one, expected in zip(found, mean, strict=True):
        order = np.argsort(-expected)
        assert one.top_class_ids.tolist() == order.tolist()
        np.testing.assert_allclose(one.top_scores, expected[order], rtol=1e-5)
    plain = predict(model, task, Looks(sides_px=(looks.largest_px,)), pixels=pixels)
    assert any(
        not np.allclose(a.top_scores, b.top_scores, rtol=1e-3)
        for a, b in zip(plain, found, strict=True)
    )


# The teacher ---------------------------------------------------------------------------------


def assert_same_labels(one, other):
    for a, b in zip(one, other, strict=True):
        for name, value in vars(a).items():
            np.testing.assert_array_equal(value, getattr(b, name), err_msg=name)


def test_who_looks_once_gives_what_a_single_forward_pass_gives():
    pixels = pixels_of(SIZES_HW)
    for task, model in (
        (detection(), Cells()),
        (Segmentation(num_classes=4), Painted()),
        (Classification(num_classes=3), Means()),
    ):
        plain = Teacher(model, task).predict(pixels, np.array(SIZES_HW))
        assert_same_labels(predict(model, task, ONCE, pixels=pixels), plain)
        view = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        alone = task.predictions(model(view), (SIDE, SIDE))
        assert len(alone) == len(plain)


def test_a_look_is_a_forward_pass_of_the_whole_batch():
    n = len(SIZES_HW)
    for looks, sides in ((ONCE, [64]), (FLIP, [64, 64]), (MANY, [96, 96, 64, 64, 48, 48])):
        model = Cells()
        predict(model, detection(), looks)
        assert model.calls == [(n, 3, side, side) for side in sides]


def test_what_a_view_came_to_is_let_go_before_the_next():
    """Of a detector's outputs one view's are held at a time."""
    alive, most = weakref.WeakSet(), []
    model = Drawn()

    def outputs():
        decoded = torch.from_numpy(pixels_of(SIZES_HW, 96)).permute(0, 3, 1, 2)
        for view, shown in views(decoded, SIZES_HW, MANY):
            most.append(len(alive))
            answer = model(view)
            alive.add(answer.class_logits)
            yield answer, shown
            del answer

    detection().merged(outputs())
    assert most == [0] * 6


@pytest.mark.parametrize("name", ["detection", "segmentation", "classification"])
def test_a_real_model_sees_each_image_the_same_whatever_stands_beside_it(name):
    config = ModelConfig(
        backbone="test_resnet", image_size_px=64, levels=(3, 4), channels=16, head_convs=1
    )
    torch.manual_seed(0)
    model = build(config, name, 3).eval().to(memory_format=torch.channels_last)
    for key, value in model.named_parameters():
        if key.endswith("predict.weight"):
            nn.init.normal_(value, std=0.3)
    task = make_task(name, config, 3, DetectConfig(score_floor=0.01))
    pixels = pixels_of(SIZES_HW, 96)
    beside = predict(model, task, MANY, pixels=pixels)
    for i, one in enumerate(beside):
        (alone,) = predict(model, task, MANY, SIZES_HW[i : i + 1], pixels[i : i + 1])
        if name == "segmentation":
            assert one.class_map.shape == SIZES_HW[i]
            assert (alone.class_map == one.class_map).mean() > 0.99
        elif name == "classification":
            np.testing.assert_allclose(alone.top_scores, one.top_scores, atol=1e-5)
        else:
            assert len(one) > 0
            assert len(alone) == len(one)
            np.testing.assert_allclose(alone.scores, one.scores, atol=1e-5)
