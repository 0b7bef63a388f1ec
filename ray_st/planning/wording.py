"""A plan in words, each assumption among them.

In: a `Plan`; what a run found of one. Out: lines, each with the word that it stands under. Next:
`ray_st.portable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ray_st.labeling.images import SHARD_IMAGES
from ray_st.planning.labelling import Labelling
from ray_st.planning.limits import PUBLISH_S
from ray_st.planning.plan import Plan
from ray_st.planning.rooms import cores_per_teacher
from ray_st.planning.training import Training

Line = tuple[str, str]

_LIMITS = {
    "read": "reading and decoding",
    "predict": "the teacher",
    "cores": "the cores, all of them",
    "driver": "the driver, which hands on one block after the other",
    "start": "the start of pools, shard by shard",
    "step": "the step",
    "load": "loading",
    "exchange": "the exchange of gradients",
}


def plan_lines(plan: Plan) -> Iterator[Line]:
    """All of it."""
    basis = plan.basis
    rates, trained = basis.label_rates, basis.train_rates
    if rates is not None:
        yield (
            "measured",
            f"labelling: {_ms(rates.read_s)} to read an image, {_ms(rates.predict_s)} to label it "
            f"({rates.device}), {_ms(rates.write_s)} to write it, {rates.start_s:.1f} s to start; "
            f"{rates.source}",
        )
        yield "shape", f"a teacher keeps {cores_per_teacher(rates):.2g} cores reading and writing"
    if trained is not None:
        yield (
            "measured",
            f"training: {_ms(trained.fixed_s)} a step and {_ms(trained.image_s)} an image of it "
            f"({trained.device}), {_ms(trained.load_s)} to load one; {trained.source}",
        )
    for name, found in (("as the recipe says", plan.recipe), ("the best shape", plan.best)):
        if found is not None:
            yield from _labelling(name, found)
    if plan.best is not None:
        stored = f"{_bytes(plan.best.in_bytes)} of images in, {_bytes(plan.best.out_bytes)} of "
        yield "storage", f"{stored}labels out"
    if trained is not None and not plan.training:
        where = basis.fleet.named(basis.train.nodes)
        yield "train", f"no node of {where} has room for a worker and its loaders"
    for each in plan.training:
        yield "train", _training(each, basis.train.num_workers)
    yield from (("assumed", line) for line in _assumed(plan))


def _labelling(name: str, found: Labelling) -> Iterator[Line]:
    shape = found.shape
    yield (
        "label",
        f"{name}, label.actors {shape.teachers} and label.readers {shape.readers}: "
        f"{found.images:,} images in {_hours(found.hours)}, {_rate(found.images_per_s)} images/s "
        f"(once all is up {_rate(found.steady_images_per_s)}); limit: {_LIMITS[found.limit]}",
    )
    spent = ", ".join(f"{count} {kind}" for kind, count in shape.nodes.items() if count)
    yield "nodes", f"{spent}: {_paid(found.node_hours, found.cost)}"
    if found.interruptions:
        yield (
            "spot",
            f"{found.interruptions:,} interruptions; {found.redone_share:.2%} of all labels are "
            "made in vain",
        )
    if found.starting_share > 0.1:
        # Of one shard the start stays what it is, however large that is.
        advice = ": larger shards (`ray-st index --shard-rows`) start less often"
        yield (
            "start",
            f"no shard is open {found.starting_share:.0%} of the time"
            f"{advice if found.images > SHARD_IMAGES else ''}",
        )


def _training(each: Training, wanted: int) -> str:
    mine = " (the recipe's)" if each.workers == max(1, wanted) else ""
    workers = "1 worker" if each.workers == 1 else f"{each.workers} workers"
    return (
        f"{workers}{mine}: {_rate(each.images_per_s)} images/s, {_hours(each.hours)}, "
        f"{_paid(each.node_hours, each.cost)}; limit: {_LIMITS[each.limit]}"
    )


def _paid(node_hours: Mapping[str, float], cost: float | None) -> str:
    hours = f"{sum(node_hours.values()):,.1f} node-hours"
    return hours if cost is None else f"{hours}, ${cost:,.2f}"


def _assumed(plan: Plan) -> Iterator[str]:
    basis = plan.basis
    assume, fleet = basis.assume, basis.fleet
    if basis.label_rates is not None:
        yield (
            f"the driver hands on {assume.driver_blocks_per_s:g} blocks a second, and closes a "
            f"shard of a million images in {1e6 * PUBLISH_S:.0f} s; every shard starts its pool "
            "anew"
        )
        yield "images lie as near, and weigh as much, as those that were measured"
    if plan.training:
        yield "a step takes a worker as long on its node as here; no start, no validation"
        if not fleet.is_here:
            yield f"between nodes {assume.network_gbit:g} Gbit/s, nothing hidden behind backward"
    if fleet.is_here:
        yield "this machine does nothing else"
        if nodes := (*basis.label.nodes, *basis.train.nodes):
            yield f"this machine has the labels {' '.join(dict.fromkeys(nodes))}"
        return
    yield (
        f"a core and an accelerator of {fleet.name} are as fast as where it was measured; nodes "
        f"beyond min_workers come after {assume.node_start_s:g} s, and all are paid for from the "
        "start to the end"
    )
    if any(kind.is_spot for kind in fleet.types):
        yield (
            f"a spot node is taken away {assume.interruptions_per_hour:g} times an hour, and "
            f"replaced after {assume.node_start_s:g} s"
        )


def outcome_words(summary: Mapping[str, Any]) -> str:
    """How near a run came to its plan; empty where there was none."""
    found = summary.get("plan")
    if not found:
        return ""
    predicted, measured = found["predicted_images_per_s"], found["measured_images_per_s"]
    return (
        f"predicted {_rate(predicted)} images/s, measured {_rate(measured)} ({found['off']:+.0%})"
    )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _hours(hours: float) -> str:
    if hours < 0.1:
        return f"{3600 * hours:.0f} s"
    return f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
