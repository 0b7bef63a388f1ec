"""What a few steps of training say of the whole of it.

In: a `Trial`. Out: findings: sound numbers, and how long it takes. Next: `settings.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ray_st.selftraining.checkup.finding import Finding
from ray_st.selftraining.checkup.first_views import FirstViews
from ray_st.selftraining.checkup.trial_step import Trial
from ray_st.training.schedule import TrainConfig

_STEEP = 10.0  # times train.clip_norm


def sound_numbers(trial: Trial, train: TrainConfig) -> list[Finding]:
    """Say whether the first step is one to learn from."""
    numbers = {"loss": trial.loss, "gradient_norm": trial.gradient_norm, "images": trial.images}
    said = f"the first step has a loss of {trial.loss:.3g} and a gradient of norm "
    said += f"{trial.gradient_norm:.3g}"
    if not math.isfinite(trial.loss) or not math.isfinite(trial.gradient_norm):
        move = "set train.precision to fp32, and check init.weights, init.mean and init.std"
        return [
            Finding(severity="fail", where="train", what=f"{said}: no finite numbers", move=move)
        ]
    if trial.gradient_norm == 0:
        move = "look at first_batches.png: no view of the first batch has a label"
        return [Finding(severity="fail", where="train", what=said, move=move, numbers=numbers)]
    if trial.gradient_norm > _STEEP * train.clip_norm:
        said += f", {trial.gradient_norm / train.clip_norm:.0f} times train.clip_norm: it is cut"
    return [Finding(severity="fine", where="train", what=said, numbers=numbers)]


def too_large(images: int) -> list[Finding]:
    """Say that a step did not fit on the GPU of this machine."""
    return [
        Finding(
            severity="fail",
            where="train.batch_size",
            what=f"a step of {images} images does not fit on a GPU of this machine",
            move="lower train.batch_size or model.image_size_px, or set train.precision to bf16",
            numbers={"images": images},
        )
    ]


def needed_time(trial: Trial, origins: Sequence[FirstViews], train: TrainConfig) -> list[Finding]:
    """Say how long training takes here, and whether its loaders keep up with it."""
    workers = max(1, train.num_workers)
    loading = max(
        each.seconds_per_view * each.batch_size / workers / max(1, train.loaders)
        for each in origins
    )  # streams load side by side
    step = max(trial.seconds, loading)
    cores = f"{train.cpus_per_worker} core{'' if train.cpus_per_worker == 1 else 's'}"
    where = "the GPU" if trial.held.device == "cuda" else cores
    said = f"a step of {trial.images} images takes {trial.seconds:.2g} s on {where} of this "
    said += f"machine, and loading its images {loading:.2g} s: {train.steps} steps about "
    said += f"{duration(train.steps * step)}"
    numbers = {
        "step_s": trial.seconds,
        "loading_s": loading,
        "steps": train.steps,
        "training_s": train.steps * step,
        "device": trial.held.device,
    }
    if loading <= trial.seconds:
        return [Finding(severity="fine", where="train.steps", what=said, numbers=numbers)]
    wanted = math.ceil(loading * max(1, train.loaders) / trial.seconds)
    return [
        Finding(
            severity="warn",
            where="train.loaders",
            what=f"{said}; the step waits for its images",
            move=f"raise train.loaders to {wanted} where there are cores for it, or make the "
            "images smaller on disk",
            numbers={**numbers, "loaders_wanted": wanted},
        )
    ]


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
