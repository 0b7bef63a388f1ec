"""What a training step costs here, and the loading of its images.

In: sections of a recipe, labelled images. Out: `TrainRates`. Next: `earlier.py`.
"""

from __future__ import annotations

from dataclasses import replace

from ray_st.config import UserError
from ray_st.data.labels import Origin
from ray_st.data.sources import LabeledSet
from ray_st.planning.rates import TrainRates
from ray_st.selftraining.checkup.first_views import first_views
from ray_st.selftraining.checkup.trial_step import batches_of, try_steps
from ray_st.selftraining.learning import Learning

_FEW = 2  # images of either origin, of the smaller step


def practise(learning: Learning, human: LabeledSet, origin: str, *, has_pseudo: bool) -> TrainRates:
    """Take a few steps as one worker would, on its share of a step and on a smaller one.

    Weights are random: they cost the same. Human-labelled images stand in for pseudo-labelled
    ones. Raises `UserError` where a GPU is wanted and there is none.
    """
    import torch

    train, classes = learning.train, human.classes
    if train.use_gpu and not torch.cuda.is_available():
        raise UserError(
            "train.use_gpu: must be false on a machine without a GPU; run `ray-st plan` on a node "
            "that has one, or pass --from-runs with a folder that `ray-st train` left"
        )
    size_px = learning.model.image_size_px
    origins = [Origin.HUMAN, *([Origin.PSEUDO] if has_pseudo else [])]
    views = [
        first_views(human.rows, each, train, size_px=size_px, augment=learning.augment)
        for each in origins
    ]
    task = learning.make_task(len(classes))
    beside = views[1] if has_pseudo else None
    batches = batches_of(views[0], beside, train.num_workers)
    parts = train.accumulate
    trial = try_steps(batches, task, learning.model, train, None, len(classes))
    images, seconds = trial.images, trial.seconds
    few = max(_FEW, parts)
    smaller = replace(
        train,
        batch_size=min(few, train.batch_size),
        pseudo_batch_size=min(few, train.num_pseudo),
        num_workers=1,
        min_workers=None,
    )
    cut = [replace(each, batch_size=few) for each in views]
    fixed_s, image_s = 0.0, seconds / images
    if images > few * len(origins):
        batches = batches_of(cut[0], cut[1] if has_pseudo else None, 1)
        other = try_steps(batches, task, learning.model, smaller, None, len(classes))
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
