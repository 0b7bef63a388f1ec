"""Where teachers and readers find room: so many of them, and the nodes that take them.

In: `LabelRates`, a `Fleet`, the `label:` section, numbers. Out: `Shape`. Next: `limits.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ray_st.config import UserError
from ray_st.labeling.config import LabelConfig
from ray_st.planning.fleet import Fleet, NodeType
from ray_st.planning.rates import LabelRates


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Who works: label.actors, label.readers, and on how many nodes of each kind."""

    teachers: int
    readers: int
    nodes: dict[str, int]


def cores_per_teacher(rates: LabelRates) -> float:
    """How many cores read and write for one teacher that never waits."""
    return (rates.read_s + rates.write_s) / rates.predict_s


def rooms_of(fleet: Fleet, label: LabelConfig) -> list[tuple[NodeType, int]]:
    """Kinds of nodes that teachers fit on, and how many on one; spot nodes alone, where any do.

    Raises `UserError` where none has room.
    """
    cpus, gpus, found = label.cpus_per_actor, label.gpus_per_actor, []
    labelled = fleet.with_labels(label.nodes)
    if not labelled:
        raise _no_node(fleet, label)
    for kind in labelled:
        if gpus > 0:
            room = min(int(kind.accelerators / gpus), int(kind.cores / cpus))
        elif kind.accelerators and not fleet.is_here:
            room = 0  # an accelerator would stand idle
        else:
            room = int(kind.cores / cpus)
        if room:
            found.append((kind, room))
    if not found:
        need = f"{cpus:g} CPUs and {gpus:g} GPUs"
        where = fleet.named(label.nodes)
        raise UserError(
            f"label.gpus_per_actor: a teacher needs {need}, and no node of {where} has them; "
            "lower label.cpus_per_actor or label.gpus_per_actor, or name another --cluster"
        )
    return [pair for pair in found if pair[0].is_spot] or found


def _no_node(fleet: Fleet, label: LabelConfig) -> UserError:
    there = sorted({each for kind in fleet.workers for each in kind.labels})
    return UserError(
        f"label.nodes: no node type of {fleet.name} that may work has {' '.join(label.nodes)} "
        f"(there is {' '.join(there) or 'no label'}); write it under the type's `labels`, or leave "
        "label.nodes out"
    )


def placed(
    rates: LabelRates,
    fleet: Fleet,
    label: LabelConfig,
    teachers: int,
    readers: int,
    *,
    is_thrifty: bool = False,
) -> Shape:
    """Take nodes for teachers, then further ones for readers while cores are short.

    Fewer of either where nodes are short. `is_thrifty`: no node is taken for readers alone that
    has accelerators and no room for a teacher. Raises `UserError` where one teacher leaves no core
    to read with.
    """
    rooms = rooms_of(fleet, label)
    names = {kind.name for kind, _ in rooms}
    kinds = sorted(fleet.workers, key=lambda each: (each.accelerators, not each.is_spot))
    if is_thrifty:
        kinds = [kind for kind in kinds if kind.name in names or not kind.accelerators]
    count = min(teachers, sum(kind.most * room for kind, room in rooms))
    while count > 0:
        found = _placed(rates, fleet, label, count, readers, kinds)
        if fleet.is_here or _free_cores(fleet, label, found):
            return found
        count = found.teachers - 1
    raise UserError(
        f"label.cpus_per_actor: one teacher leaves no core of {fleet.name} to read with; lower it, "
        "or name another --cluster"
    )


def _placed(
    rates: LabelRates,
    fleet: Fleet,
    label: LabelConfig,
    teachers: int,
    readers: int,
    kinds: list[NodeType],
) -> Shape:
    nodes, seats = fleet.least, 0
    for kind, room in rooms_of(fleet, label):
        count = min(fleet.most_of(kind, nodes), math.ceil((teachers - seats) / room))
        nodes[kind.name] = max(nodes[kind.name], count)
        seats += count * room
    teachers = min(teachers, seats)
    cores = sum(nodes[kind.name] * kind.cores for kind in fleet.workers)
    writers = readers * rates.write_s / rates.read_s if rates.read_s else 0.0
    short = readers + writers + teachers * label.cpus_per_actor - cores
    for kind in kinds:
        if short > 0 and kind.cores:
            more = min(fleet.most_of(kind, nodes) - nodes[kind.name], math.ceil(short / kind.cores))
            nodes[kind.name] += more
            short -= more * kind.cores
    if short > 0 and not fleet.is_here:  # they share what there is with those who write
        free = readers + writers - short
        readers = max(1, min(readers, math.ceil(free * readers / (readers + writers))))
    return Shape(teachers=teachers, readers=readers, nodes=nodes)


def seated(fleet: Fleet, label: LabelConfig, shape: Shape) -> Iterator[tuple[NodeType, int, int]]:
    """For each node its kind, the how manieth of it it is, and how many teachers sit there."""
    rooms = {kind.name: room for kind, room in rooms_of(fleet, label)}
    left = shape.teachers
    for kind in fleet.types:
        for number in range(shape.nodes.get(kind.name, 0)):
            teachers = min(left, rooms.get(kind.name, 0))
            left -= teachers
            yield kind, number, teachers


def cores_beside(label: LabelConfig, kind: NodeType, teachers: int) -> int:
    """Cores of one node that its teachers leave to others."""
    return max(0, kind.cores - math.ceil(teachers * label.cpus_per_actor))


def _free_cores(fleet: Fleet, label: LabelConfig, shape: Shape) -> int:
    return sum(cores_beside(label, kind, many) for kind, _, many in seated(fleet, label, shape))
