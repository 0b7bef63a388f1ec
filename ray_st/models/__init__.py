"""Models: raw pixels in, outputs of one task out. This file: which model, and how to build it.

In: a `ModelConfig`, a task and the number of classes. Out: an `nn.Module`. Only `build` loads timm,
so that reading a config is fast. Next: `layers.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from ray_st.config import require
from ray_st.data.placed import SIDES_PX


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network of a teacher or a student."""

    backbone: str = "resnet18"
    """Any timm model that gives feature maps; or spinenet49s, 49, 96, 143 or 190."""

    image_size_px: int = 256
    """Side of the square view that the model sees, in pixels."""

    levels: tuple[int, int] = (3, 7)
    """Finest and coarsest pyramid level; level l has stride 2**l."""

    pyramid: Literal["fpn", "nasfpn", "none"] = "fpn"
    """What merges the levels; none: the backbone's own pyramid, which only SpineNet has."""

    pyramid_repeats: int = 7
    """Cells of a NAS-FPN."""

    separable: bool = False
    """NAS-FPN of depthwise and pointwise convolutions, as in the paper's segmentation."""

    channels: int = 128
    """Width of the pyramid (of SpineNet's maps) and of the head (the paper: 256)."""

    head_channels: int | None = None
    """Width of the head's convolutions; null: as `channels`."""

    head_convs: int = 4
    """3x3 convolutions in each tower of the head, before the predicting one."""

    anchor_scale: float = 4.0
    """Side of the smallest anchor of a level, in strides of that level."""

    activation: Literal["relu", "swish"] = "relu"
    """Of pyramid, head and SpineNet; a timm backbone keeps its own."""

    drop_path: float = 0.0
    """Stochastic depth: how often an image skips the backbone's last block; less before it."""

    norm_eps: float | None = None
    """Epsilon of every BatchNorm outside a timm backbone; null: PyTorch's 1e-5."""

    norm_momentum: float | None = None
    """Share of each new batch in every BatchNorm's averages (the paper: 0.003); null: as built."""

    def __post_init__(self) -> None:
        self._check_levels()
        self._check_pyramid()
        for name, least, paper in (("channels", 1, 256), ("head_convs", 0, 4)):
            value = getattr(self, name)
            require(value >= least, f"model.{name}", f"at least {least}", value, f"paper: {paper}")
        width, scale = self.head_channels, self.anchor_scale
        require(width is None or width >= 1, "model.head_channels", "null or at least 1", width)
        require(scale > 0, "model.anchor_scale", "above 0", scale, "the paper uses 4")
        require(0 <= self.drop_path < 1, "model.drop_path", "0 or more, below 1", self.drop_path)
        eps, momentum = self.norm_eps, self.norm_momentum
        require(eps is None or eps > 0, "model.norm_eps", "null or above 0", eps)
        require(
            momentum is None or 0 < momentum <= 1,
            "model.norm_momentum",
            "null or above 0 and at most 1",
            momentum,
            "what TensorFlow calls 0.997 is 0.003 here",
        )

    def _check_levels(self) -> None:
        (finest, coarsest), size_px = self.levels, self.image_size_px
        require(
            2 <= finest <= 5 and finest <= coarsest <= 8,
            "model.levels",
            "a finest of 2..5, then a coarsest of up to 8",
            self.levels,
            "the paper uses (3, 7)",
        )
        require(
            size_px >= 2**coarsest,
            "model.image_size_px",
            f"at least the coarsest stride {2**coarsest}",
            size_px,
            "raise it or lower model.levels",
        )
        _, most_px = SIDES_PX
        require(size_px <= most_px, "model.image_size_px", f"at most {most_px}", size_px)

    def _check_pyramid(self) -> None:
        from ray_st.models.spinenet import OUTPUTS, SIZES

        own, searched = self.backbone in SIZES, self.pyramid == "nasfpn"
        if self.pyramid == "none" and not own:  # a misspelt SpineNet, or one that needs a pyramid
            from ray_st.models.backbone import check_backbone

            check_backbone(self.backbone)
        kinds, has = ("none",) if own else ("fpn", "nasfpn"), f"with backbone {self.backbone}"
        require(self.pyramid in kinds, "model.pyramid", f"{' or '.join(kinds)} {has}", self.pyramid)
        (finest, coarsest), whole = self.levels, (min(OUTPUTS), max(OUTPUTS))
        require(not own or self.levels == whole, "model.levels", f"{whole} {has}", self.levels)
        require(
            not searched or coarsest - finest == 4,
            "model.levels",
            "five levels with pyramid nasfpn",
            self.levels,
            "the paper uses (3, 7)",
        )
        for name in ("separable", "pyramid_repeats"):
            value, default = getattr(self, name), getattr(type(self), name)
            rule = f"left at {default} with pyramid {self.pyramid}"
            move = "set model.pyramid to nasfpn"
            require(searched or value == default, f"model.{name}", rule, value, move)
        repeats = self.pyramid_repeats
        require(repeats >= 1, "model.pyramid_repeats", "at least 1", repeats, "the paper uses 7")


def build(config: ModelConfig, task: str, num_classes: int) -> nn.Module:
    """Build a model with random weights: uint8 (b, 3, h, w) -> the outputs of its task.

    detection -> `retinanet.Outputs`; segmentation -> float32 logits (b, k, ceil(h/4), ceil(w/4));
    classification -> float32 logits (b, k), of the backbone alone; simclr -> the same with as many
    numbers of a projection. Raises `UserError` for a backbone that timm does not have, or that
    lacks a needed stride or stochastic depth.
    """
    from ray_st.models.classifier import Classifier
    from ray_st.models.projector import Projector
    from ray_st.models.retinanet import RetinaNet
    from ray_st.models.segmenter import Segmenter

    builders = {
        "detection": RetinaNet,
        "segmentation": Segmenter,
        "classification": Classifier,
        "simclr": Projector,
    }
    require(task in builders, "task", f"one of {list(builders)}", task)
    model: nn.Module = builders[task](config, num_classes)
    _set_norms(model, config)
    return model


def _set_norms(model: nn.Module, config: ModelConfig) -> None:
    from ray_st.models.backbone import Backbone

    foreign = {
        inner for each in model.modules() if isinstance(each, Backbone) for inner in each.modules()
    }
    for module in model.modules():
        if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            continue
        if config.norm_momentum is not None:
            module.momentum = config.norm_momentum
        if config.norm_eps is not None and module not in foreign:
            module.eps = config.norm_eps


__all__ = ["ModelConfig", "build"]
