"""What a training step costs here, and the loading of its images.

In: sections of a recipe, labelled images. Out: `TrainRates`. Next: `earlier.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ray_st.config import UserError
from ray_st.data.labels import Origin
from ray_st.data.sources import LabeledSet
from ray_st.planning.rates import TrainRates
from ray_st.selftraining.checkup.first_views import FirstViews, first_views
from ray_st.selftraining.checkup.trial_step import Trial, batches_of, try_steps
from ray_st.selftraining.learning import Learning
from ray_st.training.schedule import TrainConfig

_FEW = 2  # images of either origin, of the smaller step


def practise(
    learning: Learning,
    human: LabeledSet,
    origin: str,
    *,
    has_pseudo: bool,
    joint: LabeledSet | None = None,
) -> TrainRates:
    """Take a few steps as one worker would, on its share of a step and on a smaller one.

    Weights are random: they cost the same. Human-labelled images stand in for pseudo-labelled
    ones. Raises `UserError` where a GPU is wanted and there is none.
    """
    train = learning.train
    _require_gpu(train)
    views = _views(learning, human, human if has_pseudo else None, joint)
    num_classes, num_joint = len(human.classes), 0 if joint is None else len(joint.classes)
    task = learning.make_task(num_classes)

    def tried(origins: Sequence[FirstViews], one: TrainConfig) -> Trial:
        batches = batches_of(origins, one.num_workers)
        return try_steps(batches, task, learning.model, one, None, num_classes, num_joint)

    trial = tried(views, train)
    images, seconds = trial.images, trial.seconds
    few = max(_FEW, train.accumulate)
    cut = [replace(each, batch_size=few) for each in views]
    fixed_s, image_s = 0.0, seconds / images
    if images > few * len(cut):
        other = tried(cut, _of_few(train, few))
        slope = (seconds - other.seconds) / (images - other.images)
        image_s = min(max(slope, 0.0), seconds / images)
        fixed_s = seconds - image_s * images
    return TrainRates(
        fixed_s=fixed_s,
        image_s=image_s,
        load_s=max(each.seconds_per_view for each in views),
        gradient_bytes=float(trial.held.gradients),
        device=trial.held.device,
        source=f"measured here on {origin}, steps of {images} images",
    )


def _views(
    learning: Learning, human: LabeledSet, pseudo: LabeledSet | None, joint: LabeledSet | None
) -> list[FirstViews]:
    """The first views of each origin that there is."""
    sets = {Origin.HUMAN: human, Origin.PSEUDO: pseudo, Origin.JOINT: joint}
    return [
        first_views(
            labeled.rows,
            origin,
            learning.train,
            size_px=learning.side_px(origin),
            augment=learning.augment,
        )
        for origin, labeled in sets.items()
        if labeled is not None
    ]


def _of_few(train: TrainConfig, images: int) -> TrainConfig:
    """One worker's training, with so few images of an origin a step."""
    return replace(
        train,
        batch_size=min(images, train.batch_size),
        pseudo_batch_size=min(images, train.num_pseudo),
        num_workers=1,
        min_workers=None,
    )


def _require_gpu(train: TrainConfig) -> None:
    if train.use_gpu and not torch.cuda.is_available():
        raise UserError(
            "train.use_gpu: must be false on a machine without a GPU; run `ray-st plan` on a node "
            "that has one, or pass --from-runs with a folder that `ray-st train` left"
        )
