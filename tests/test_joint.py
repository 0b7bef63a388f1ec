"""Joint training: classes of other images, learned on the backbone of a task."""

from dataclasses import replace

import pytest
import torch
from test_accumulation import balance_of, gradients, model_of
from test_rehearsal import refusal
from tiny import (
    JOINT_CLASSES,
    MODEL,
    joint_batch,
    joint_task,
    tiny_batch,
    tiny_state,
    tiny_task,
)

from ray_st.config import UserError
from ray_st.data.batches import in_parts, without_joint
from ray_st.data.labels import ClassLabel, Origin
from ray_st.models import build
from ray_st.models.joint import JointModel
from ray_st.models.spinenet import SIZES
from ray_st.selftraining.pretraining import Pairing
from ray_st.training.gradient import gradient, outputs_of
from ray_st.training.joint import JointConfig
from ray_st.training.loss_balance import LossBalance, balanced_loss
from ray_st.training.rehearsal import rehearse
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import train_step
from ray_st.verbs.pretrain import PretrainVerb

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

ON = JointConfig(images="classes:some", weight=2.0)
CONFIG = TrainConfig(batch_size=4, alpha=3.0, warmup_steps=0, lr=0.02, joint=ON)


# The model


def test_the_task_sees_and_remembers_its_own_images_alone():
    alone, model = model_of("detection", resting=False), model_of("joint", resting=False)
    batch = joint_batch()
    found, classes = outputs_of(model, batch, CONFIG)
    expected = alone(batch.pixels)
    assert found.class_logits.equal(expected.class_logits)
    assert found.box_codes.equal(expected.box_codes)
    assert classes.shape == (4, JOINT_CLASSES)
    for name, value in alone.state_dict().items():
        if "running" in name:
            assert model.model.state_dict()[name].equal(value), name
    momenta = {each.momentum for each in model.modules() if hasattr(each, "momentum")}
    assert momenta == {0.1}  # as they were built


def test_classified_images_are_normalised_by_themselves():
    """What they show is told apart from how bright they are: not so by the task's statistics."""
    model = model_of("joint", resting=False)
    batch = joint_batch()
    assert batch.joint_pixels is not None
    _, classes = outputs_of(model, batch, CONFIG)
    _, others = outputs_of(model, replace(batch, pixels=255 - batch.pixels), CONFIG)
    assert classes.equal(others)


@pytest.mark.parametrize(
    ("backbone", "levels", "width"),
    [("test_resnet", (3, 4), None), ("resnet10t", (3, 7), 512), ("spinenet49s", (3, 7), 16)],
)
def test_every_backbone_gives_what_is_classified(backbone, levels, width):
    config = replace(
        MODEL,
        backbone=backbone,
        levels=levels,
        image_size_px=128,
        pyramid="none" if backbone in SIZES else "fpn",
    )
    with torch.device("meta"):
        model = JointModel(build(config, "detection", 2), 5).train()
        outputs, classes = model(
            torch.empty(2, 3, 128, 128, dtype=torch.uint8),
            torch.empty(3, 3, 160, 160, dtype=torch.uint8),
        )
    assert outputs.class_logits.shape[0] == 2
    assert classes.shape == (3, 5)
    if width is not None:
        assert model.classes.in_features == width


# The loss


def test_the_loss_is_that_of_three_streams():
    model, batch = model_of("joint"), joint_batch(num_human=2, num_pseudo=2)
    before = balance_of(CONFIG, joint=2.0).updated(
        torch.tensor([6.0, 2.0, 3.0]), torch.ones(3).bool()
    )
    balance = replace(before, decay=1.0)  # the averages stay: 6, 2 and 3
    loss = gradient(model, batch, joint_task(), balance, CONFIG).loss
    human, pseudo, joint = loss.losses.tolist()
    expected = (human + 3 * (6 / 2) * pseudo + 2 * (6 / 3) * joint) / (1 + 3 + 2)
    assert loss.total.item() == pytest.approx(expected, rel=1e-6)


def test_the_joint_loss_is_the_mean_over_images_that_can_be_read():
    model, batch = model_of("joint"), joint_batch()
    loss = gradient(model, batch, joint_task(), balance_of(CONFIG, joint=1.0), CONFIG).loss
    _, classes = outputs_of(model, batch, CONFIG)
    targets = torch.tensor([int(one.top_class_ids[0]) for one in batch.labels[4:]])
    expected = torch.nn.functional.cross_entropy(classes[:3], targets[:3])
    assert loss.losses[Origin.JOINT].item() == pytest.approx(expected.item(), rel=1e-5)
    own = without_joint(batch)
    alone = gradient(model_of("detection"), own, tiny_task(), balance_of(CONFIG), CONFIG)
    both = gradient(model_of("joint"), batch, joint_task(), balance_of(CONFIG, joint=1.0), CONFIG)
    assert both.loss.losses[:2].equal(alone.loss.losses)
    assert both.parts == alone.parts


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_scale_of_the_joint_loss_cancels(factor):
    batch, task = joint_batch(), joint_task()
    model = model_of("joint")
    sums = task.loss_sums(
        outputs_of(model, batch, CONFIG), task.targets(batch.labels, (64, 64), torch.device("cpu"))
    )
    is_joint = batch.origins == Origin.JOINT
    scaled = replace(sums, sums=torch.where(is_joint, factor * sums.sums, sums.sums))
    totals = [
        balanced_loss(each, batch.origins, batch.is_valid, balance_of(CONFIG, joint=2.0)).total
        for each in (sums, scaled)
    ]
    torch.testing.assert_close(totals[0], totals[1], rtol=1e-5, atol=0)


def test_weight_zero_teaches_what_no_joint_training_does():
    model, alone = model_of("joint"), model_of("detection")
    gradient(model, joint_batch(), joint_task(), balance_of(CONFIG, joint=0.0), CONFIG)
    gradient(alone, tiny_batch(), tiny_task(), balance_of(CONFIG), CONFIG)
    wanted = gradients(alone)
    for name, found in gradients(model.model).items():
        torch.testing.assert_close(found, wanted[name], rtol=1e-5, atol=1e-8)
    assert all(not each.any() for each in gradients(model.classes).values())


def test_plain_adds_it_as_it_is():
    plain = replace(CONFIG, loss="plain")
    loss = gradient(
        model_of("joint"), joint_batch(), joint_task(), balance_of(plain, joint=2.0), plain
    ).loss
    human, pseudo, joint = loss.losses.tolist()
    assert loss.total.item() == pytest.approx(human + 3 * pseudo + 2 * joint, rel=1e-6)


def test_both_learn():
    state, rows = tiny_state(CONFIG), []
    for step in range(40):
        batch = joint_batch(step, num_joint=8)
        rows.append(train_step(state, batch, joint_task(), CONFIG).as_row())
    first, last = ([row["loss_joint"] for row in some] for some in (rows[:5], rows[-5:]))
    assert sum(last) < 0.5 * sum(first)
    human = [row["loss_human"] for row in rows]
    assert sum(human[-5:]) < sum(human[:5])
    assert {"loss_joint", "mean_joint"} < rows[0].keys()
    assert rows[0]["pseudo_empty_share"] == 0.5  # of the pseudo images, not of all
    alone = train_step(tiny_state(TrainConfig()), tiny_batch(), tiny_task(), TrainConfig())
    assert "loss_joint" not in alone.as_row()


# The batch


def test_a_part_has_its_share_of_the_classified_images():
    batch = joint_batch(num_human=4, num_pseudo=2, num_joint=6)
    parts = in_parts(batch, 2)
    assert [part.origins.tolist() for part in parts] == [[0, 0, 1, 2, 2, 2]] * 2
    assert [len(part.pixels) for part in parts] == [3, 3]
    together = torch.cat([part.joint_pixels for part in parts])
    assert together.equal(batch.joint_pixels)
    assert all(isinstance(one, ClassLabel) for part in parts for one in part.labels[3:])


# What is refused


def test_where_there_is_nothing_to_join():
    train = TrainConfig(joint=ON)
    assert refusal(MODEL, train, task="classification") == (
        "train.joint.images: must be null for classification, which learns classes itself, got "
        "'classes:some'"
    )
    rehearse(MODEL, "segmentation", 2, train, has_pseudo=True)
    with pytest.raises(UserError, match=r"^train\.joint\.images: must be null where there is no "):
        Pairing.of(PretrainVerb(images="some", train=train))


def test_views_that_the_backbone_does_not_take():
    model = replace(MODEL, backbone="swin_tiny_patch4_window7_224", image_size_px=224)
    joint = replace(ON, image_size_px=96)
    said = refusal(model, TrainConfig(joint=joint))
    assert said.startswith("train.joint.image_size_px: must be a size that 'swin_tiny_")
    assert said.endswith("; leave it out, which means 224")
    rehearse(model, "detection", 2, TrainConfig(joint=ON), has_pseudo=False)


def test_one_value_a_channel():
    model = replace(MODEL, backbone="resnet10t", levels=(3, 5), image_size_px=64)
    joint = replace(ON, batch_size=2, image_size_px=32)
    said = refusal(model, TrainConfig(num_workers=2, joint=joint))
    assert said.startswith("train.joint.batch_size: must give each training worker 2 images")
    rehearse(model, "detection", 2, TrainConfig(joint=joint), has_pseudo=False)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"batch_size": 4}, "train.joint.batch_size: must be left out without train.joint.images"),
        ({"image_size_px": 64}, "train.joint.image_size_px: must be left out without train.joint"),
        ({"weight": 0.5}, "train.joint.weight: must be left out without train.joint.images, got 0"),
        (
            {"images": "x", "image_size_px": 100_000},
            "train.joint.image_size_px: must be from 16 ",
        ),
        ({"images": "x", "image_size_px": 0}, "train.joint.image_size_px: must be from 16 to 8192"),
        ({"images": "x", "weight": -1}, "train.joint.weight: must be 0 or more, got -1"),
        ({"images": "x", "batch_size": 0}, "train.joint.batch_size: must be at least 1, got 0"),
    ],
)
def test_numbers_that_mean_nothing(fields, said):
    with pytest.raises(UserError) as caught:
        JointConfig(**fields)
    assert str(caught.value).startswith(said)


def test_each_worker_needs_an_image():
    with pytest.raises(UserError, match=r"^train\.joint\.batch_size: must be at least train\.num_"):
        TrainConfig(num_workers=4, joint=replace(ON, batch_size=2))
    with pytest.raises(
        UserError, match=r"^train\.joint\.images: must be null with train\.parallel"
    ):
        TrainConfig(parallel="fsdp", joint=ON)


def test_the_averages_of_three_are_saved_and_read():
    losses = torch.tensor([1.0, 2.0, 3.0])
    start = LossBalance.start(alpha=1.0, normalised=True, decay=0.5, joint=0.5)
    before = start.updated(losses, torch.ones(3).bool())
    after = start.resumed(before.state_dict())
    assert after.means.tolist() == [1.0, 2.0, 3.0]
    assert after.factors(torch.ones(3).bool()).tolist() == pytest.approx(
        [1 / 2.5, 0.5 / 2.5, (1 / 3) * 0.5 / 2.5]
    )
