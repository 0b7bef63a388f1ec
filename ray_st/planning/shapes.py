"""Who labels, and on which nodes: as a recipe says, or as well as these nodes allow.

In: `LabelRates`, a `Fleet`, the `label:` section. Out: `Shape`. Next: `labelling.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_st.config import UserError
from ray_st.labeling.config import LabelConfig
from ray_st.planning.fleet import Fleet, NodeType
from ray_st.planning.rates import LabelRates

_SPARE = 1.1  # readers above what the teachers need


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Who works: label.actors, label.readers, and on how many nodes of each kind."""

    teachers: int
    readers: int
    nodes: dict[str, int]


def cores_per_teacher(rates: LabelRates) -> float:
    """How many cores read and write for one teacher that never waits."""
    return (rates.read_s + rates.write_s) / rates.predict_s


def recipe_shape(rates: LabelRates, fleet: Fleet, label: LabelConfig) -> Shape:
    """As the recipe says, as far as there are nodes; raises `UserError` where none has room."""
    return _placed(rates, fleet, label, label.actors[1], label.readers)


def best_shape(rates: LabelRates, fleet: Fleet, label: LabelConfig) -> Shape:
    """As many teachers as there is room for and cores to feed, and the readers for them."""
    feed, rooms = cores_per_teacher(rates), rooms_of(rates, fleet, label, is_best=True)
    teachers = sum(kind.most * room for kind, room in rooms)
    own = _cores_beside(fleet, label, rooms)
    if fleet.is_here:
        return _placed(rates, fleet, label, teachers, max(1, fleet.types[0].cores))
    teachers = max(1, min(teachers, int(own / feed) if feed else teachers))
    readers = math.ceil(_SPARE * teachers * rates.read_s / rates.predict_s)
    return _placed(rates, fleet, label, teachers, max(1, readers))


def rooms_of(
    rates: LabelRates, fleet: Fleet, label: LabelConfig, *, is_best: bool
) -> list[tuple[NodeType, int]]:
    """Kinds of nodes that teachers fit on, and how many on one; spot nodes first."""
    cpus, gpus, found = label.cpus_per_actor, label.gpus_per_actor, []
    for kind in sorted(fleet.workers, key=lambda each: not each.is_spot):
        if gpus > 0:
            room = min(int(kind.accelerators / gpus), int(kind.cores / cpus))
        elif kind.accelerators and not fleet.is_here:
            room = 0  # an accelerator would stand idle
        else:
            feed = cores_per_teacher(rates) if is_best and not fleet.is_here else 0.0
            room = int(kind.cores / (cpus + feed)) or int(kind.cores >= cpus)
        if room:
            found.append((kind, room))
    spot = [pair for pair in found if pair[0].is_spot]
    if not found:
        need = f"{cpus:g} CPUs and {gpus:g} GPUs"
        raise UserError(
            f"label.gpus_per_actor: a teacher needs {need}, and no node of {fleet.name} has them; "
            "lower label.cpus_per_actor or label.gpus_per_actor, or name another --cluster"
        )
    return spot or found


def _cores_beside(fleet: Fleet, label: LabelConfig, rooms: list[tuple[NodeType, int]]) -> float:
    """Cores that readers could have where all teachers that fit are there."""
    taken = sum(kind.most * room for kind, room in rooms) * label.cpus_per_actor
    of_teachers = {kind.name for kind, _ in rooms}
    kinds = [k for k in fleet.workers if k.name in of_teachers or not k.accelerators]
    return max(0.0, sum(kind.most * kind.cores for kind in kinds) - taken)


def _placed(
    rates: LabelRates, fleet: Fleet, label: LabelConfig, teachers: int, readers: int
) -> Shape:
    """Take nodes for teachers, then further ones for readers while cores are short."""
    nodes: dict[str, int] = {kind.name: kind.least for kind in fleet.types}
    wanted, placed = teachers, 0
    rooms = rooms_of(rates, fleet, label, is_best=False)
    for kind, room in rooms:
        count = min(kind.most, math.ceil((wanted - placed) / room))
        nodes[kind.name] = max(nodes[kind.name], count)
        placed += count * room
    placed = min(placed, wanted)
    cores = sum(nodes[kind.name] * kind.cores for kind in fleet.workers)
    writers = readers * rates.write_s / rates.read_s if rates.read_s else 0.0
    short = readers + writers + placed * label.cpus_per_actor - cores
    for kind in sorted(fleet.workers, key=lambda each: (each.accelerators, not each.is_spot)):
        if short > 0 and kind.cores:
            more = min(kind.most - nodes[kind.name], math.ceil(short / kind.cores))
            nodes[kind.name] += more
            short -= more * kind.cores
    if not fleet.is_here:
        readers = max(1, min(readers, readers - math.ceil(max(0.0, short))))
    return Shape(teachers=placed, readers=readers, nodes=nodes)
