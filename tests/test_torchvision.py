"""Our RetinaNet against torchvision's, part by part: equal where the definitions are.

Where they are not, a test states the difference: anchors (rounding, middle of a cell, order),
forced matches, loss constants and normalisers, slivers. Box codes stand in test_anchors.py.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torchvision.models.detection._utils import BoxCoder, Matcher, _box_loss
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.ops import box_iou, sigmoid_focal_loss

from ray_st.data.labels import Detections
from ray_st.models import ModelConfig, build
from ray_st.models.retinanet import Outputs
from ray_st.tasks.anchors import encode, match, pyramid_anchors
from ray_st.tasks.detection import BOX_WEIGHT, HUBER_DELTA, DetectConfig, Detection
from ray_st.tasks.focal import FOCAL_GAMMA, focal_sums

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CPU = torch.device("cpu")
SIDE, SIZE_HW = 128, (128, 128)
FEATURE_SIZES, STRIDES = ((16, 16), (8, 8), (4, 4)), (8, 16, 32)
COUNTS = [9 * h * w for h, w in FEATURE_SIZES]
ANCHORS = pyramid_anchors(FEATURE_SIZES, STRIDES, 4.0, CPU)
NUM_CLASSES = 5
ALL = 100_000


def task_with(**detect):
    detect = {"candidates": "level", **detect}
    return Detection(
        num_classes=NUM_CLASSES, levels=(3, 5), anchor_scale=4.0, detect=DetectConfig(**detect)
    )


def rival(**settings):
    """torchvision's RetinaNet for the parts beyond the backbone."""
    backbone = nn.Identity()
    backbone.out_channels = 8
    sizes = tuple((stride,) * 3 for stride in STRIDES)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 3)
    return RetinaNet(backbone, NUM_CLASSES, anchor_generator=anchors, **settings)


def random_labels(seed, counts=(4, 0, 1, 9)):
    rng = np.random.default_rng(seed)
    labels = []
    for count in counts:
        sides = np.exp(rng.uniform(np.log(8), np.log(SIDE / 2), (count, 2)))
        corners = rng.uniform(0, 1, (count, 2)) * (SIDE - sides)
        boxes = np.concatenate([corners, corners + sides], axis=1)
        labels.append(Detections.of(boxes, rng.integers(0, NUM_CLASSES, count)))
    return labels


def realistic_outputs(labels, seed):
    """Peaks about each object, of its class and of a wrong one; noise elsewhere."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    logits = normal(len(labels), len(ANCHORS), NUM_CLASSES) - 4.5
    codes = 0.3 * normal(len(labels), len(ANCHORS), 4)
    for i, one in enumerate(labels):
        if not len(one):
            continue
        boxes, class_ids = torch.from_numpy(one.boxes_xyxy), torch.from_numpy(one.class_ids).long()
        iou, owner = box_iou(boxes, ANCHORS).max(dim=0)
        near = torch.nonzero(iou > 0.25)[:, 0]
        wrong = torch.randint(0, NUM_CLASSES, near.shape, generator=generator)
        logits[i, near, wrong] = 10 * (iou[near] - 0.7) + normal(len(near))
        logits[i, near, class_ids[owner[near]]] = 10 * (iou[near] - 0.5) + normal(len(near))
        codes[i, near] = encode(boxes[owner[near]], ANCHORS[near]) + 0.1 * normal(len(near), 4)
    return Outputs(class_logits=logits, box_codes=codes, feature_sizes=FEATURE_SIZES)


def post_process(outputs, **settings):
    """torchvision's boxes for our outputs and anchors."""
    heads = {
        "cls_logits": list(outputs.class_logits.split(COUNTS, dim=1)),
        "bbox_regression": list(outputs.box_codes.split(COUNTS, dim=1)),
    }
    images = len(outputs.class_logits)
    found = rival(**settings).postprocess_detections(
        heads, [list(ANCHORS.split(COUNTS))] * images, [SIZE_HW] * images
    )
    columns = [[one[key].numpy() for key in ("boxes", "labels", "scores")] for one in found]
    return [Detections.of(b, k, scores=s) for b, k, s in columns]


def solid(one):
    return one[(one.boxes_xyxy[:, 2:] - one.boxes_xyxy[:, :2] >= 0.01).all(1)]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.class_ids, other.class_ids)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-6)
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-4)


# Post-processing


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("top", [30, 1000])  # of a level: most are cut, none is
def test_the_same_boxes_from_the_same_outputs(seed, top):
    outputs = realistic_outputs(random_labels(seed), seed)
    ours = task_with(max_candidates=top).predictions(outputs, SIZE_HW)
    theirs = post_process(outputs, topk_candidates=top, detections_per_img=ALL)
    assert sum(map(len, ours)) > 100
    assert_same(ours, [solid(one)[:100] for one in theirs])


@pytest.mark.parametrize("seed", range(3))
def test_only_we_drop_boxes_of_which_nothing_is_inside_the_view(seed):
    outputs = realistic_outputs(random_labels(seed), seed)
    outputs.box_codes[:, ::7, 0] += 20
    ours = task_with(max_detections=ALL).predictions(outputs, SIZE_HW)
    theirs = post_process(outputs, detections_per_img=ALL)
    gone = [one.areas_px.min(initial=1) == 0 for one in theirs]
    assert all(gone)
    assert_same(ours, [solid(one) for one in theirs])


def test_equal_scores_may_come_in_another_order_only():
    # One square anchor in each fourth cell of the fine level: none overlaps another by half.
    logits = torch.full((2, len(ANCHORS), NUM_CLASSES), -20.0)
    grid = logits[:, : COUNTS[0]].view(2, 16, 16, 9, NUM_CLASSES)
    grid[:, ::4, ::4, 0] = (torch.arange(2 * 16 * NUM_CLASSES) % 3 - 1.0).view(2, 4, 4, NUM_CLASSES)
    outputs = Outputs(
        class_logits=logits,
        box_codes=torch.zeros(2, len(ANCHORS), 4),
        feature_sizes=FEATURE_SIZES,
    )
    ours = task_with(max_detections=ALL).predictions(outputs, SIZE_HW)
    theirs = post_process(outputs, detections_per_img=ALL)
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) == 16 * NUM_CLASSES
        assert len(set(one.scores.tolist())) == 3
        np.testing.assert_array_equal(one.scores, other.scores)
        rows = [
            sorted(zip(each.scores, each.class_ids, each.boxes_xyxy.tolist(), strict=True))
            for each in (one, other)
        ]
        assert rows[0] == rows[1]


# Matching


@pytest.mark.parametrize("seed", range(6))
def test_matches_differ_at_forced_anchors_only(seed):
    boxes = torch.from_numpy(random_labels(seed, (12,))[0].boxes_xyxy)
    iou = box_iou(boxes, ANCHORS)
    ours = match(ANCHORS, boxes[None], torch.ones(1, 12, dtype=torch.bool))[0]
    theirs = Matcher(0.5, 0.5, allow_low_quality_matches=True)(iou)
    best_of_box = iou == iou.max(dim=1, keepdim=True).values
    forced = best_of_box.any(dim=0)
    assert ours[~forced].tolist() == theirs[~forced].tolist()
    # theirs forces every anchor that ties for best; ours the first of them.
    assert set(torch.nonzero(ours >= 0)[:, 0].tolist()) <= set(
        torch.nonzero(theirs >= 0)[:, 0].tolist()
    )
    for anchor in torch.nonzero(ours != theirs)[:, 0].tolist():
        # theirs gives a forced anchor to the box that it overlaps most, ours to one it was
        # forced by, unless a tie left it out.
        assert theirs[anchor] == iou[:, anchor].argmax()
        assert ours[anchor] == -1 or best_of_box[ours[anchor], anchor]


def test_a_box_that_touches_no_anchor_forces_none_here_and_all_there():
    far = torch.tensor([[1000.0, 1000, 1010, 1010]])
    theirs = Matcher(0.5, 0.5, allow_low_quality_matches=True)(box_iou(far, ANCHORS))
    assert (theirs == 0).all()
    assert match(ANCHORS, far[None], torch.ones(1, 1, dtype=torch.bool)).max() == -1


# Losses, on the same matches


@pytest.fixture(params=range(3))
def judged(request):
    """Outputs, targets, matches and our sums."""
    labels, task = random_labels(request.param), task_with()
    outputs = realistic_outputs(labels, request.param)
    targets = task.targets(labels, SIZE_HW, CPU)
    matches = match(ANCHORS, targets.boxes_xyxy, targets.is_box)
    return outputs, labels, matches, task.loss_sums(outputs, targets)


def test_focal_loss_is_theirs_with_gamma_one_and_a_half(judged):
    outputs, labels, matches, ours = judged
    for i, one in enumerate(labels):
        hot = torch.zeros(len(ANCHORS), NUM_CLASSES)
        anchor = torch.nonzero(matches[i] >= 0)[:, 0]
        hot[anchor, torch.from_numpy(one.class_ids).long()[matches[i, anchor]]] = 1
        theirs = sigmoid_focal_loss(
            outputs.class_logits[i], hot, alpha=0.25, gamma=FOCAL_GAMMA, reduction="sum"
        )
        torch.testing.assert_close(ours.parts["class"][i], theirs)


def test_huber_loss_is_delta_times_their_smooth_l1(judged):
    outputs, labels, matches, ours = judged
    coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
    for i, one in enumerate(labels):
        anchor = torch.nonzero(matches[i] >= 0)[:, 0]
        theirs = _box_loss(
            "smooth_l1",
            coder,
            ANCHORS[anchor],
            torch.from_numpy(one.boxes_xyxy)[matches[i, anchor]],
            outputs.box_codes[i, anchor],
            {"beta": HUBER_DELTA},
        )
        expected = BOX_WEIGHT * HUBER_DELTA * theirs
        torch.testing.assert_close(ours.parts["box"][i], expected, rtol=1e-5, atol=1e-5)


def test_they_normalise_each_image_and_we_the_batch(judged):
    outputs, labels, matches, ours = judged
    head = RetinaNetHead(8, 9, NUM_CLASSES)
    targets = [
        {"boxes": torch.from_numpy(one.boxes_xyxy), "labels": torch.from_numpy(one.class_ids)}
        for one in labels
    ]
    heads = {"cls_logits": outputs.class_logits, "bbox_regression": outputs.box_codes}
    theirs = head.compute_loss(targets, heads, [ANCHORS] * len(labels), list(matches))
    # Per image, their gamma of 2, over its own positives; then the mean of images.
    image, anchor = torch.nonzero(matches >= 0, as_tuple=True)
    classes = [torch.from_numpy(one.class_ids).long() for one in labels]
    class_ids = torch.stack([classes[i][matches[i, a]] for i, a in zip(image, anchor, strict=True)])
    boxes = torch.stack(
        [targets[i]["boxes"][matches[i, a]] for i, a in zip(image, anchor, strict=True)]
    )
    per_image = focal_sums(outputs.class_logits, image, anchor, class_ids, gamma=2.0)
    positives = ours.counts.clamp(min=1)
    torch.testing.assert_close((per_image / positives).mean(), theirs["classification"])
    # Of boxes the plain distance.
    errors = F.l1_loss(
        outputs.box_codes[image, anchor], encode(boxes, ANCHORS[anchor]), reduction="none"
    )
    per_image = torch.zeros(len(labels)).index_add(0, image, errors.sum(1))
    torch.testing.assert_close((per_image / positives).mean(), theirs["bbox_regression"])
    assert ours.count_offset == 1  # ours: sum of all over (positives of all + 1)


# Anchors and head


def test_anchors_are_theirs_moved_to_the_middle_of_a_cell():
    sizes = tuple(tuple(4 * stride * 2 ** (k / 3) for k in range(3)) for stride in STRIDES)
    generator = AnchorGenerator(sizes, ((1.0, 0.5, 2.0),) * 3)  # height over width
    pixels = ImageList(torch.zeros(1, 3, *SIZE_HW), [SIZE_HW])
    maps = [torch.zeros(1, 8, *size) for size in FEATURE_SIZES]
    theirs = generator(pixels, maps)[0]
    level_of = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
    middle = torch.tensor(STRIDES)[level_of, None] / 2
    # theirs: ratio after ratio, and scales within; ours the other way round.
    ours = (ANCHORS - middle).view(-1, 3, 3, 4).transpose(1, 2).reshape(-1, 4)
    assert (ours - theirs).abs().max() <= 0.5 + 1e-3  # theirs are rounded to whole pixels
    # With shapes of ours in it, their generator gives our anchors.
    generator.cell_anchors = [pyramid_anchors(((1, 1),), (stride,), 4.0, CPU) for stride in STRIDES]
    torch.testing.assert_close(generator(pixels, maps)[0], ANCHORS)


def test_the_head_lays_out_its_outputs_as_theirs():
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_resnet", image_size_px=64, levels=(3, 5), channels=8)
    model = build(config, "detection", NUM_CLASSES).eval()
    head = RetinaNetHead(8, 9, NUM_CLASSES, norm_layer=nn.BatchNorm2d).eval()
    pairs = (
        (model.classes, head.classification_head.conv, head.classification_head.cls_logits),
        (model.boxes, head.regression_head.conv, head.regression_head.bbox_reg),
    )
    with torch.no_grad():
        for tower, convs, predict in pairs:
            for ours, theirs in zip(tower.convs, convs, strict=True):
                theirs[0].weight.copy_(ours.weight.normal_(std=0.2))
            predict.weight.copy_(tower.predict.weight.normal_(std=0.2))
            predict.bias.copy_(tower.predict.bias.normal_())
        maps = [torch.randn(2, 8, h, w) for h, w in ((8, 6), (4, 3), (2, 2))]
        theirs = head(maps)
        torch.testing.assert_close(model.classes(maps), theirs["cls_logits"])
        torch.testing.assert_close(model.boxes(maps), theirs["bbox_regression"])
