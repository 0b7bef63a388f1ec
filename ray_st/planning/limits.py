"""What a shape can reach: what the simulator is asked of it, and how fast each stage could be.

In: `LabelRates`, a `Fleet`, the `label:` section, a `Shape`, how many images. Out: `Scenario`;
images a second. Next: `shapes.py`.
"""

from __future__ import annotations

import math

from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import SHARD_IMAGES
from ray_st.planning.assumptions import AssumeConfig
from ray_st.planning.fleet import Fleet
from ray_st.planning.played import MOST_BLOCKS
from ray_st.planning.rates import LabelRates
from ray_st.planning.rooms import Shape, cores_beside, cores_per_teacher, seated
from ray_st.planning.scenario import Node, Scenario

PUBLISH_S = 2e-6  # an image: a shard's ids are read, compared and summed up
_BLOCKS_A_READER = 4  # fewer images a block where these would not keep readers at work
_LEAST_BLOCK = 64
_BLOCK_BYTES = 128 * 2**20  # of views: then Ray Data hands a block on
_PLAYED_BLOCK = 512  # images of what is played through as one block, or label.block_images


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
        nodes=_nodes(fleet, label, shape, assume, is_shared=shared),
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
    most = max(label.block_images, _PLAYED_BLOCK)
    played = max(handed, min(most, math.ceil(images / MOST_BLOCKS)))
    return handed, played


def _nodes(
    fleet: Fleet, label: LabelConfig, shape: Shape, assume: AssumeConfig, *, is_shared: bool
) -> tuple[Node, ...]:
    here = fleet.types[0]
    if fleet.is_here and not is_shared:  # as many tasks as were asked for: Ray does not pin
        return (Node(cores=max(here.cores, shape.readers + 1), teachers=shape.teachers),)
    if fleet.is_here:
        return (Node(cores=here.cores, teachers=shape.teachers),)
    return tuple(
        Node(
            cores=cores_beside(label, kind, teachers),
            teachers=teachers,
            up_s=0.0 if number < kind.least else assume.node_start_s,
            is_spot=kind.is_spot,
        )
        for kind, number, teachers in seated(fleet, label, shape)
    )


def limits_of(case: Scenario, *, spot_up: float = 1.0) -> dict[str, float]:
    """Images a second that each stage could reach, if all others were without end.

    `spot_up`: the share of its time in which a spot node is there.
    """
    up = [(node, spot_up if node.is_spot else 1.0) for node in case.nodes]
    cores = sum(node.cores * share for node, share in up)
    teachers = sum(node.teachers * share for node, share in up)
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
