"""The model and the images that the benchmarks share: the demo's, or larger ones."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ray_st.data.augment import AugmentConfig
from ray_st.data.labels import Detections
from ray_st.data.sources import LabeledSet, open_labeled
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.models import ModelConfig, build
from ray_st.models.saved import ModelCard, SavedModel, read_model, save_model
from ray_st.selftraining.learning import Learning, training_job
from ray_st.training.job import Job
from ray_st.training.schedule import TrainConfig

MODEL = ModelConfig(
    backbone="resnet10t", image_size_px=128, levels=(3, 5), channels=64, head_convs=2
)
AUGMENT = AugmentConfig()
TRAIN = TrainConfig(
    steps=60,
    batch_size=8,
    optimizer="adamw",
    lr=0.0005,
    cpus_per_worker=1,
    log_every=5,
    checkpoint_every=1000,
)


def scenes(folder: Path, count: int, scene_px: int = 320) -> LabeledSet:
    """Write `count` labelled scenes, of 320 px some 25 kB each."""
    config = DigitsConfig(
        labeled_scenes=count,
        val_scenes=1,
        pool_scenes=1,
        labeled_digits=300,
        scene_px=scene_px,
        digits_per_scene=(3, 8),
        digit_px=(scene_px // 10, scene_px // 4),
    )
    write_world(folder, config, Detections)
    return open_labeled(f"coco:{folder}/instances_train.json")


def random_model(classes: tuple[str, ...], config: ModelConfig = MODEL) -> SavedModel:
    """A detector with random weights, whose class bias makes some hundred candidates an image."""
    torch.manual_seed(0)
    model = build(config, "detection", len(classes))
    for name, parameter in model.named_parameters():
        if name.endswith("bias") and parameter.shape == (9 * len(classes),):
            torch.nn.init.constant_(parameter, -2.9)  # sigmoid: just above the floor of 0.05
    with tempfile.TemporaryDirectory() as folder:
        card = ModelCard(task="detection", classes=classes, model=config, preprocessing={})
        save_model(Path(folder), model, card)
        return read_model(folder, "teacher")


def joint_job(human: LabeledSet, pseudo: Any, train: TrainConfig) -> Job:
    """Training of that model on both, measured on a few images of the human ones at its end."""
    return training_job(
        Learning(task="detection", model=MODEL, augment=AUGMENT, train=train),
        human=human,
        val=replace(human, rows=human.rows.slice(0, 8)),
        pseudo=pseudo,
        init=None,
        recipe={},
    )
