"""Settings that disappoint, whatever the images show.

In: a `TrainConfig`, and how many images there are. Out: findings. Next: `fit.py`.
"""

from __future__ import annotations

from ray_st.selftraining.checkup.finding import Finding
from ray_st.training.schedule import TrainConfig

_LONG_WARMUP = 0.5  # of the steps
_SMALL_SHARE = 2  # images a BatchNorm: its error rises by a tenth (Wu and He, Group Normalization)


def schedule(train: TrainConfig, *, name: str, field: str) -> list[Finding]:
    """Say whether the learning rate gets anywhere in this training, whose steps `field` sets."""
    steps, warmup = train.steps, train.warmup_steps
    if warmup < _LONG_WARMUP * steps:
        return []
    never = warmup >= steps
    what = f"the warm-up takes {warmup} of the {steps} steps of the {name}"
    if never:
        what = f"the warm-up of {warmup} steps outlasts the {steps} of the {name}"
    return [
        Finding(
            severity="fail" if never else "warn",
            where="train.warmup_steps",
            what=what,
            move=f"lower it or raise {field}{': train.lr is never reached' if never else ''}",
            numbers={"warmup_steps": warmup, "steps": steps},
        )
    ]


def checkpoints(train: TrainConfig) -> list[Finding]:
    """Say whether there is anything to go on from where a worker dies."""
    if train.num_workers == 0 or train.checkpoint_every < train.steps:
        return []
    return [
        Finding(
            severity="warn",
            where="train.checkpoint_every",
            what=f"there is no checkpoint in {train.steps} steps: what dies begins anew",
            move=f"lower train.checkpoint_every, which is {train.checkpoint_every}",
            numbers={"checkpoint_every": train.checkpoint_every, "steps": train.steps},
        )
    ]


def passes(train: TrainConfig, human_images: int, pseudo_images: int | None) -> list[Finding]:
    """Say how often training sees each image."""
    seen = train.steps * train.batch_size
    human, said = seen / human_images, ""
    numbers = {"human_epochs": human, "human_views": seen}
    if pseudo_images:
        pseudo = train.steps * train.num_pseudo / pseudo_images
        said = f", each pseudo-labelled one {pseudo:.3g} times"
        numbers["pseudo_epochs"] = pseudo
    what = f"{train.steps} steps of {train.batch_size} see each of {human_images} human-labelled "
    what += f"images {human:.3g} times{said}"
    if human < 1:
        move = "raise train.steps: some of the labels are never learned from"
        return [
            Finding(severity="warn", where="train.steps", what=what, move=move, numbers=numbers)
        ]
    return [Finding(severity="fine", where="train.steps", what=what, numbers=numbers)]


def batches(
    train: TrainConfig, human_images: int, *, has_norms: bool, has_pseudo: bool
) -> list[Finding]:
    """Say whether a step has images enough, and not more than there are."""
    found = []
    if train.batch_size > human_images:
        found.append(
            Finding(
                severity="warn",
                where="train.batch_size",
                what=f"a step of {train.batch_size} holds some of the {human_images} "
                "human-labelled images twice",
                move="lower train.batch_size, or label more",
                numbers={"batch_size": train.batch_size, "human_images": human_images},
            )
        )
    workers = max(1, train.num_workers)
    own = (train.batch_size + (train.num_pseudo if has_pseudo else 0)) // workers
    if has_norms and workers > 1 and own <= _SMALL_SHARE and not train.sync_batchnorm:
        found.append(
            Finding(
                severity="warn",
                where="train.num_workers",
                what=f"each of {workers} workers has {own} images a step: BatchNorm learns from "
                "too few",
                move="raise train.batch_size, lower train.num_workers or set train.sync_batchnorm",
                numbers={"images_a_worker": own, "workers": workers},
            )
        )
    return found


def alpha(train: TrainConfig) -> list[Finding]:
    """Say where pseudo labels count for nothing."""
    if train.alpha > 0:
        return []
    move = "raise train.alpha, or leave the pseudo labels out: they only cost time"
    what = "pseudo labels have no weight in the loss"
    return [
        Finding(severity="warn", where="train.alpha", what=what, move=move, numbers={"alpha": 0.0})
    ]
