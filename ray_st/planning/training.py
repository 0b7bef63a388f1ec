"""Training foretold: samples a second by the number of workers, hours, and for how much.

In: `TrainRates`, a `Fleet`, the `train:` section. Out: a `Training` for each number of workers.
Next: `subjects.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_st.planning.assumptions import AssumeConfig
from ray_st.planning.fleet import Fleet, NodeType
from ray_st.planning.rates import TrainRates
from ray_st.training.schedule import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is to be expected of so many workers."""

    workers: int
    images_per_s: float  # of all origins
    step_s: float
    limit: str  # step, load, exchange, or cores
    hours: float  # of all steps, without start and validation
    node_hours: dict[str, float]
    cost: float | None  # dollars


def foretold_training(
    rates: TrainRates, fleet: Fleet, train: TrainConfig, assume: AssumeConfig, *, has_pseudo: bool
) -> list[Training]:
    """Of 1, 2, 4 ... workers, and of as many as the recipe says, as far as there is room.

    Of none where no node has room for one.
    """
    streams = streams_of(train, has_pseudo=has_pseudo)
    rooms = _rooms(fleet, train, len(streams))
    if not rooms:
        return []
    seats = {kind.name: room for kind, room in rooms}
    full = _nodes(fleet, rooms, sum(kind.most * room for kind, room in rooms))
    most = min(*streams, sum(count * seats[name] for name, count in full.items()))
    counts = {1 << power for power in range(most.bit_length())}
    wanted = max(1, train.num_workers)
    counts = {n for n in counts if n <= most} | (
        {wanted} if fleet.is_here or wanted <= most else set()
    )
    return [
        _of(rates, fleet, train, assume, streams, _nodes(fleet, rooms, workers), workers)
        for workers in sorted(counts)
    ]


def streams_of(train: TrainConfig, *, has_pseudo: bool) -> list[int]:
    """Images a step of each stream that there is, over all workers."""
    sizes = (train.batch_size, train.num_pseudo if has_pseudo else 0, train.num_joint)
    return [size for size in sizes if size]


def _rooms(fleet: Fleet, train: TrainConfig, streams: int) -> list[tuple[NodeType, int]]:
    """Kinds of nodes that workers fit on, and how many on one; those that stay come first."""
    cpus = train.cpus_per_worker + (streams if train.loaders else 0)
    found = []
    for kind in sorted(fleet.with_labels(train.nodes), key=lambda each: each.is_spot):
        room = kind.cores // cpus
        if train.use_gpu:
            room = min(kind.accelerators, room)
        elif kind.accelerators and not fleet.is_here:
            room = 0
        if fleet.is_here:
            room = max(1, room)  # Ray does not pin
        if room:
            found.append((kind, room))
    lasting = [pair for pair in found if not pair[0].is_spot]
    return lasting or found


def _nodes(fleet: Fleet, rooms: list[tuple[NodeType, int]], workers: int) -> dict[str, int]:
    nodes: dict[str, int] = {}
    left = workers
    for kind, room in rooms:
        held = {name: max(least, nodes.get(name, 0)) for name, least in fleet.least.items()}
        count = min(fleet.most_of(kind, held), math.ceil(left / room))
        if count > 0:
            nodes[kind.name] = count
            left -= count * room
    return nodes


def _of(
    rates: TrainRates,
    fleet: Fleet,
    train: TrainConfig,
    assume: AssumeConfig,
    streams: list[int],
    nodes: dict[str, int],
    workers: int,
) -> Training:
    shares = [math.ceil(size / workers) for size in streams]
    step = rates.fixed_s + rates.image_s * sum(shares)
    load = rates.load_s * max(shares) / max(1, train.loaders)
    # A ring: each worker sends and takes the gradient twice, but for its own part.
    sent = 2 * (workers - 1) / workers * rates.gradient_bytes
    exchange = sent / (assume.network_gbit * 1e9 / 8) if sum(nodes.values()) > 1 else 0.0
    times = {"step": step + exchange, "load": load}
    if fleet.is_here:
        cores = fleet.types[0].cores
        work = rates.load_s * sum(shares)
        if rates.device == "cpu":
            work += step * min(train.cpus_per_worker, cores)
        times["cores"] = workers * work / cores
    limit = max(times, key=lambda name: times[name])
    step_s = times[limit]
    if limit == "step" and exchange > step:
        limit = "exchange"
    hours = train.steps * step_s / 3600
    price = fleet.cost_per_hour(nodes)
    return Training(
        workers=workers,
        images_per_s=sum(streams) / step_s,
        step_s=step_s,
        limit=limit,
        hours=hours,
        node_hours={name: count * hours for name, count in nodes.items()},
        cost=None if price is None else price * hours,
    )
