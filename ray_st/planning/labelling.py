"""Labelling foretold: how fast, what is the limit, how long, for how much.

In: `LabelRates`, a `Fleet`, the `label:` section, a `Shape`, how many images. Out: `Labelling`.
Next: `training.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_st.config import UserError
from ray_st.labeling.config import LabelConfig
from ray_st.planning.assumptions import AssumeConfig
from ray_st.planning.fleet import Fleet
from ray_st.planning.limits import limits_of, scenario_of
from ray_st.planning.played import play
from ray_st.planning.rates import LabelRates
from ray_st.planning.rooms import Shape


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
    """Play the labelling of so many images through.

    Raises `UserError` where spot nodes are taken away before what they hold is written.
    """
    scenario = scenario_of(rates, fleet, label, shape, images, assume)
    found = play(scenario)
    if found.is_hopeless:
        raise UserError(
            "assume.interruptions_per_hour: must leave spot nodes the time to write what they "
            f"label, a file of {label.file_images} images, got {assume.interruptions_per_hour:g}; "
            "lower label.file_images or label.block_images, or name a --cluster of nodes that stay"
        )
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
