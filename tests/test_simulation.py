"""The simulator of labelling: what must hold whatever happens, and cases that paper can solve."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_st.planning.played import play
from ray_st.planning.scenario import Node, Scenario
from ray_st.planning.simulation import simulate

pytestmark = pytest.mark.pure

ONE = Scenario(
    images=8000,
    read_s=0.01,
    predict_s=0.02,
    write_s=0.0,
    nodes=(Node(cores=4, teachers=1),),
    readers=4,
    block_images=100,
    blocks_a_file=1,
)


def spot(count: int, cores: int = 2, teachers: int = 1) -> tuple[Node, ...]:
    steady = Node(cores=2, teachers=1)
    return (steady, *[Node(cores=cores, teachers=teachers, is_spot=True)] * count)


def test_one_block_goes_through_all_stages_one_after_the_other() -> None:
    found = simulate(replace(ONE, images=100, write_s=0.005, start_s=7.0, publish_s=2.0))
    # 7 of start, 100 x (0.01 + 0.02 + 0.005), 2 of publishing
    assert found.seconds == pytest.approx(7 + 3.5 + 2)
    assert (found.images, found.read, found.labelled, found.redone) == (100, 100, 100, 0)
    assert found.busy_s == pytest.approx({"read": 1.0, "predict": 2.0, "write": 0.5})
    assert found.closed_s == 9.0


def test_a_slow_teacher_sets_the_pace() -> None:
    # 80 blocks of 2 s each behind the first block's reading of 1 s
    assert simulate(ONE).seconds == pytest.approx(1 + 80 * 2)


def test_a_slow_reader_sets_the_pace() -> None:
    # one reader: 80 blocks of 4 s, then the last block's 2 s of labelling
    found = simulate(replace(ONE, read_s=0.04, readers=1))
    assert found.seconds == pytest.approx(80 * 4 + 2)


def test_a_slow_writer_sets_the_pace() -> None:
    # one core for all: each block costs 0 + 5 s of it, the teacher has its own
    nodes = (Node(cores=1, teachers=1),)
    found = simulate(replace(ONE, read_s=0.0, write_s=0.05, nodes=nodes))
    assert found.seconds == pytest.approx(2 + 80 * 5)


def test_readers_and_writers_share_their_cores() -> None:
    nodes = (Node(cores=1, teachers=4),)
    found = simulate(replace(ONE, write_s=0.03, nodes=nodes))
    assert found.seconds == pytest.approx(80 * (1 + 3), rel=0.02)


def test_teachers_without_cores_of_their_own_take_those_of_readers() -> None:
    nodes = (Node(cores=2, teachers=2),)
    found = simulate(replace(ONE, write_s=0.005, nodes=nodes, teacher_cores=1))
    # 80 x 100 x (0.01 + 0.02 + 0.005) s of work on two cores
    assert found.seconds == pytest.approx(280 / 2, rel=0.03)


def test_the_driver_gives_out_one_block_after_the_other() -> None:
    nodes = (Node(cores=64, teachers=64),)
    found = simulate(replace(ONE, nodes=nodes, readers=64, driver_s=0.5))
    assert found.seconds == pytest.approx(79 * 0.5 + 1 + 2)


def test_a_shard_is_whole_before_the_next_one_opens() -> None:
    found = simulate(replace(ONE, shard_images=2000, start_s=10.0, publish_s=3.0))
    # four times: start, the first block's reading, 20 blocks, publishing
    assert found.seconds == pytest.approx(4 * (10 + 1 + 20 * 2 + 3))


def test_a_file_waits_for_its_blocks_and_the_last_one_for_none() -> None:
    # 7 blocks in files of 3: two are full, the last has one block
    found = simulate(replace(ONE, images=700, write_s=0.1, blocks_a_file=3))
    assert found.busy_s["write"] == pytest.approx(70)
    # the seventh block is labelled at 1 + 14 s, and its file of one block takes 10 s
    # (earlier: 30 s from 7 s, 30 s from 13 s, side by side)
    assert found.seconds == pytest.approx(13 + 30)


def test_the_last_block_is_as_small_as_it_is() -> None:
    found = simulate(replace(ONE, images=130, readers=1))
    assert found.seconds == pytest.approx(1 + 2 + 0.6)
    assert found.images == 130


def test_what_is_read_ahead_is_bounded() -> None:
    # labelling a block takes 200 times as long as reading one, with 4 readers
    slow = replace(ONE, predict_s=2.0)
    assert simulate(slow).most_waiting <= 2 * 1 + 4
    assert simulate(replace(slow, ahead=10)).most_waiting > 2 * 1 + 4


def test_a_node_that_comes_late_helps_from_then_on() -> None:
    late = Node(cores=4, teachers=1, up_s=50)
    found = simulate(replace(ONE, nodes=(*ONE.nodes, late), readers=8, start_s=5.0))
    # one teacher from 5 + 1 s, the other from 50 + 5 s: 160 s of work
    assert found.seconds == pytest.approx((160 - 49) / 2 + 55, abs=2.0)


def test_a_node_that_was_taken_away_is_replaced_and_its_work_done_again() -> None:
    calm = replace(ONE, nodes=spot(3), readers=8, images=40_000)
    rough = replace(calm, interruptions_per_hour=60.0, restart_s=30.0)
    found = simulate(rough)
    assert found.interruptions > 0
    assert found.images == 40_000
    assert found.redone > 0
    assert found.seconds > simulate(calm).seconds


def test_how_often_nodes_are_taken_away() -> None:
    # 50 nodes, half an interruption an hour and node, gone for 36 s each: 25 x hours, nearly
    nodes = (Node(cores=200, teachers=1), *[Node(cores=0, teachers=1, is_spot=True)] * 50)
    found = simulate(
        replace(
            ONE, nodes=nodes, readers=200, images=9_000_000, predict_s=0.1,
            interruptions_per_hour=0.5, restart_s=36.0,
        )
    )  # fmt: skip
    hours = found.seconds / 3600
    assert hours > 4
    assert found.interruptions == pytest.approx(25 * hours, rel=0.35)  # 3 deviations of 120


def test_one_seed_one_course() -> None:
    rough = replace(ONE, nodes=spot(4), readers=8, interruptions_per_hour=120, restart_s=20)
    assert simulate(rough) == simulate(rough)
    assert simulate(rough) != simulate(replace(rough, seed=1))


_SECONDS = st.sampled_from([0.0, 0.001, 0.004, 0.02, 0.1])
_SCENARIOS = st.builds(
    Scenario,
    images=st.integers(1, 5000),
    read_s=_SECONDS,
    predict_s=st.sampled_from([0.001, 0.004, 0.02, 0.1]),
    write_s=_SECONDS,
    nodes=st.integers(0, 5).map(spot),
    readers=st.integers(1, 12),
    block_images=st.integers(1, 300),
    blocks_a_file=st.integers(1, 9),
    shard_images=st.integers(300, 3000),
    start_s=st.sampled_from([0.0, 5.0]),
    publish_s=st.sampled_from([0.0, 1.0]),
    driver_s=st.sampled_from([0.0, 0.05]),
    ahead=st.integers(1, 4),
    interruptions_per_hour=st.sampled_from([0.0, 10.0, 500.0]),
    restart_s=st.sampled_from([1.0, 60.0]),
    seed=st.integers(0, 2**31),
)


def capacity(case: Scenario) -> float:
    """Images a second that no course of events can exceed."""
    cores = sum(node.cores for node in case.nodes)
    limits = [
        sum(node.teachers for node in case.nodes) / case.predict_s,
        min(case.readers, cores) / max(1e-9, case.read_s),
        cores / max(1e-9, case.read_s + case.write_s),
    ]
    return min(limits)


@settings(max_examples=150, deadline=None)
@given(_SCENARIOS)
def test_every_image_is_labelled_once_and_no_stage_outruns_itself(case: Scenario) -> None:
    found = simulate(case)
    if found.is_hopeless:  # broken off
        assert found.lost + found.interruptions > 20 * found.images / case.block_images
        return
    assert found.images == case.images
    assert found.read >= found.labelled - 1e-9 >= found.images - 1e-9
    assert found.images_per_s <= capacity(case) * (1 + 1e-9)
    blocks = -(-case.images // case.block_images)
    assert found.seconds >= (blocks - 1) * case.driver_s * (1 - 1e-9)
    if case.interruptions_per_hour == 0:
        assert (found.read, found.labelled, found.redone) == (case.images, case.images, 0)
        work = {"read": case.read_s, "predict": case.predict_s, "write": case.write_s}
        assert found.busy_s == pytest.approx({k: v * case.images for k, v in work.items()})


@settings(max_examples=60, deadline=None)
@given(_SCENARIOS)
def test_a_long_shard_runs_at_the_pace_of_its_slowest_stage(case: Scenario) -> None:
    images = 400 * case.block_images
    calm = replace(
        case, images=images, shard_images=images, interruptions_per_hour=0.0, start_s=0.0,
        ahead=4, publish_s=0.0, blocks_a_file=1,
    )  # fmt: skip
    driver = calm.block_images / max(1e-9, calm.driver_s)
    assert simulate(calm).images_per_s >= 0.85 * min(driver, capacity(calm))


@settings(max_examples=60, deadline=None)
@given(_SCENARIOS, st.integers(1, 4))
def test_more_of_anything_is_never_much_slower(case: Scenario, more: int) -> None:
    """Not exactly: which block ends last may cost the time of one."""
    calm = replace(case, interruptions_per_hour=0.0)
    file = calm.block_images * calm.blocks_a_file
    shards = -(-calm.images // calm.shard_images)
    slack = shards * (
        calm.block_images * (calm.read_s + calm.predict_s) + file * calm.write_s + calm.driver_s
    )
    before = simulate(calm).seconds
    for richer in (
        replace(calm, nodes=(*calm.nodes, *spot(more)[1:])),
        replace(calm, nodes=tuple(replace(n, cores=n.cores + more) for n in calm.nodes)),
        replace(calm, readers=calm.readers + more),
    ):
        assert simulate(richer).seconds <= before + slack + 1e-6


def test_300_million_images_on_hundreds_of_accelerators_in_seconds() -> None:
    nodes = (
        *[Node(cores=64)] * 40,
        *[Node(cores=4, teachers=4, up_s=240.0, is_spot=True)] * 75,
    )
    case = Scenario(
        images=300_000_000, read_s=0.01, predict_s=0.004, write_s=0.0005, nodes=nodes,
        readers=2700, start_s=20.0, publish_s=5.0, driver_s=0.005,
        interruptions_per_hour=0.05, restart_s=300.0,
    )  # fmt: skip
    begun = time.process_time()
    found = simulate(case)
    took = time.process_time() - begun
    assert found.images == 300_000_000
    assert found.interruptions > 0
    assert took < 30  # some 8 s on a core of 2026; a shared one is slower


MANY = replace(
    ONE, images=60_000, shard_images=1000, start_s=7.0, publish_s=2.0,
    nodes=(*ONE.nodes, Node(cores=4, teachers=1, up_s=50)),
)  # fmt: skip


def test_some_shards_stand_for_very_many() -> None:
    some, all_of_them = play(MANY, most_blocks=200), simulate(MANY)
    # 10 shards with a node that comes late, and 10 with it for the 50 that follow
    assert some.seconds == pytest.approx(all_of_them.seconds)
    assert (some.images, some.read, some.labelled) == (60_000, 60_000, 60_000)
    assert some.closed_s == pytest.approx(all_of_them.closed_s)
    assert some.busy_s == pytest.approx(all_of_them.busy_s)
    # of a last shard that is half as large, half of one is counted
    odd = replace(MANY, images=60_500)
    assert play(odd, most_blocks=200).seconds == pytest.approx(simulate(odd).seconds, abs=10)
    assert play(replace(MANY, images=20_000), most_blocks=200) == simulate(
        replace(MANY, images=20_000)
    )


def test_interruptions_of_some_shards_stand_for_those_of_very_many() -> None:
    rough = replace(
        MANY, nodes=spot(4), readers=8, interruptions_per_hour=20.0, restart_s=30.0, images=900_000
    )
    some, all_of_them = play(rough, most_blocks=1000), simulate(rough)
    assert some.seconds == pytest.approx(all_of_them.seconds, rel=0.05)
    assert all_of_them.interruptions > 100
    assert some.interruptions == pytest.approx(all_of_them.interruptions, rel=0.3)


def test_any_number_of_images_in_seconds() -> None:
    nodes = (Node(cores=32), *[Node(cores=7, teachers=1, up_s=240.0, is_spot=True)] * 32)
    case = replace(
        ONE, images=10**12, read_s=0.01, predict_s=0.004, nodes=nodes, readers=200,
        block_images=512, blocks_a_file=8, shard_images=1_000_000, start_s=20.0, publish_s=2.0,
        interruptions_per_hour=0.05, restart_s=240.0,
    )  # fmt: skip
    begun = time.process_time()
    found = play(case)
    assert time.process_time() - begun < 30
    assert found.images == 10**12
    # a million times start and end, the first block's reading, and 62 rounds of 32 blocks
    assert found.seconds == pytest.approx(10**6 * (22 + 5.12 + 62 * 512 * 0.004), rel=0.05)


def test_what_is_lost_before_it_is_written_is_broken_off() -> None:
    # a block takes 100 s of a teacher, a file ten blocks; nodes live 36 s
    nodes = (Node(cores=2), *[Node(cores=2, teachers=1, is_spot=True)] * 4)
    doomed = replace(
        ONE, predict_s=1.0, nodes=nodes, blocks_a_file=10, interruptions_per_hour=100.0,
        restart_s=10.0,
    )  # fmt: skip
    begun = time.process_time()
    found = simulate(doomed)
    assert time.process_time() - begun < 10
    assert found.is_hopeless
    assert found.images < 800
    assert play(replace(doomed, images=10**9, shard_images=8000)).is_hopeless
    calm = simulate(replace(doomed, interruptions_per_hour=1.0))
    assert not calm.is_hopeless
    assert calm.images == doomed.images
    # nor do nodes that never live until they are ready
    assert simulate(replace(
        doomed, nodes=nodes[1:], start_s=60.0, interruptions_per_hour=36_000.0,
    )).is_hopeless  # fmt: skip
