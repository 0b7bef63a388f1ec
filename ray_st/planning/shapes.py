"""Who labels, and on which nodes: as a recipe says, or as well as these nodes allow.

In: `LabelRates`, a `Fleet`, the `label:` section. Out: `Shape`. Next: `labelling.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

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
    search = _Search(rates=rates, fleet=fleet, label=label, images=images, assume=assume)
    recipe = recipe_shape(rates, fleet, label)
    found = [(search.speed(shape), shape) for shape in (recipe, *search.candidates())]
    least = max(_AS_GOOD * max(speed for speed, _ in found), found[0][0])

    def worth(pair: tuple[float, Shape]) -> tuple[float, int, int, int]:
        speed, shape = pair
        price = fleet.cost_per_hour(shape.nodes)
        cost = 0.0 if price is None else price / speed
        return cost, shape.teachers, sum(shape.nodes.values()), shape.readers

    return min((pair for pair in found if pair[0] >= least), key=worth)[1]


@dataclass(frozen=True, kw_only=True)
class _Search:
    rates: LabelRates
    fleet: Fleet
    label: LabelConfig
    images: int
    assume: AssumeConfig

    def candidates(self) -> Iterator[Shape]:
        """So many teachers and so many more, each with readers enough."""
        most = sum(kind.most * room for kind, room in rooms_of(self.fleet, self.label))
        count = 1
        while count <= most:
            eager = self._with(count, count / self.rates.predict_s)
            yield eager
            yield self._with(count, self.speed(eager))  # what else is the limit wants fewer
            following = count + 1 if count < _EACH else math.ceil(count * _STEP)
            count = most if count < most < following else following

    def _with(self, teachers: int, images_per_s: float) -> Shape:
        """And readers for so many images a second; on this machine they cost nothing."""
        readers = max(1, math.ceil(_SPARE * images_per_s * self.rates.read_s))
        if self.fleet.is_here:
            readers = self.fleet.types[0].cores
        return placed(self.rates, self.fleet, self.label, teachers, readers, is_thrifty=True)

    def speed(self, shape: Shape) -> float:
        """Images a second of the slowest stage, spot nodes counted by how long they are there."""
        away_s = self.assume.node_start_s + self.rates.start_s
        away = self.assume.interruptions_per_hour / 3600 * away_s
        case = scenario_of(self.rates, self.fleet, self.label, shape, self.images, self.assume)
        return min(limits_of(case, spot_up=1 / (1 + away)).values())
