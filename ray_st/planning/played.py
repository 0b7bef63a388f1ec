"""A pool of any size played through: of very many shards some, for they are alike.

In: a `Scenario`. Out: its `Outcome`. Next: `rooms.py`.
"""

from __future__ import annotations

from dataclasses import replace

from ray_st.planning.scenario import Outcome, Scenario
from ray_st.planning.simulation import simulate

MOST_BLOCKS = 600_000  # that are played through one by one


def play(scenario: Scenario, most_blocks: int = MOST_BLOCKS) -> Outcome:
    """Play the first shards, then as many with all nodes up, which stand for all that follow.

    `most_blocks`: of a pool that has fewer, all are played.
    """
    images, a_shard = scenario.images, scenario.shard_images
    blocks_a_shard = -(-a_shard // scenario.block_images)
    each = max(1, most_blocks // 2 // blocks_a_shard) * a_shard
    if images <= 2 * each:
        return simulate(scenario)
    first = simulate(replace(scenario, images=each))
    up = tuple(replace(node, up_s=0.0) for node in scenario.nodes)
    later = simulate(replace(scenario, images=each, nodes=up, seed=scenario.seed + 1))
    if first.is_hopeless or later.is_hopeless:
        return replace(first, is_hopeless=True)
    times = (images - each) / each

    def count(one: int, other: int) -> int:
        return one + round(other * times)

    return Outcome(
        seconds=first.seconds + later.seconds * times,
        images=images,
        read=count(first.read, later.read),
        labelled=count(first.labelled, later.labelled),
        interruptions=count(first.interruptions, later.interruptions),
        lost=count(first.lost, later.lost),
        busy_s={
            stage: spent + later.busy_s[stage] * times for stage, spent in first.busy_s.items()
        },
        most_waiting=max(first.most_waiting, later.most_waiting),
        closed_s=first.closed_s + later.closed_s * times,
    )
