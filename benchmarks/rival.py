"""torchvision's RetinaNet with our weights, anchors and thresholds: only the code differs.

Shared: backbone and pyramid (our modules, wrapped), anchors, the convolutions of the head, pixel
normalisation, thresholds, top 1000 a level. Its own: preparing images, the head's layout, anchor
generation, matching, losses, post-processing. Its resizing is switched off, since images come in
the right size; its head gets BatchNorm, as ours has. Its losses keep their own constants.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from ray_st.models.retinanet import ANCHORS_PER_LOCATION, Outputs, RetinaNet
from ray_st.tasks.anchors import pyramid_anchors, strides_of
from ray_st.tasks.detection import Detection


class _Pyramid(nn.Module):
    """Our backbone and pyramid, as torchvision wants them."""

    def __init__(self, model: RetinaNet, channels: int) -> None:
        super().__init__()
        self.backbone, self.fpn, self.out_channels = model.backbone, model.pyramid, channels

    def forward(self, pixels: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.fpn(self.backbone(pixels))
        return OrderedDict((str(i), x) for i, x in enumerate(maps))


class _Unresized(GeneralizedRCNNTransform):
    """Normalises and batches only."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


def rival_of(model: RetinaNet, channels: int, task: Detection) -> TorchvisionRetinaNet:
    """The rival of a model whose head has four convolutions and fresh BatchNorm in it."""
    head = RetinaNetHead(
        channels, ANCHORS_PER_LOCATION, task.num_classes, norm_layer=nn.BatchNorm2d
    )
    _copy(model.classes, head.classification_head.conv, head.classification_head.cls_logits)
    _copy(model.boxes, head.regression_head.conv, head.regression_head.bbox_reg)
    rival = TorchvisionRetinaNet(
        _Pyramid(model, channels),
        task.num_classes,
        anchor_generator=_anchors(task),
        head=head,
        score_thresh=task.detect.score_floor,
        nms_thresh=task.detect.nms_iou,
        detections_per_img=task.detect.max_detections,
        topk_candidates=task.detect.max_candidates,
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
    )
    transform = rival.transform
    rival.transform = _Unresized(1, 1, transform.image_mean, transform.image_std)
    return rival


def _copy(tower: Any, convs: nn.Sequential, predict: nn.Conv2d) -> None:
    with torch.no_grad():
        for ours, theirs in zip(tower.convs, convs, strict=True):
            theirs[0].weight.copy_(ours.weight)
        predict.weight.copy_(tower.predict.weight)
        predict.bias.copy_(tower.predict.bias)


def _anchors(task: Detection) -> AnchorGenerator:
    """Its generator with our nine shapes: not rounded, about the middle of a cell."""
    strides = strides_of(task.levels)
    sizes = tuple((s, s, s) for s in strides)  # only their number counts
    generator = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(strides))
    one = ((1, 1),)
    generator.cell_anchors = [
        pyramid_anchors(one, (stride,), task.anchor_scale, torch.device("cpu"))
        for stride in strides
    ]
    return generator


def post_process(
    rival: TorchvisionRetinaNet, outputs: Outputs, anchors: Tensor, size_hw: tuple[int, int]
) -> list[dict[str, Tensor]]:
    """Its boxes for outputs of ours."""
    counts = [ANCHORS_PER_LOCATION * h * w for h, w in outputs.feature_sizes]
    heads = {
        "cls_logits": list(outputs.class_logits.split(counts, dim=1)),
        "bbox_regression": list(outputs.box_codes.split(counts, dim=1)),
    }
    num_images = len(outputs.class_logits)
    found: list[dict[str, Tensor]] = rival.postprocess_detections(
        heads, [list(anchors.split(counts))] * num_images, [size_hw] * num_images
    )
    return found


def loss(
    rival: TorchvisionRetinaNet,
    outputs: Outputs,
    anchors: Tensor,
    targets: list[dict[str, Tensor]],
) -> Tensor:
    """Its loss of outputs of ours."""
    heads = {"cls_logits": outputs.class_logits, "bbox_regression": outputs.box_codes}
    losses = rival.compute_loss(targets, heads, [anchors] * len(targets))
    return losses["classification"] + losses["bbox_regression"]
