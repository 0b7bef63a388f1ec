"""Models: raw pixels in, outputs of one task out. This file: which model, and how to build it.

In: a `ModelConfig` and the number of classes. Out: an `nn.Module`. Only `build` loads the parts,
so that reading a config does not load timm. Next: `backbone.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ray_st.config import UserError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network of a teacher or a student."""

    backbone: str = "resnet18"
    """Any timm model that gives feature maps; see timm.list_models()."""

    image_size_px: int = 256
    """Side of the square view that the model sees, in pixels."""

    levels: tuple[int, int] = (3, 7)
    """Finest and coarsest pyramid level; level l has stride 2**l."""

    channels: int = 128
    """Width of the pyramid and of the head (the paper: 256)."""

    head_convs: int = 4
    """3x3 convolutions in each tower of the head, before the predicting one."""

    anchor_scale: float = 4.0
    """Side of the smallest anchor of a level, in strides of that level."""

    def __post_init__(self) -> None:
        finest, coarsest = self.levels
        _require(
            2 <= finest <= 5 and finest <= coarsest <= 8,
            f"model.levels: finest is 2..5 and coarsest from finest to 8, got {self.levels}; "
            "the paper uses (3, 7)",
        )
        _require(
            self.image_size_px >= 2**coarsest,
            f"model.image_size_px: at least the coarsest stride {2**coarsest}, got "
            f"{self.image_size_px}; raise it or lower model.levels",
        )
        _require(
            self.channels >= 1,
            f"model.channels: at least 1, got {self.channels}; the paper uses 256",
        )
        _require(
            self.head_convs >= 0,
            f"model.head_convs: at least 0, got {self.head_convs}; the paper uses 4",
        )
        _require(
            self.anchor_scale > 0,
            f"model.anchor_scale: above 0, got {self.anchor_scale}; the paper uses 4",
        )


def build(config: ModelConfig, num_classes: int) -> nn.Module:
    """Build a detector with random weights: uint8 (b, 3, h, w) -> `retinanet.Outputs`.

    Raises `UserError` for a backbone that timm does not have or that lacks a needed stride.
    """
    from ray_st.models.retinanet import RetinaNet

    return RetinaNet(
        backbone=config.backbone,
        num_classes=num_classes,
        levels=config.levels,
        channels=config.channels,
        head_convs=config.head_convs,
    )


def _require(holds: bool, message: str) -> None:  # noqa: FBT001
    if not holds:
        raise UserError(message)


__all__ = ["ModelConfig", "build"]
