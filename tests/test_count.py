"""Counting without memory, beside a count of a real forward."""

import pytest
import torch
from torch import nn

from ray_st.models import ModelConfig, build
from ray_st.models.count import count

pytestmark = pytest.mark.pure
torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("detection", {}),
        ("segmentation", {"pyramid": "nasfpn", "separable": True, "pyramid_repeats": 2}),
        ("classification", {"backbone": "spinenet49s", "pyramid": "none"}),
    ],
)
def test_it_counts_what_a_real_forward_computes(task, changes):
    """Depthwise convolutions and squeeze-excitation, of a small EfficientNet, included."""
    config = ModelConfig(
        **{"backbone": "tf_efficientnet_b0", "channels": 16, "image_size_px": 128, **changes}
    )
    model, multiply_adds = build(config, task, 5).eval(), 0

    def add(layer, _, output):
        nonlocal multiply_adds
        multiply_adds += output.numel() * layer.weight[0].numel()  # one weight each an output

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(add)
    with torch.no_grad():
        model(torch.zeros(1, 3, 128, 128, dtype=torch.uint8))
    found = count(config, task, 5)
    assert found.multiply_adds == multiply_adds > 0
    assert found.parameters == sum(p.numel() for p in model.parameters())


def test_it_leaves_the_default_device_as_it_was():
    count(ModelConfig(backbone="resnet10t", channels=8), "detection", 2)
    assert torch.empty(1).device.type == "cpu"
