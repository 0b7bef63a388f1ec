"""The smallest detector that is one, and a batch for it."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from ray_st.data.batches import Batch, collate, paired, with_joint
from ray_st.data.labels import ClassLabel, Detections, Origin
from ray_st.models import ModelConfig, build
from ray_st.models.saved import ModelCard, save_model
from ray_st.tasks import make_task
from ray_st.tasks.joint import JointObjective, joint_objective
from ray_st.tasks.task import Task
from ray_st.training.freezing import freeze
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import TrainState
from ray_st.training.trainable import with_joint_classes

MODEL = ModelConfig(
    backbone="test_resnet", image_size_px=64, levels=(3, 4), channels=16, head_convs=1
)
CLASSES = ("cat", "dog")
JOINT_CLASSES = 3  # of joint training


def tiny_model(*, seed: int = 0, num_classes: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    model = build(MODEL, "detection", num_classes)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def tiny_task() -> Task:
    return make_task("detection", MODEL, len(CLASSES))


def joint_task() -> Task | JointObjective:
    """The task, with the classes of joint training beside it."""
    return joint_objective(tiny_task(), JOINT_CLASSES)


def tiny_card(classes: tuple[str, ...] = CLASSES) -> ModelCard:
    return ModelCard(task="detection", classes=classes, model=MODEL, preprocessing={})


def save_tiny(folder: Path, *, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> str:
    """A model folder, as `ray-st train` leaves one."""
    save_model(folder, tiny_model(seed=seed, num_classes=len(classes)), tiny_card(classes))
    return str(folder)


def tiny_state(config: TrainConfig, *, seed: int = 0, model: nn.Module | None = None) -> TrainState:
    model = (tiny_model(seed=seed) if model is None else model).train()
    freeze(model, config.freeze)
    model = with_joint_classes(model, JOINT_CLASSES if config.joint.is_on else 0)
    return TrainState.fresh(model, config, "cpu")


def tiny_batch(seed: int = 0, *, num_human: int = 2, num_pseudo: int = 2) -> Batch:
    """Bright squares on noise; the last image of each half has no box."""
    rng = np.random.default_rng(seed)

    def half(count: int, origin: Origin) -> Batch:
        pixels = rng.integers(0, 90, (count, 64, 64, 3), np.uint8)
        labels = []
        for i in range(count):
            boxes = []
            for _ in range(0 if i == count - 1 and count > 1 else 2):
                left, top = rng.integers(0, 40, 2)
                pixels[i, top : top + 20, left : left + 20] = 220
                boxes.append([left, top, left + 20, top + 20])
            labels.append(Detections.of(boxes, [0] * len(boxes)))
        return collate(
            pixels,
            labels,
            origin=origin,
            is_valid=np.ones(count, bool),
            image_ids=np.arange(count),
        )

    return paired(half(num_human, Origin.HUMAN), half(num_pseudo, Origin.PSEUDO))


def joint_batch(seed: int = 0, *, num_joint: int = 4, side_px: int = 48, **halves: int) -> Batch:
    """The same, and images of another size that are red, green or blue; the last is unreadable."""
    rng = np.random.default_rng([seed, 1])
    class_ids = rng.integers(0, JOINT_CLASSES, num_joint)
    pixels = rng.integers(0, 90, (num_joint, side_px, side_px, 3), np.uint8)
    pixels[np.arange(num_joint), ..., class_ids] += 120
    joint = collate(
        pixels,
        [ClassLabel.of([i]) for i in class_ids.tolist()],
        origin=Origin.JOINT,
        is_valid=np.arange(num_joint) < num_joint - 1,
        image_ids=np.arange(num_joint),
    )
    return with_joint(tiny_batch(seed, **halves), joint)
