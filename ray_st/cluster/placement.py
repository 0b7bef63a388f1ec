"""Who gets which cores and accelerators: arithmetic before anything starts.

In: what a verb wants at once, and what the cluster has. Out: nothing, or one line that says what
does not fit. An impossible request would otherwise wait in silence. Next: `session.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ray_st.config import UserError
from ray_st.labeling.config import LabelConfig
from ray_st.training.schedule import TrainConfig

TRIAL_CPUS = 0.1  # a trial's driver only waits
# What of a recipe makes a need ask for accelerators.
_ASKS_FOR_GPU = {"train.num_workers": "train.use_gpu", "label.actors": "label.gpus_per_actor"}


@dataclass(frozen=True, kw_only=True)
class Need:
    """Cores and accelerators that something holds while it runs."""

    what: str  # as the user knows it: the field that sets it
    cpus: float
    gpus: float = 0.0

    def __mul__(self, count: int) -> Need:
        return Need(what=self.what, cpus=self.cpus * count, gpus=self.gpus * count)


def training_needs(config: TrainConfig, *, has_pseudo: bool) -> list[Need]:
    """What one training run holds at once, at the least."""
    workers = max(1, config.num_workers if config.min_workers is None else config.min_workers)
    trainers = Need(
        what="train.num_workers", cpus=config.cpus_per_worker, gpus=float(config.use_gpu)
    )
    streams = workers * (1 + has_pseudo + config.joint.is_on)
    # One task of each stream, or nothing moves; without tasks a worker's own cores load.
    loaders = [Need(what="train.loaders", cpus=1) * streams] if config.loaders else []
    return [trainers * workers, *loaders]


def trial_needs(config: TrainConfig) -> list[Need]:
    """What one trial of a sweep holds at once: a training run, and the driver that started it."""
    driver = Need(what="sweep.alphas", cpus=TRIAL_CPUS)
    return [*training_needs(config, has_pseudo=True), driver]


def labeling_needs(config: LabelConfig) -> list[Need]:
    """What labelling holds at once, at the least."""
    actor = Need(what="label.actors", cpus=config.cpus_per_actor, gpus=config.gpus_per_actor)
    return [actor * config.actors[0], Need(what="label.readers", cpus=1)]


def beside(config: LabelConfig, needs: list[Need], *, cpus: float, gpus: float) -> LabelConfig:
    """Labelling that leaves others what they need, on a cluster of this size.

    Raises `UserError` where not even the least number of actors fits beside `needs`. Actors come
    before readers; a pool that grew into what a gang waits for would keep it waiting.
    """
    require_fits([*labeling_needs(config), *needs], cpus=cpus, gpus=gpus)
    free_cpus = cpus - sum(need.cpus for need in needs)
    free_gpus = gpus - sum(need.gpus for need in needs)
    least, most = config.actors
    most = min(most, int((free_cpus - 1) / config.cpus_per_actor))
    if config.gpus_per_actor:
        most = min(most, int(free_gpus / config.gpus_per_actor))
    readers = max(1, min(config.readers, int(free_cpus - most * config.cpus_per_actor)))
    first = None if config.first_actors is None else min(config.first_actors, most)
    return replace(config, actors=(least, most), first_actors=first, readers=readers)


def require_fits(needs: list[Need], *, cpus: float, gpus: float) -> None:
    """Refuse what the cluster could never run."""
    for kind, have, wanted in (
        ("CPUs", cpus, sum(need.cpus for need in needs)),
        ("GPUs", gpus, sum(need.gpus for need in needs)),
    ):
        if wanted > have:
            parts = " + ".join(
                f"{need.what} {getattr(need, kind[:3].lower() + 's'):g}" for need in needs
            )
            raise UserError(
                f"{needs[0].what}: wants {wanted:g} {kind} at once ({parts}), "
                f"the cluster has {have:g}; {_move(needs, kind, have)} or add nodes"
            )


def _move(needs: list[Need], kind: str, have: float) -> str:
    """What would do with less."""
    if kind == "CPUs" or have:
        return "lower one of them"
    return f"leave out {', '.join(_ASKS_FOR_GPU[need.what] for need in needs if need.gpus)}"


def most_at_once(needs: list[Need], *, cpus: float, gpus: float) -> int:
    """How many such runs fit side by side; at least 1, since `require_fits` stands before."""
    runs = [int(cpus // max(1e-9, sum(need.cpus for need in needs)))]
    if wanted := sum(need.gpus for need in needs):
        runs.append(int(gpus // wanted))
    return max(1, min(runs))
