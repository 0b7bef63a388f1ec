"""The pool that chaos strikes: small, in two shards, one image unreadable; and its teacher."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ray_st.data.labels import Detections
from ray_st.data.manifest.indexing import index_images
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.models import ModelConfig, build
from ray_st.models.saved import ModelCard, save_model

IMAGES, SHARD_IMAGES, FILE_IMAGES = 60, 32, 4
CLASSES = ("0", "1", "2")
# Larger than its images, so that labelling takes long enough to be interrupted.
MODEL = ModelConfig(
    backbone="test_resnet", image_size_px=256, levels=(3, 4), channels=16, head_convs=1
)


def write_pool(folder: Path) -> None:
    config = DigitsConfig(
        labeled_scenes=1, val_scenes=1, pool_scenes=IMAGES - 1, labeled_digits=30, scene_px=64,
        digits_per_scene=(1, 3), digit_px=(18, 28), classes=(0, 1, 2),
    )  # fmt: skip
    write_world(folder, config, Detections)
    (folder / "images" / "pool" / "broken.jpg").write_bytes(b"no image")
    index_images(
        str(folder / "images" / "pool"), str(folder / "index"), column=None,
        shard_rows=SHARD_IMAGES, file_rows=20, threads=2, dry_run=False, seen=lambda _: None,
    )  # fmt: skip


def write_teacher(folder: Path) -> None:
    """A fresh detector that sees something in every image."""
    torch.manual_seed(0)
    model = build(MODEL, "detection", len(CLASSES))
    nn.init.zeros_(model.classes.predict.bias)  # type: ignore[union-attr, arg-type]
    card = ModelCard(task="detection", classes=CLASSES, model=MODEL, preprocessing={})
    save_model(folder, model, card)
