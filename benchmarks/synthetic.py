"""Head outputs like those of a trained detector, the truth they come from, and a lively model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from ray_st.data.labels import Detections
from ray_st.models.retinanet import Outputs
from ray_st.tasks.anchors import encode, pyramid_anchors, strides_of
from ray_st.tasks.detection import Detection

BACKGROUND_LOGIT = -7.2  # with a deviation of 1, some 25 in a million score above 0.05


def random_labels(batch: int, side_px: int, num_classes: int, seed: int) -> list[Detections]:
    """1 to 14 boxes an image (COCO has 7.3), sides from 16 px to half of the view's."""
    rng = np.random.default_rng(seed)
    labels = []
    for _ in range(batch):
        count = rng.integers(1, 15)
        sides = np.exp(rng.uniform(math.log(16), math.log(side_px / 2), (count, 2)))
        corners = rng.uniform(0, 1, (count, 2)) * (side_px - sides)
        boxes = np.concatenate([corners, corners + sides], axis=1)
        labels.append(Detections.of(boxes, rng.integers(0, num_classes, count)))
    return labels


def random_pixels(batch: int, side_px: int, seed: int) -> np.ndarray:
    """Views of shape (b, side, side, 3), uint8: coarse blotches under noise."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 200, (batch, side_px // 32, side_px // 32, 3), np.uint8)
    noise = rng.integers(0, 56, (batch, side_px, side_px, 3), np.uint8)
    return cells.repeat(32, axis=1).repeat(32, axis=2) + noise


def realistic_outputs(
    labels: list[Detections], side_px: int, task: Detection, *, seed: int, device: torch.device
) -> Outputs:
    """Peaks of the right class and some of wrong ones about each object, noise elsewhere."""
    strides = strides_of(task.levels)
    sizes = tuple((math.ceil(side_px / s),) * 2 for s in strides)
    anchors = pyramid_anchors(sizes, strides, task.anchor_scale, torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    logits = normal(len(labels), len(anchors), task.num_classes) + BACKGROUND_LOGIT
    codes = 0.2 * normal(len(labels), len(anchors), 4)
    for i, one in enumerate(labels):
        boxes, class_ids = torch.from_numpy(one.boxes_xyxy), torch.from_numpy(one.class_ids).long()
        iou, owner = box_iou(boxes, anchors).max(dim=0)
        near = torch.nonzero(iou > 0.3)[:, 0]
        logits[i, near, class_ids[owner[near]]] = 10 * (iou[near] - 0.55) + normal(len(near))
        for _ in range(3):
            wrong = torch.randint(0, task.num_classes, near.shape, generator=generator)
            logits[i, near, wrong] = 10 * (iou[near] - 0.75) + normal(len(near))
        codes[i, near] = encode(boxes[owner[near]], anchors[near]) + 0.1 * normal(len(near), 4)
    return Outputs(class_logits=logits.to(device), box_codes=codes.to(device), feature_sizes=sizes)


@torch.no_grad()
def enliven(model: Any, views: Tensor, score_floor: float, *, candidates: int) -> None:
    """Spread the outputs of a fresh model, so that `candidates` of all views pass the floor.

    The head's BatchNorms stay as they are, which leaves its levels alike.
    """
    model.eval()
    for part in (model.backbone, model.pyramid):
        for norm in part.train().modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = None  # the plain mean of the batches seen: of one
    model(views)
    outputs = model.eval()(views)
    model.classes.predict.weight *= 1.5 / outputs.class_logits.std()
    model.boxes.predict.weight *= 0.2 / outputs.box_codes.std()
    logits = model(views).class_logits.flatten()
    floor = math.log(score_floor / (1 - score_floor))
    model.classes.predict.bias += floor - logits.topk(candidates).values[-1]
