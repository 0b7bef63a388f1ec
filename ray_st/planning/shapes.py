"""Who labels, and on which nodes: as a recipe says, or as well as these nodes allow.

In: `LabelRates`, a `Fleet`, the `label:` section. Out: `Shape`. Next: `labelling.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ray_st.config import require
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import SHARD_IMAGES
from ray_st.planning.assumptions import AssumeConfig
from ray_st.planning.fleet import Fleet
from ray_st.planning.limits import limits_of, scenario_of
from ray_st.planning.rates import LabelRates
from ray_st.planning.rooms import Shape, placed, rooms_of

_SPARE = 1.1  # readers above what the teachers need
_AS_GOOD = 0.99  # of the highest speed: what is cheaper is taken then
_EACH = 64  # so many numbers of teachers are tried one by one, more of them in steps
_STEP = 1.02
_UNASKED = AssumeConfig()


def recipe_shape(rates: LabelRates, fleet: Fleet, label: LabelConfig) -> Shape:
    """As the recipe says, as far as there are nodes; raises `UserError` where none has room."""
    most = label.actors[1]
    require(most >= 1, "label.actors", "at least 1 teacher to be planned", label.actors)
    return placed(rates, fleet, label, most, label.readers)


def best_shape(
    rates: LabelRates,
    fleet: Fleet,
    label: LabelConfig,
    images: int = SHARD_IMAGES,
    assume: AssumeConfig = _UNASKED,
) -> Shape:
    """The cheapest of those that are nearly as fast as any, and no slower than the recipe's.

    Without prices it is the one of fewest teachers, then nodes: more of them than the driver, the
    cores or the readers can feed only cost. Raises `UserError` where no teacher has room.
    """
    recipe = recipe_shape(rates, fleet, label)
    found = [recipe, *_candidates(rates, fleet, label)]
    speeds = [_speed(rates, fleet, label, shape, images, assume) for shape in found]
    least = max(_AS_GOOD * max(speeds), speeds[0])

    def worth(pair: tuple[float, Shape]) -> tuple[float, int, int, int]:
        speed, shape = pair
        price = fleet.cost_per_hour(shape.nodes)
        cost = 0.0 if price is None else price / speed
        return cost, shape.teachers, sum(shape.nodes.values()), shape.readers

    fit = [pair for pair in zip(speeds, found, strict=True) if pair[0] >= least]
    return min(fit, key=worth)[1]


def _candidates(rates: LabelRates, fleet: Fleet, label: LabelConfig) -> Iterator[Shape]:
    """So many teachers and so many more, each with readers enough."""
    most = sum(kind.most * room for kind, room in rooms_of(fleet, label))
    count = 1
    while count <= most:
        readers = math.ceil(_SPARE * count * rates.read_s / rates.predict_s)
        if fleet.is_here:
            readers = fleet.types[0].cores
        yield placed(rates, fleet, label, count, max(1, readers), is_thrifty=True)
        following = count + 1 if count < _EACH else math.ceil(count * _STEP)
        count = most if count < most < following else following


def _speed(
    rates: LabelRates,
    fleet: Fleet,
    label: LabelConfig,
    shape: Shape,
    images: int,
    assume: AssumeConfig,
) -> float:
    """Images a second of the slowest stage, spot nodes counted by how long they are there."""
    away = assume.interruptions_per_hour / 3600 * (assume.node_start_s + rates.start_s)
    case = scenario_of(rates, fleet, label, shape, images, assume)
    return min(limits_of(case, spot_up=1 / (1 + away)).values())
