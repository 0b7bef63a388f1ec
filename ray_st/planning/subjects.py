"""What is measured: the recipe's own images and teacher, or what stands in for them.

In: a verb's config. Out: `Subjects`. Next: `turns.py`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from ray_st.config import UserError
from ray_st.data.labels import Labels
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.sources import LabeledSet, open_labeled
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.data.views import fitted_views
from ray_st.labeling.images import open_pool
from ray_st.labeling.teacher import SavedTeacher, TeacherSource
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes
from ray_st.models import build
from ray_st.models.retinanet import RetinaNet
from ray_st.models.saved import ModelCard, read_model, save_model
from ray_st.selftraining.folder import require_one_model
from ray_st.selftraining.learning import Learning
from ray_st.selftraining.materials import open_joint, open_train

SAMPLE = 256  # images
_SCENES = 64
_CLASSES = {"detection": 80, "segmentation": 21, "classification": 1000}  # COCO, VOC, ImageNet
_CANDIDATES = 100  # boxes an image above the floor, of a teacher that has learned nothing


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """What is measured, and words for it."""

    pool: pa.Table  # IMAGE_ROWs
    human: LabeledSet
    joint: LabeledSet | None
    teacher: TeacherSource
    pool_words: str
    human_words: str


def subjects_of(config: Any, learning: Learning, scratch: Path) -> Subjects:
    """Open what the recipe names; scenes of digits, written to `scratch`, stand in for the rest."""
    data, kind, joint = config.data, learning.kind, learning.train.joint.images
    world: dict[str, LabeledSet] = {}

    def scenes() -> LabeledSet:
        if not world:
            world["scenes"] = _scenes(scratch, config.scene_px, kind, config.task)
        return world["scenes"]

    stand_in = f"{_SCENES} scenes of {config.scene_px} px in place of images that the recipe names"
    human = open_train(data, kind) if data.train else scenes()
    human_words = data.train or stand_in
    if data.unlabeled is not None:
        pool, words = _sample(data.unlabeled), data.unlabeled
    else:
        pool, words = _spread(human.rows.select(IMAGE_ROW.names)), human_words
    if config.teacher is None:
        teacher: TeacherSource = _untaught(learning, human.classes, pool)
        words = f"{words}, a teacher of random weights"
    else:
        require_one_model(config.teacher, "teacher")
        teacher = open_teacher(config.teacher, Wishes(detect=config.detect)).source
    return Subjects(
        pool=pool,
        human=human,
        joint=None if joint is None else open_joint(joint),
        teacher=teacher,
        pool_words=words,
        human_words=human_words,
    )


def _scenes(folder: Path, scene_px: int, kind: type[Labels], task: str) -> LabeledSet:
    config = DigitsConfig(
        labeled_scenes=_SCENES,
        val_scenes=10,
        pool_scenes=10,
        scene_px=scene_px,
        digits_per_scene=(3, 8),
        digit_px=(max(8, scene_px // 10), max(8, scene_px // 4)),
    )
    found = open_labeled(write_world(folder, config, kind).train)
    more = range(len(found.classes), _CLASSES[task])
    return replace(found, classes=(*found.classes, *(f"class {number}" for number in more)))


def _sample(uri: str) -> pa.Table:
    """Some images of a pool, spread over the first rows that it gives."""
    images = open_pool(uri)
    if images.num_rows == 0:
        raise UserError(f"data.unlabeled: {uri} lists no image; name a pool that has some")
    return _spread(next(images.shards[0].rows()))


def _spread(rows: pa.Table) -> pa.Table:
    count = min(SAMPLE, rows.num_rows)
    chosen = np.arange(count) * rows.num_rows // count
    return rows.take(pa.array(chosen)).cast(IMAGE_ROW)


def _untaught(learning: Learning, classes: Sequence[str], pool: pa.Table) -> SavedTeacher:
    """The recipe's model with random weights, as lively as one that has learned."""
    torch.manual_seed(0)
    model = build(learning.model, learning.task, len(classes)).eval()
    if isinstance(model, RetinaNet):
        views = fitted_views(pool.slice(0, 2), learning.model.image_size_px).pixels
        _enliven(model, torch.from_numpy(views).permute(0, 3, 1, 2), learning.detect.score_floor)
    card = ModelCard(
        task=learning.task, classes=tuple(classes), model=learning.model, preprocessing={}
    )
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), model, card)
        saved = read_model(folder, "model")
    return SavedTeacher(saved=saved, task=learning.make_task(len(classes)))


@torch.no_grad()
def _enliven(model: RetinaNet, pixels: torch.Tensor, floor: float) -> None:
    """Spread a fresh detector's outputs, so that it finds something: boxes cost time and bytes."""
    outputs = model(pixels)
    for tower, values, deviation in (
        (model.classes, outputs.class_logits, 1.5),
        (model.boxes, outputs.box_codes, 0.2),
    ):
        spread = float(values.std())
        if math.isfinite(spread) and spread > 0:
            tower.predict.weight.mul_(deviation / spread)
    logits = model(pixels).class_logits.flatten()
    wanted = min(len(logits), _CANDIDATES * len(pixels))
    bias = model.classes.predict.bias
    assert isinstance(bias, nn.Parameter)
    low = math.log(floor / (1 - floor)) if floor > 0 else -math.inf
    if math.isfinite(low):
        bias.add_(low - logits.topk(wanted).values[-1])
