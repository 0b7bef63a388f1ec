"""Labelling foretold: how fast, what is the limit, how long, for how much.

In: `LabelRates`, a `Fleet`, the `label:` section, a `Shape`, how many images. Out: `Labelling`.
Next: `training.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import SHARD_IMAGES
from ray_st.planning.assumptions import AssumeConfig
from ray_st.planning.fleet import Fleet
from ray_st.planning.rates import LabelRates
from ray_st.planning.scenario import Node, Scenario
from ray_st.planning.shapes import Shape, cores_per_teacher, rooms_of
from ray_st.planning.simulation import simulate

PUBLISH_S = 2e-6  # an image: a shard's ids are read, compared and summed up
_BLOCKS_A_READER = 4  # fewer images a block where these would not keep readers at work
_LEAST_BLOCK = 64
_BLOCK_BYTES = 128 * 2**20  # of views: then Ray Data hands a block on
_MOST_BLOCKS = 600_000  # that are played through one by one


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """What is to be expected."""

    images: int
    shape: Shape
    images_per_s: float  # over the whole time
    steady_images_per_s: float  # of the slowest stage
    limits: dict[str, float]  # images a second that each stage could reach
    limit: str
    hours: float
    in_bytes: float
    out_bytes: float
    node_hours: dict[str, float]
    cost: float | None  # dollars
    interruptions: int
    redone_share: float  # of all labels that were made
    starting_share: float  # of the time, in which no shard was open


def foretold(
    rates: LabelRates,
    fleet: Fleet,
    label: LabelConfig,
    shape: Shape,
    images: int,
    assume: AssumeConfig,
) -> Labelling:
    """Play the labelling of so many images through."""
    scenario = scenario_of(rates, fleet, label, shape, images, assume)
    found = simulate(scenario)
    limits = limits_of(scenario)
    limit = min(limits, key=lambda name: limits[name])
    hours = found.seconds / 3600
    starting = found.closed_s / found.seconds
    node_hours = {name: count * hours for name, count in shape.nodes.items() if count}
    price = fleet.cost_per_hour(shape.nodes)
    return Labelling(
        images=images,
        shape=shape,
        images_per_s=found.images_per_s,
        steady_images_per_s=limits[limit],
        limits=limits,
        limit="start" if starting > 0.5 else limit,
        hours=hours,
        in_bytes=images * rates.in_bytes,
        out_bytes=images * rates.out_bytes,
        node_hours=node_hours,
        cost=None if price is None else price * hours,
        interruptions=found.interruptions,
        redone_share=found.redone / found.labelled,
        starting_share=starting,
    )


def scenario_of(
    rates: LabelRates,
    fleet: Fleet,
    label: LabelConfig,
    shape: Shape,
    images: int,
    assume: AssumeConfig,
) -> Scenario:
    """What the simulator is asked."""
    shared = fleet.is_here and rates.shares_cores
    if shared:
        feeding = cores_per_teacher(rates) / label.cpus_per_actor
        rates = rates.at(shape.teachers * (1 + feeding))
    is_measured = rates.device != "given"  # who knows how many cores that took
    handed, block = _blocks(rates, label, shape, images)
    return Scenario(
        images=images,
        read_s=rates.read_s,
        predict_s=rates.predict_s,
        write_s=rates.write_s,
        nodes=_nodes(rates, fleet, label, shape, assume, is_shared=shared),
        readers=shape.readers,
        block_images=block,
        blocks_a_file=max(1, math.ceil(label.file_images / block)),
        shard_images=SHARD_IMAGES,
        start_s=rates.start_s,
        publish_s=PUBLISH_S * min(images, SHARD_IMAGES),
        driver_s=block / handed / assume.driver_blocks_per_s,
        teacher_cores=math.ceil(label.cpus_per_actor) if shared and is_measured else 0,
        interruptions_per_hour=assume.interruptions_per_hour,
        restart_s=assume.node_start_s,
        seed=assume.seed,
    )


def _blocks(rates: LabelRates, label: LabelConfig, shape: Shape, images: int) -> tuple[int, int]:
    """Images of a block that is handed on, and of what is played through as one."""
    least = min(images, SHARD_IMAGES) // (_BLOCKS_A_READER * shape.readers)
    handed = min(label.block_images, max(_LEAST_BLOCK, least))
    if rates.view_bytes:
        handed = max(1, min(handed, int(_BLOCK_BYTES / rates.view_bytes)))
    played = max(handed, min(label.block_images, math.ceil(images / _MOST_BLOCKS)))
    return handed, played


def _nodes(
    rates: LabelRates,
    fleet: Fleet,
    label: LabelConfig,
    shape: Shape,
    assume: AssumeConfig,
    *,
    is_shared: bool,
) -> tuple[Node, ...]:
    rooms = {k.name: room for k, room in rooms_of(rates, fleet, label, is_best=False)}
    left, nodes = shape.teachers, []
    here = fleet.types[0]
    if fleet.is_here and not is_shared:  # as many tasks as were asked for: Ray does not pin
        return (Node(cores=max(here.cores, shape.readers + 1), teachers=shape.teachers),)
    if fleet.is_here:
        return (Node(cores=here.cores, teachers=shape.teachers),)
    for kind in fleet.types:
        for number in range(shape.nodes.get(kind.name, 0)):
            teachers = min(left, rooms.get(kind.name, 0))
            left -= teachers
            cores = kind.cores - math.ceil(teachers * label.cpus_per_actor)
            late = 0.0 if number < kind.least or kind.is_head else assume.node_start_s
            nodes.append(
                Node(cores=max(0, cores), teachers=teachers, up_s=late, is_spot=kind.is_spot)
            )
    return tuple(nodes)


def limits_of(case: Scenario) -> dict[str, float]:
    """Images a second that each stage could reach, if all others were without end."""
    cores = sum(node.cores for node in case.nodes)
    teachers = sum(node.teachers for node in case.nodes)
    work = case.read_s + case.write_s + case.teacher_cores * case.predict_s
    found = {
        "read": _per(min(case.readers, cores), case.read_s),
        "predict": _per(teachers, case.predict_s),
        "cores": _per(cores, work),
        "driver": _per(case.block_images, case.driver_s),
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _per(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else math.inf
