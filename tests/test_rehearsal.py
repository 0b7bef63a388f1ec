"""What a model would refuse in the workers is refused before they start."""

from dataclasses import replace

import pytest
import torch
from tiny import MODEL

from ray_st.config import UserError
from ray_st.models import ModelConfig, build
from ray_st.training.rehearsal import rehearse
from ray_st.training.schedule import TrainConfig

pytestmark = pytest.mark.pure
torch.set_num_threads(1)


def refusal(model, train=None, *, task="detection", has_pseudo=False):
    with pytest.raises(UserError) as caught:
        rehearse(model, task, 2, train or TrainConfig(), has_pseudo=has_pseudo)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["swin_tiny_patch4_window7_224", "coatnet_nano_rw_224", "efficientformer_l1"]
)
def test_a_backbone_of_another_size(name):
    model = ModelConfig(backbone=name, channels=16, head_convs=1, image_size_px=256)
    said = refusal(model)
    assert said.startswith(
        f"model.backbone: must take views of model.image_size_px 256, got {name!r} ("
    )
    assert said.endswith("; set model.image_size_px to 224 or choose another backbone")
    rehearse(replace(model, image_size_px=224), "detection", 2, TrainConfig(), has_pseudo=False)


SMALL = replace(MODEL, backbone="resnet10t")  # stride 32 at 64 px: 2 x 2


def fails_on_one_image(model, task):
    """What the rehearsal foretells, with numbers."""
    pixels = torch.zeros(1, 3, model.image_size_px, model.image_size_px, dtype=torch.uint8)
    try:
        build(model, task, 2).train()(pixels)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ("task", "levels", "fails"),
    [
        ("detection", (3, 6), True),  # 1 x 1 at level 6
        ("detection", (3, 5), False),
        ("segmentation", (3, 6), True),
        ("segmentation", (2, 5), False),
        ("classification", (3, 5), False),
        ("simclr", (3, 5), True),  # a row an image is all that the projection normalises
    ],
)
def test_one_image_a_worker(task, levels, fails):
    model = replace(SMALL, levels=levels)
    assert fails_on_one_image(model, task) == fails
    gang = TrainConfig(batch_size=2, num_workers=2)
    for train in (gang, TrainConfig(batch_size=1), TrainConfig(batch_size=1, num_workers=0)):
        rehearse(model, task, 2, train, has_pseudo=True)  # with a pseudo image it is two
        if not fails:
            rehearse(model, task, 2, train, has_pseudo=False)
            continue
        assert refusal(model, train, task=task) == (
            f"train.batch_size: must give each of {max(1, train.num_workers)} training workers 2 "
            "images or more, for BatchNorm sees one value a channel here, got "
            f"{train.batch_size}; raise it or model.image_size_px"
        )
    rehearse(model, task, 2, replace(gang, batch_size=4), has_pseudo=False)
    joined = replace(gang, use_gpu=True, sync_batchnorm=True)  # one BatchNorm over both
    rehearse(model, task, 2, joined, has_pseudo=False)


def test_weights_without_gradient_are_for_one_worker():
    model = replace(SMALL, backbone="hrnet_w18_small", levels=(3, 5))
    alone, gang = TrainConfig(batch_size=4), TrainConfig(batch_size=4, num_workers=2)
    rehearse(model, "detection", 2, alone, has_pseudo=False)
    real = build(model, "detection", 2).train()
    outputs = real(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    (outputs.class_logits.sum() + outputs.box_codes.sum()).backward()
    idle = [name for name, one in real.named_parameters() if one.grad is None]
    said = refusal(model, gang)
    assert said.startswith("model.backbone: must use all its weights with train.num_workers 2, got")
    assert f"with {len(idle)} tensors that get no gradient" in said
    assert idle[0].removeprefix("backbone.network.model.") in said


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (ModelConfig(backbone="spinenet49s", pyramid="none", channels=16), "detection"),
        (ModelConfig(pyramid="nasfpn", channels=16), "segmentation"),
        (ModelConfig(drop_path=0.2, backbone="convnext_atto"), "classification"),
        (ModelConfig(), "simclr"),
    ],
)
def test_what_can_be_trained_by_several_workers_is_let_through(model, task):
    rehearse(model, task, 2, TrainConfig(num_workers=4), has_pseudo=False)


def test_parts_of_one_image():
    model = replace(SMALL, levels=(3, 6))
    gang = TrainConfig(batch_size=4, num_workers=2, accumulate=2)
    assert refusal(model, gang) == (
        "train.batch_size: must give each of 2 training workers 2 images or more in each of 2 "
        "parts, for BatchNorm sees one value a channel here, got 4; raise it or model.image_size_px"
    )
    rehearse(model, "detection", 2, gang, has_pseudo=True)
    rehearse(model, "detection", 2, replace(gang, accumulate=1), has_pseudo=False)
    rehearse(model, "detection", 2, replace(gang, batch_size=8), has_pseudo=False)


def test_a_loss_that_compares_all_images_has_no_parts():
    train = TrainConfig(accumulate=4)
    assert refusal(MODEL, train, task="simclr", has_pseudo=True) == (
        "train.accumulate: must be 1 for SimCLR, whose loss compares each image with all others of "
        "its step, got 4; raise train.num_workers for larger batches"
    )
    for task in ("detection", "segmentation", "classification"):
        rehearse(MODEL, task, 2, train, has_pseudo=True)


def test_what_is_frozen_needs_no_gradient():
    model = replace(SMALL, backbone="hrnet_w18_small", levels=(3, 5))
    gang = TrainConfig(batch_size=4, num_workers=2, freeze=("backbone.*",))
    rehearse(model, "detection", 2, gang, has_pseudo=False)  # its idle weights are frozen
