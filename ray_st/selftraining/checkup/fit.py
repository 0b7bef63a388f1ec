"""Whether a cluster has room for what a run holds at once: the sums of `cluster/placement.py`.

In: sections of a recipe, and what there is. Out: findings. Next: `../pseudo_look.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_st.cluster.placement import (
    Need,
    labeling_needs,
    require_fits,
    training_needs,
    trial_needs,
)
from ray_st.config import UserError
from ray_st.labeling.config import LabelConfig
from ray_st.selftraining.checkup.finding import Finding
from ray_st.training.schedule import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Room:
    """What there is."""

    cpus: float  # as Ray counts them
    gpus: float
    cores: int | None = None  # of this machine in truth; None on a cluster
    memory_bytes: tuple[int, ...] = ()  # of each node
    gpu_memory_bytes: tuple[int, ...] = ()  # of each GPU; of a cluster's Ray does not say it
    name: str = "the cluster"


def fits(
    train: TrainConfig, label: LabelConfig, room: Room, *, has_pseudo: bool, has_pool: bool
) -> list[Finding]:
    """Say what each stage holds; with a pool, what the whole loop does."""
    stages = {"training": training_needs(train, has_pseudo=has_pseudo)}
    if has_pool:
        stages = {"training": trial_needs(train), "labelling": labeling_needs(label)}
    found = [_stage(name, needs, room) for name, needs in stages.items()]
    return [*found, *_cores(train, room)]


def _stage(name: str, needs: list[Need], room: Room) -> Finding:
    try:
        require_fits(needs, cpus=room.cpus, gpus=room.gpus)
    except UserError as error:
        return Finding.refusal(error)
    cpus, gpus = sum(need.cpus for need in needs), sum(need.gpus for need in needs)
    return Finding(
        severity="fine",
        where="address",
        what=f"{name} holds {cpus:g} CPUs and {gpus:g} GPUs at once; {room.name} has {room.cpus:g} "
        f"and {room.gpus:g}",
        numbers={"stage": name, "cpus": cpus, "gpus": gpus, "of_cpus": room.cpus,
                 "of_gpus": room.gpus},
    )  # fmt: skip


def _cores(train: TrainConfig, room: Room) -> list[Finding]:
    """On one machine Ray's cores are tickets: more may start than there are."""
    wanted = max(1, train.num_workers) * train.cpus_per_worker
    if room.cores is None or wanted <= room.cores:
        return []
    return [
        Finding(
            severity="warn",
            where="train.cpus_per_worker",
            what=f"training computes with {wanted} cores, {room.name} has {room.cores}: they share "
            "them",
            move="lower train.num_workers or train.cpus_per_worker",
            numbers={"wanted_cores": wanted, "cores": room.cores},
        )
    ]
