"""A name that timm lacks: MobileNetV2 as TensorFlow pads it.

Importing this file adds `tf_mobilenetv2_100` to timm's names, beside timm's other `tf_` models: a
3x3 convolution of stride 2 pads right and bottom where the side is even. Weights that were learned
so lose accuracy under even padding, and expect pixels from -1 to 1. BatchNorm's epsilon is
PyTorch's, as files with torchvision's names have it. Next: `backbone.py`.
"""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.efficientnet import mobilenetv2_100
from torch import nn

NAME = "tf_mobilenetv2_100"
_HALF = (0.5, 0.5, 0.5)
# Found by timm under this name. There is no file to fetch: these weights come from a file only.
default_cfgs = generate_default_cfgs(
    {
        f"{NAME}.untrained": {
            "mean": _HALF,
            "std": _HALF,
            "first_conv": "conv_stem",
            "classifier": "classifier",
        }
    }
)


@register_model  # type: ignore[untyped-decorator]
def tf_mobilenetv2_100(pretrained: bool = False, **settings: Any) -> nn.Module:  # noqa: FBT001, FBT002
    """Build MobileNetV2 of width 1 with TensorFlow's padding."""
    model: nn.Module = mobilenetv2_100(pretrained, pad_type="same", **settings)
    return model
