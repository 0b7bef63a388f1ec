"""The backbone: normalised pixels in, one feature map a tapped level out, fine to coarse.

Any timm model that gives feature maps, with random weights; `initialise.py` brings others.
Next: `fpn.py`.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import timm
from jaxtyping import Float
from timm.layers import DropPath
from torch import Tensor, nn

from ray_st.config import UserError
from ray_st.models import tf_mobilenet  # noqa: F401 - adds a name to timm's
from ray_st.models.spinenet import SIZES

COARSEST_TAP = 5  # ImageNet networks end at stride 32; the pyramid makes the coarser levels


def check_backbone(name: str) -> None:
    """Raise `UserError` with the nearest right names when timm has no such model."""
    if timm.is_model(name):
        return
    nearest = get_close_matches(name, [*timm.list_models(), *SIZES], n=3)
    known = f"see timm.list_models(), or one of {', '.join(SIZES)}"
    advice = f"did you mean {' or '.join(nearest)}?" if nearest else known
    raise UserError(f"model.backbone: must be a timm model, got {name!r}; {advice}")


class Backbone(nn.Module):
    """Feature maps of levels finest..min(coarsest, 5), cut off after the last one used."""

    def __init__(self, name: str, levels: tuple[int, int], drop_path: float = 0.0) -> None:
        super().__init__()
        check_backbone(name)
        finest, coarsest = levels
        tapped = range(finest, min(COARSEST_TAP, coarsest) + 1)
        chosen = {"drop_path_rate": drop_path} if drop_path > 0 else {}
        self.network = _features(name, out_indices=_tap_indices(name, tapped), **chosen)
        self.channels: list[int] = self.network.feature_info.channels()

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return maps of shape (b, channels[i], h / stride, w / stride), rounded as timm rounds."""
        maps: list[Tensor] = self.network(pixels)
        return maps


def _features(name: str, **chosen: Any) -> Any:
    # The "getter" drops every block after the last tap for all of timm's families. The default
    # keeps some in EfficientNets and MobileNets: wasted time, and parameters without gradient,
    # which DistributedDataParallel refuses.
    try:
        network = timm.create_model(
            name, features_only=True, pretrained=False, feature_cls="getter", **chosen
        )
    except (RuntimeError, AttributeError, AssertionError, TypeError) as error:
        says = _no_drop_path if "drop_path_rate" in str(error) else _no_features
        raise UserError(says(name)) from error
    if not hasattr(network.model, "forward_intermediates"):
        raise UserError(_no_features(name))
    if "drop_path_rate" in chosen and not any(_drops(each) for each in network.modules()):
        raise UserError(_no_drop_path(name))  # it took the rate, and let it fall
    return network


def _drops(module: nn.Module) -> bool:
    return isinstance(module, DropPath) and (module.drop_prob or 0.0) > 0


def _no_drop_path(name: str) -> str:
    return (
        f"model.drop_path: must be 0 with {name!r}, which has no stochastic depth; "
        "choose another backbone"
    )


def _no_features(name: str) -> str:
    return (
        f"model.backbone: must be a timm model with feature maps, got {name!r}; "
        "try resnet18 or efficientnet_b0"
    )


def _tap_indices(name: str, levels: range) -> tuple[int, ...]:
    info = _features(name).feature_info
    # Where several maps share a stride (plain transformers), the last and richest one stands.
    index_of_stride = dict(zip(info.reduction(), info.out_indices, strict=True))
    missing = [2**level for level in levels if 2**level not in index_of_stride]
    if missing:
        raise UserError(
            f"model.backbone: {name!r} must have features of stride {missing}, it has "
            f"{sorted(index_of_stride)}; choose another backbone or other model.levels"
        )
    return tuple(index_of_stride[2**level] for level in levels)
