"""From rates and nodes to a plan: what is read, and arithmetic that paper can do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_st.config import UserError, as_dict, from_dict
from ray_st.labeling.config import LabelConfig
from ray_st.models import ModelConfig
from ray_st.planning.assumptions import AssumeConfig
from ray_st.planning.comparison import (
    basis_for,
    label_outcome,
    labelling_basis,
    train_outcome,
    training_basis,
)
from ray_st.planning.earlier import rates_of_run
from ray_st.planning.fleet import Fleet, NodeType, read_cluster, read_prices
from ray_st.planning.labelling import foretold
from ray_st.planning.limits import limits_of, scenario_of
from ray_st.planning.plan import Basis, Plan, read_basis, require_writable
from ray_st.planning.rates import Alone, LabelRates, TrainRates
from ray_st.planning.rooms import Shape, cores_per_teacher, placed
from ray_st.planning.shapes import best_shape, recipe_shape
from ray_st.planning.training import foretold_training
from ray_st.planning.wording import outcome_words, plan_lines
from ray_st.training.joint import JointConfig
from ray_st.training.schedule import TrainConfig
from ray_st.verbs.plan import price_warnings

pytestmark = pytest.mark.pure

RATES = LabelRates(
    read_s=0.010, predict_s=0.004, write_s=0.002, start_s=10.0, in_bytes=50_000, out_bytes=2_000,
    view_bytes=3 * 64**2, device="cuda", shares_cores=False, source="a test",
)  # fmt: skip
STEPS = TrainRates(
    fixed_s=0.1, image_s=0.01, load_s=0.02, gradient_bytes=125e6, device="cuda", source="a test"
)
GPU = LabelConfig(gpus_per_actor=1, actors=(1, 400), readers=8)
CALM = AssumeConfig(interruptions_per_hour=0.0, node_start_s=100.0)
CLUSTER: dict[str, Any] = {
    "cluster_name": "photos",
    "max_workers": 40,
    "provider": {"type": "aws", "region": "us-east-1"},
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "node_config": {"InstanceType": "m5.2xlarge"}},
        "decode": {
            "resources": {"CPU": 32},
            "min_workers": 1,
            "max_workers": 90,
            "node_config": {"InstanceType": "c6i.8xlarge"},
        },
        "teacher": {
            "resources": {"CPU": 8, "GPU": 4},
            "max_workers": 10,
            "node_config": {
                "InstanceType": "g5.12xlarge",
                "InstanceMarketOptions": {"MarketType": "spot"},
            },
        },
        "student": {
            "resources": {"CPU": 16, "GPU": 4},
            "max_workers": 2,
            "node_config": {"InstanceType": "g5.12xlarge"},
        },
    },
}


def written(folder: Path, text: Any, name: str = "cluster.yaml") -> str:
    (folder / name).write_text(yaml.safe_dump(text, sort_keys=False))
    return str(folder / name)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return read_cluster(written(tmp_path, CLUSTER))


def test_a_launcher_file(fleet: Fleet) -> None:
    assert {kind.name: (kind.cores, kind.accelerators, kind.least, kind.most, kind.is_spot)
            for kind in fleet.types} == {
        "head": (0, 0, 1, 1, False),
        "decode": (32, 0, 1, 40, False),  # 90, and 40 of all kinds together
        "teacher": (8, 4, 0, 10, True),
        "student": (16, 4, 0, 2, False),
    }  # fmt: skip
    assert [kind.name for kind in fleet.workers] == ["decode", "teacher", "student"]


def test_a_launcher_file_with_anchors_and_merges(tmp_path: Path) -> None:
    (tmp_path / "merged.yaml").write_text(
        """
head_node_type: head
max_workers: 3
available_node_types:
  head:
    resources: {CPU: 2}
    node_config: &node {InstanceType: small, InstanceMarketOptions: {MarketType: spot}}
  more:
    resources: {CPU: 4}
    max_workers: 3
    node_config: {<<: *node, InstanceType: large}
"""
    )
    head, more = read_cluster(str(tmp_path / "merged.yaml")).types
    assert (head.instance, more.instance, more.is_spot, more.most) == ("small", "large", True, 3)


def cluster(tmp_path: Path, most: int | None, types: dict[str, dict[str, Any]]) -> Fleet:
    """A file with a head without cores, read."""
    kinds = {"head": {"resources": {"CPU": 0}}} | types
    text: dict[str, Any] = {"head_node_type": "head", "available_node_types": {
        name: {"node_config": {}} | kind for name, kind in kinds.items()
    }}  # fmt: skip
    if most is not None:
        text["max_workers"] = most
    return read_cluster(written(tmp_path, text))


DECODE: dict[str, Any] = {"resources": {"CPU": 32}}
TEACHER: dict[str, Any] = {"resources": {"CPU": 8, "GPU": 1}}


def test_max_workers_bounds_all_types_together(tmp_path: Path) -> None:
    found = cluster(tmp_path, 4, {
        "decode": DECODE | {"max_workers": 10}, "teacher": TEACHER | {"max_workers": 10},
    })  # fmt: skip
    # 10 teachers were asked for: 4 nodes, and none is left to decode
    shape = recipe_shape(RATES, found, replace(GPU, actors=(1, 10), readers=64))
    assert (shape.teachers, shape.nodes) == (4, {"head": 1, "decode": 0, "teacher": 4})
    # 28 cores beside the teachers; of 12 ms that an image takes of them 10 are reading
    assert shape.readers == 24
    # a teacher wants 3 cores, its node has 7 beside it
    assert best_shape(RATES, found, GPU).nodes == {"head": 1, "decode": 0, "teacher": 4}
    # those that are up from the beginning count too
    kept = cluster(tmp_path, 4, {
        "decode": DECODE | {"min_workers": 3}, "teacher": TEACHER | {"max_workers": 10},
    })  # fmt: skip
    assert recipe_shape(RATES, kept, GPU).nodes == {"head": 1, "decode": 3, "teacher": 1}


def test_max_workers_that_a_file_does_not_say(tmp_path: Path) -> None:
    def bounds(found: Fleet) -> list[tuple[int, int]]:
        return [(kind.least, kind.most) for kind in found.types]

    # a type without takes that of all, the head without is alone
    unsaid = cluster(tmp_path, 8, {"teacher": TEACHER | {"min_workers": 2}})
    assert bounds(unsaid) == [(1, 1), (2, 8)]
    assert bounds(cluster(tmp_path, 4, {"decode": DECODE, "teacher": TEACHER})) == [
        (1, 1), (0, 4), (0, 4),
    ]  # fmt: skip
    assert bounds(cluster(tmp_path, None, {"teacher": TEACHER | {"max_workers": 9}}))[1] == (0, 2)
    own = {"resources": {"CPU": 4}, "min_workers": 1, "max_workers": 3}
    assert bounds(cluster(tmp_path, 5, {"head": own})) == [(2, 4)]  # and itself
    with pytest.raises(
        UserError, match="max_workers: must be at least the sum of all min_workers, 6"
    ):
        cluster(tmp_path, 2, {"teacher": TEACHER | {"min_workers": 6, "max_workers": 6}})


def test_fleets_as_ray_reads_the_same_file(tmp_path: Path) -> None:
    from ray.autoscaler._private.util import fill_node_type_min_max_workers

    text = json.loads(json.dumps(CLUSTER))
    for name in ("decode", "student"):
        del text["available_node_types"][name]["max_workers"]
    found = read_cluster(written(tmp_path, text))
    fill_node_type_min_max_workers(text)
    for kind in found.types:
        theirs = text["available_node_types"][kind.name]
        own = (kind.least - kind.is_head, kind.most - kind.is_head)
        assert own == (theirs["min_workers"], theirs["max_workers"])


def test_teachers_stand_on_nodes_of_their_labels(tmp_path: Path) -> None:
    found = cluster(tmp_path, 10, {
        "decode": DECODE,
        "teacher": TEACHER | {"max_workers": 4, "labels": {"pool": "teacher", "zone": "a"}},
        "student": {
            "resources": {"CPU": 48, "GPU": 4}, "max_workers": 2, "labels": {"pool": "student"},
        },
    })  # fmt: skip
    assert recipe_shape(RATES, found, GPU).teachers == 12
    chosen = replace(GPU, nodes=("pool=teacher",))
    for shape in (recipe_shape(RATES, found, chosen), best_shape(RATES, found, chosen)):
        assert (shape.teachers, shape.nodes["teacher"], shape.nodes["student"]) == (4, 4, 0)
    said = (
        r"label\.nodes: no node type of .* that may work has pool=tuna \(there is pool=student pool"
    )
    with pytest.raises(UserError, match=said):
        recipe_shape(RATES, found, replace(GPU, nodes=("pool=tuna",)))
    with pytest.raises(
        UserError, match=r"and no node of \S+ with pool=teacher zone=a has them; lower"
    ):
        recipe_shape(RATES, found, replace(
            GPU, nodes=("pool=teacher", "zone=a"), gpus_per_actor=2,
        ))  # fmt: skip
    train = TrainConfig(use_gpu=True, batch_size=64, nodes=("pool=student",), loaders=1)

    def workers(train: TrainConfig) -> list[dict[str, float]]:
        return [
            dict.fromkeys(each.node_hours, each.workers)
            for each in foretold_training(STEPS, found, train, CALM, has_pseudo=True)
        ]

    assert workers(train)[-1] == {"student": 8}
    assert workers(replace(train, nodes=("pool=teacher",)))[-1] == {"teacher": 4}
    assert workers(replace(train, nodes=("pool=tuna",))) == []


def test_this_machine_has_any_label() -> None:
    label = LabelConfig(actors=(1, 2), nodes=("pool=teacher",))
    assert recipe_shape(RATES, here(2), label).teachers == 2
    plan = Plan.of(replace(basis(here(2)), label=label))
    assert ("assumed", "this machine has the labels pool=teacher") in [*plan_lines(plan)]


@pytest.mark.parametrize("config", [
    {"scheduling": {"provisioningModel": "SPOT"}},
    {"scheduling": [{"preemptible": True}]},
])  # fmt: skip
def test_spot_nodes_of_google(tmp_path: Path, config: dict[str, Any]) -> None:
    text = json.loads(json.dumps(CLUSTER))
    text["available_node_types"]["student"]["node_config"] = {"machineType": "a2", **config}
    found = read_cluster(written(tmp_path, text)).types[-1]
    assert (found.is_spot, found.instance) == (True, "a2")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["available_node_types"], None, "available_node_types: must be a mapping of node types"),
        (["head_node_type"], "hed", "head_node_type: must be one of head, decode, teacher, "),
        (
            ["available_node_types", "decode", "resources"],
            {},
            "available_node_types.decode.resources: must be a mapping that names CPU",
        ),
        (
            ["available_node_types", "decode", "max_workers"],
            -1,
            "decode.max_workers: must be a whole number, 0 or more, got -1",
        ),
        (
            ["available_node_types", "teacher", "resources", "GPU"],
            0.5,
            "teacher.resources.GPU: must be a whole number, 0 or more, got 0.5",
        ),
        (
            ["available_node_types", "student", "node_config"],
            None,
            "node_config: must be a mapping",
        ),
    ],
)
def test_a_wrong_launcher_file(tmp_path: Path, path: list[str], value: Any, said: str) -> None:
    text = json.loads(json.dumps(CLUSTER))
    inner = text
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    file = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_cluster(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)


def test_prices(tmp_path: Path, fleet: Fleet) -> None:
    prices = {"g5.12xlarge": 5.5, "teacher": 1.5, "c6i.8xlarge": 1.36}
    listed = tmp_path / "prices.csv"
    listed.write_text("name,usd_per_hour\n" + "\n".join(f"{n},{p}" for n, p in prices.items()))
    file = written(tmp_path, prices, "prices.yaml")
    assert read_prices(file) == read_prices(str(listed)) == prices
    priced = fleet.priced(prices)
    # a node type's own price goes before that of its instance type
    assert [kind.price_per_hour for kind in priced.types] == [None, 1.36, 1.5, 5.5]
    assert priced.cost_per_hour({"decode": 2, "teacher": 10, "head": 0}) == pytest.approx(17.72)
    assert priced.cost_per_hour({"decode": 2, "head": 1}) is None
    assert fleet.cost_per_hour({"decode": 1}) is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.yaml", "teacher: cheap\n", "p.yaml: teacher: must be dollars an hour, 0 or more"),
        ("p.yaml", "teacher: -1\n", "p.yaml: teacher: must be dollars an hour, 0 or more"),
        ("p.yaml", "teacher: .inf\n", "p.yaml: teacher: must be .* finite, got inf"),
        ("p.yaml", f"teacher: {10**400}\n", "p.yaml: teacher: must be .* finite, got 1000"),
        ("p.csv", "teacher,.nan\n", "p.csv: teacher: must be .* finite, got nan"),
        ("p.csv", "teacher,1,2\n", "p.csv: line 1: must be a name and a price"),
        ("p.csv", "teacher,1\nteacher,2\n", "p.csv: teacher: must be named once"),
    ],
)
def test_wrong_prices(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_prices(str(tmp_path / name))


def test_prices_that_nothing_has(fleet: Fleet) -> None:
    prices = {"teachr": 1.5, "c6i.8xlarge": 1.36, "student": 5.5, "m5.2xlarge": 0.4}
    odd, none = price_warnings("p.yaml", prices, fleet.priced(prices))
    assert odd == f"p.yaml: no node type or instance type of {fleet.name}: teachr"
    assert none == "p.yaml: no price of teacher: no cost is said where such nodes are used"
    prices["teacher"] = prices.pop("teachr")
    assert price_warnings("p.yaml", prices, fleet.priced(prices)) == []
    region = prices | {f"x{n}.large": 1.0 for n in range(9)}
    (odd,) = price_warnings("p.yaml", region, fleet.priced(region))
    assert odd.endswith(": x0.large, x1.large, x2.large, x3.large, x4.large and 4 more")


def test_where_a_plan_can_be_left(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for out in (tmp_path / "old", tmp_path / "new" / "plan"):
        require_writable(str(out))
        require_writable(out.as_uri())
    assert [each.name for each in tmp_path.rglob("*")] == ["old"]
    with pytest.raises(UserError, match=r"out: /proc/x cannot be written \(.+\); pass --out with"):
        require_writable("/proc/x")


def test_the_recipe_is_the_limit(fleet: Fleet) -> None:
    shape = recipe_shape(RATES, fleet, GPU)
    # 400 teachers were asked for; 10 spot nodes have room for 4 each
    assert (shape.teachers, shape.readers) == (40, 8)
    assert shape.nodes == {"head": 1, "decode": 1, "teacher": 10, "student": 0}
    found = foretold(RATES, fleet, GPU, shape, 1_000_000, CALM)
    assert found.limits["read"] == pytest.approx(8 / 0.010)
    assert found.limits["predict"] == pytest.approx(40 / 0.004)
    assert (found.limit, found.steady_images_per_s) == ("read", pytest.approx(800))
    # 1250 s of reading, behind 100 s until nodes come and 10 s of start; then a last file of 8 s
    # (4096 images), and 2 s to close the shard
    assert found.hours * 3600 == pytest.approx(1250 + 100 + 10 + 8 + 2, abs=3)
    assert found.node_hours["teacher"] == pytest.approx(10 * found.hours)
    assert (found.in_bytes, found.out_bytes) == (50e9, 2e9)
    assert found.cost is None


def test_the_best_shape_feeds_all_teachers(fleet: Fleet) -> None:
    assert cores_per_teacher(RATES) == pytest.approx(3.0)
    shape = best_shape(RATES, fleet, GPU)
    # 40 teachers at 250 images/s want 100 cores that read, and a tenth more
    assert (shape.teachers, shape.readers) == (40, 110)
    # 110 readers and the 40 cores of teachers: 80 of these on their own nodes, the rest on 32 each
    assert shape.nodes["decode"] == 3
    eager = replace(CALM, driver_blocks_per_s=1000.0)
    found = foretold(RATES, fleet, GPU, shape, 20_000_000, eager)
    assert found.limit == "predict"
    assert found.steady_images_per_s == pytest.approx(10_000)


def test_fewer_teachers_where_cores_cannot_feed_them(fleet: Fleet) -> None:
    few = replace(fleet, types=tuple(
        replace(kind, most=1) if kind.name == "decode" else kind for kind in fleet.types
    ))  # fmt: skip
    shape = best_shape(replace(RATES, read_s=0.1), few, GPU)
    # 32 + 80 cores, one of them each teacher's; it wants 25.5 more: 4 are fed and 1000 images/s,
    # of 5 the cores are the limit, 107 / 0.102 = 1049
    assert shape.teachers == 5


def nodes_of(count: int, cores: int, gpus: int, *, spot: bool = True) -> Fleet:
    head = NodeType(name="head", cores=0, is_head=True, least=1)
    kind = NodeType(name="node", cores=cores, accelerators=gpus, most=count, is_spot=spot)
    return Fleet(name="a test", types=(head, kind))


@pytest.mark.parametrize(
    ("found", "gpus", "cpus"),
    [
        (nodes_of(8, 8, 1), 0.25, 2.0),  # 32 teachers would take all 64 cores
        (nodes_of(8, 8, 1), 0.1, 1.0),
        (nodes_of(8, 8, 1), 0.5, 2.0),
        (nodes_of(8, 8, 1), 1.0, 1.0),
        (nodes_of(4, 1, 1), 1.0, 1.0),  # four cores in all
        (nodes_of(4, 1, 0), 0.0, 1.0),
        (nodes_of(5, 3, 0), 0.0, 0.5),
    ],
)
@pytest.mark.parametrize("predict_s", [0.0025, 0.02])
def test_no_shape_is_much_faster_than_the_best(
    found: Fleet, gpus: float, cpus: float, predict_s: float
) -> None:
    rates = replace(RATES, predict_s=predict_s, write_s=0.0005)
    label = LabelConfig(actors=(1, 8), readers=48, gpus_per_actor=gpus, cpus_per_actor=cpus)

    def speed(shape: Shape) -> float:
        return min(limits_of(scenario_of(rates, found, label, shape, 1_000_000, CALM)).values())

    best = best_shape(rates, found, label, 1_000_000, CALM)
    others = [
        placed(rates, found, label, teachers, readers)
        for teachers in range(1, 41)
        for readers in (1, 2, 3, 5, 8, 12, 16, 24, 32, 48, 64)
    ]
    assert speed(best) >= 0.99 * max(map(speed, others))
    assert speed(best) >= speed(recipe_shape(rates, found, label))


def test_teachers_that_fill_the_nodes_leave_a_core_to_read_with() -> None:
    label = LabelConfig(actors=(1, 8), gpus_per_actor=1)
    assert recipe_shape(RATES, nodes_of(4, 1, 1), label).teachers == 3
    with pytest.raises(UserError, match=r"label\.cpus_per_actor: one teacher leaves no core of"):
        recipe_shape(RATES, nodes_of(1, 1, 1), label)
    with pytest.raises(UserError, match=r"label\.actors: must be at least 1 teacher to be planned"):
        recipe_shape(RATES, nodes_of(4, 1, 1), replace(label, actors=(0, 0)))


def test_the_driver_is_a_limit_too(fleet: Fleet) -> None:
    slow = replace(CALM, driver_blocks_per_s=2.0)
    found = foretold(RATES, fleet, GPU, best_shape(RATES, fleet, GPU), 2_000_000, slow)
    assert found.limit == "driver"
    assert found.steady_images_per_s == pytest.approx(2 * 512)


def test_no_more_teachers_than_the_driver_can_feed() -> None:
    """The nodes of clusters/aws.yaml and the prices of docs/guide/scale.md."""
    kinds = (
        NodeType(name="head", cores=0, is_head=True, least=1),
        NodeType(name="decode", cores=32, most=16, is_spot=True),
        NodeType(name="teacher", cores=8, accelerators=1, most=32, is_spot=True),
    )
    prices = {"head": 0.4, "decode": 0.6, "teacher": 1.7}
    found = Fleet(name="a test", types=kinds, most=51).priced(prices)
    rates = replace(RATES, predict_s=1 / 400, write_s=0.0005, view_bytes=3 * 640**2)
    label = replace(GPU, actors=(1, 32), readers=150)
    assume = AssumeConfig()
    # blocks of 109 images, 40 a second: 4360 images/s, what 11 teachers label
    best = best_shape(rates, found, label, 3_000_000, assume)
    assert (best.teachers, best.nodes) == (11, {"head": 1, "decode": 0, "teacher": 11})
    quick = replace(assume, driver_blocks_per_s=80.0)
    assert best_shape(rates, found, label, 3_000_000, quick).teachers == 22
    of_best, of_all = (
        foretold(rates, found, label, shape, 3_000_000, assume)
        for shape in (best, recipe_shape(rates, found, label))
    )
    assert of_all.shape.teachers == 32
    assert of_best.images_per_s > 0.98 * of_all.images_per_s
    assert of_best.cost is not None
    assert of_all.cost is not None
    assert of_best.cost < 0.4 * of_all.cost


def test_no_more_readers_than_the_driver_can_feed() -> None:
    label = LabelConfig(actors=(1, 4), readers=8)
    kinds = (
        NodeType(name="head", cores=0, is_head=True, least=1),
        NodeType(name="node", cores=4, most=4),
    )
    found = Fleet(name="a test", types=kinds)
    slow = replace(CALM, driver_blocks_per_s=1.0)
    shape = best_shape(RATES, found, label, 1_000_000, slow)
    # 512 images/s: 3 teachers, 6 readers with a tenth to spare, and a core that writes
    assert (shape.teachers, shape.readers, shape.nodes["node"]) == (3, 6, 3)


def test_of_shapes_nearly_as_fast_the_one_of_fewest_teachers_is_best() -> None:
    found, few = nodes_of(8, 8, 1), replace(GPU, readers=2)
    # 500.5 images/s of the driver's: two teachers label 500, three 750
    slow = replace(CALM, driver_blocks_per_s=500.5 / 512)
    assert best_shape(RATES, found, few, 1_000_000, slow).teachers == 2
    assert best_shape(RATES, found, GPU, 1_000_000, slow).teachers == 3  # the recipe's reach 500.5
    slow = replace(CALM, driver_blocks_per_s=1.0)  # 500 is 2 % less than 512
    assert best_shape(RATES, found, few, 1_000_000, slow).teachers == 3


def test_spot_nodes_that_go_before_a_file_is_whole(fleet: Fleet) -> None:
    slow = replace(RATES, predict_s=10.0)
    rough = replace(CALM, interruptions_per_hour=5.0, node_start_s=240.0)
    shape = recipe_shape(slow, fleet, GPU)
    with pytest.raises(UserError, match=r"assume\.interruptions_per_hour: must leave spot nodes"):
        foretold(slow, fleet, GPU, shape, 100_000, rough)
    small = replace(GPU, file_images=64, block_images=8)
    assert foretold(slow, fleet, small, shape, 10_000, rough).redone_share < 0.5
    with pytest.raises(
        UserError, match=r"assume\.node_start_s: must be 0 or more, and finite, got"
    ):
        AssumeConfig(node_start_s=float("inf"))


def test_blocks_of_many_images_are_played_as_one(fleet: Fleet) -> None:
    shape = recipe_shape(RATES, fleet, GPU)
    small = replace(GPU, block_images=8)
    case = scenario_of(RATES, fleet, small, shape, 10**10, CALM)
    assert (case.block_images, case.blocks_a_file) == (512, 8)
    assert case.driver_s == pytest.approx(512 / 8 / CALM.driver_blocks_per_s)


def test_large_views_travel_in_smaller_blocks(fleet: Fleet) -> None:
    shape = recipe_shape(RATES, fleet, GPU)
    large = replace(RATES, view_bytes=3 * 640**2)
    # 128 MiB hold 109 views of 640 px
    assert scenario_of(large, fleet, GPU, shape, 1_000_000, CALM).block_images == 109
    assert scenario_of(RATES, fleet, GPU, shape, 1_000_000, CALM).block_images == 512
    # what few images come to must keep all readers at work: 2000 / (4 x 8), but 64
    assert scenario_of(RATES, fleet, GPU, shape, 2000, CALM).block_images == 64


def here(cores: int) -> Fleet:
    return Fleet(name="this machine", types=(NodeType(name="this machine", cores=cores, least=1),),
                 is_here=True)  # fmt: skip


def test_on_one_machine_all_share_the_cores() -> None:
    rates = replace(RATES, device="cpu", shares_cores=True, start_s=0.0)
    label = LabelConfig(actors=(2, 2), readers=2)
    case = scenario_of(rates, here(2), label, recipe_shape(rates, here(2), label), 50_000, CALM)
    assert limits_of(case)["cores"] == pytest.approx(2 / 0.016)
    found = foretold(rates, here(2), label, recipe_shape(rates, here(2), label), 50_000, CALM)
    assert (found.limit, found.images_per_s) == ("cores", pytest.approx(125, rel=0.03))
    # what an earlier run took on shared cores is not shared out once more
    of_a_run = replace(rates, shares_cores=False)
    found = foretold(of_a_run, here(2), label, recipe_shape(of_a_run, here(2), label), 50_000, CALM)
    assert (found.limit, found.images_per_s) == ("read", pytest.approx(200, rel=0.03))


def test_on_one_machine_few_are_faster_each_than_many() -> None:
    alone = Alone(read_s=0.002, predict_s=0.008, write_s=0.0, start_s=4.0)
    rates = replace(
        RATES, device="cpu", shares_cores=True, write_s=0.0, read_s=0.004, predict_s=0.016,
        processes=5, alone=alone,
    )  # fmt: skip
    for busy, share in ((0, 0.0), (1, 0.0), (2, 0.25), (5, 1.0), (9, 1.0)):
        found = rates.at(busy)
        assert found.predict_s == pytest.approx(0.008 + share * 0.008)
        assert found.read_s == pytest.approx(0.002 + share * 0.002)
        assert found.start_s == pytest.approx(4 + share * 6)
        assert found.in_bytes == rates.in_bytes
    assert replace(rates, alone=None).at(1) == replace(rates, alone=None)
    # one teacher, and the quarter of a core that feeds it
    label = LabelConfig(actors=(1, 1), readers=2)
    shape = recipe_shape(rates, here(8), label)
    case = scenario_of(rates, here(8), label, shape, 50_000, CALM)
    assert case.predict_s == pytest.approx(0.008 + 0.25 / 4 * 0.008)
    # a teacher of four cores: that quarter is a sixteenth of a process
    wide = replace(label, cpus_per_actor=4)
    case = scenario_of(rates, here(8), wide, shape, 50_000, CALM)
    assert case.predict_s == pytest.approx(0.008 + 0.25 / 16 * 0.008)
    # nodes of a cluster are full
    assert (
        scenario_of(rates, replace(here(8), is_here=False), label, shape, 50_000, CALM).predict_s
        == 0.016
    )


def test_teachers_that_fit_on_no_node(fleet: Fleet) -> None:
    with pytest.raises(UserError, match=r"label\.gpus_per_actor: a teacher needs 1 CPUs and 8 GPU"):
        recipe_shape(RATES, fleet, replace(GPU, gpus_per_actor=8))


def test_training(fleet: Fleet) -> None:
    train = TrainConfig(
        steps=3600, batch_size=32, num_workers=8, use_gpu=True, cpus_per_worker=2, loaders=1
    )
    found = foretold_training(STEPS, fleet, train, CALM, has_pseudo=True)
    assert [each.workers for each in found] == [1, 2, 4, 8]  # 2 nodes that stay, 4 GPUs each
    one, _, four, eight = found
    # 0.1 + 64 x 0.01 s; loading 32 images takes a stream's process 0.64 s
    assert one.step_s == pytest.approx(0.74)
    assert (one.limit, one.images_per_s) == ("step", pytest.approx(64 / 0.74))
    assert one.hours == pytest.approx(0.74)
    assert one.node_hours == pytest.approx({"student": 0.74})
    assert four.step_s == pytest.approx(0.1 + 16 * 0.01)  # on one node: nothing to send
    # 2 x 7/8 x 125 MB at 1.25 GB/s
    assert eight.step_s == pytest.approx(0.1 + 8 * 0.01 + 0.175)
    assert eight.node_hours["student"] == pytest.approx(2 * eight.hours)
    slow = replace(STEPS, load_s=1.0)
    assert foretold_training(slow, fleet, train, CALM, has_pseudo=True)[0].limit == "load"
    narrow = replace(CALM, network_gbit=1.0)
    assert foretold_training(STEPS, fleet, train, narrow, has_pseudo=True)[-1].limit == "exchange"


def test_joint_training_is_a_stream_more(fleet: Fleet) -> None:
    train = TrainConfig(batch_size=32, use_gpu=True, cpus_per_worker=2, loaders=1)
    plain = foretold_training(STEPS, fleet, train, CALM, has_pseudo=True)[0]
    both = replace(train, joint=JointConfig(images="classes:photos", batch_size=16))
    joint = foretold_training(STEPS, fleet, both, CALM, has_pseudo=True)[0]
    assert joint.step_s == pytest.approx(plain.step_s + 16 * 0.01)
    assert joint.images_per_s == pytest.approx(80 / joint.step_s)


def test_workers_of_one_machine_share_its_cores() -> None:
    rates = replace(STEPS, device="cpu", load_s=0.0, fixed_s=0.0)
    train = TrainConfig(batch_size=8, cpus_per_worker=1, num_workers=4)
    found = foretold_training(rates, here(2), train, CALM, has_pseudo=False)
    four = found[-1]
    # 4 workers of 2 images each: 0.02 s of a core, on two cores
    assert (four.workers, four.limit, four.step_s) == (4, "cores", pytest.approx(0.04))


def basis(fleet: Fleet) -> Basis:
    return Basis(
        images=1_000_000, task="detection", model=ModelConfig(), fleet=fleet, assume=CALM,
        label=GPU, train=TrainConfig(), has_pseudo=True, label_rates=RATES, train_rates=STEPS,
    )  # fmt: skip


def test_a_plan_is_read_back(tmp_path: Path, fleet: Fleet) -> None:
    plan = Plan.of(basis(fleet))
    plan.write(str(tmp_path / "plan"))
    assert read_basis(str(tmp_path / "plan")) == plan.basis
    assert from_dict(Basis, as_dict(plan.basis)) == plan.basis
    lines = [f"{name} {line}" for name, line in plan_lines(plan)]
    said = "\n".join(lines)
    assert (
        "label as the recipe says, label.actors 40 and label.readers 8: 1,000,000 images in" in said
    )
    assert "limit: reading and decoding" in said
    assert "storage 50.0 GB of images in, 2.0 GB of labels out" in said
    assert "$" not in said  # no price is known
    assert said.count("assumed") >= 5


def test_larger_shards_are_advised_where_there_are_several(fleet: Fleet) -> None:
    slow_start = replace(RATES, start_s=400.0)

    def said(images: int) -> list[str]:
        plan = Plan.of(replace(basis(fleet), images=images, label_rates=slow_start))
        return [line for name, line in plan_lines(plan) if name == "start"]

    for one in (100, 1_000_000):
        assert said(one)
        assert all(line.endswith("of the time") for line in said(one))
    several = said(3_000_000)
    assert several
    assert all("larger shards (`ray-st index --shard-rows`)" in line for line in several)


def test_a_plan_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plan: nowhere holds no plan\.json; pass a folder that"):
        read_basis("nowhere")
    (tmp_path / "plan.json").write_text('{"format": 1}')
    with pytest.raises(
        UserError, match=r"plan.json is damaged \(KeyError\('basis'\)\); plan again"
    ):
        read_basis(str(tmp_path))


def test_which_plan_a_run_is_compared_with(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert basis_for(None, "detection", ModelConfig()) is None
    found = basis(fleet)
    Plan.of(found).write("runs/plan")
    assert basis_for(None, "detection", ModelConfig()) == found
    assert basis_for(None, "detection", ModelConfig(backbone="resnet50")) is None
    assert basis_for("runs/plan", "segmentation", None) == found  # asked for
    Path("runs/plan/plan.json").write_text("{")
    assert basis_for(None, "detection", ModelConfig()) is None
    with pytest.raises(UserError, match="damaged"):
        basis_for("runs/plan", "detection", ModelConfig())


def test_a_plan_without_room_for_a_run_is_not_compared_with_it(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gpus = replace(fleet, types=tuple(k for k in fleet.types if k.name in ("head", "teacher")))
    found = basis(gpus)
    Plan.of(found).write("runs/plan")
    task, model = "detection", ModelConfig()
    assert labelling_basis(None, task, model, GPU) == found
    # all nodes that have cores have accelerators, which a teacher on a core would leave idle
    on_cores = LabelConfig(actors=(1, 1), readers=1)
    assert labelling_basis(None, task, model, on_cores) is None
    with pytest.raises(UserError, match=r"plan: runs/plan has no such nodes \(label\.gpus_per"):
        labelling_basis("runs/plan", task, model, on_cores)
    with pytest.raises(UserError, match=r"plan: runs/plan .*label\.actors 0 0"):
        labelling_basis("runs/plan", task, model, LabelConfig(actors=(0, 0)))
    summary = {
        "speed": {"images_per_s": 500.0}, "seconds": {"label": 2000.0}, "warnings": ["few boxes"],
    }  # fmt: skip
    few, more = label_outcome(found, on_cores, summary)["warnings"]
    assert few == "few boxes"
    assert more.startswith("not compared with its plan: label.gpus_per_actor: a teacher needs 1 C")


def test_a_plan_without_such_a_training_is_not_compared_with_it(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = basis(fleet)
    Plan.of(found).write("runs/plan")
    task, model = "detection", ModelConfig()
    train = TrainConfig(use_gpu=True)
    human = training_basis(None, task, model, train, has_pseudo=False)
    assert human == replace(found, has_pseudo=False)
    many = replace(train, num_workers=12)  # of 8 accelerators that stay
    assert training_basis(None, task, model, many, has_pseudo=False) is None
    with pytest.raises(UserError, match="plan: runs/plan foretells no training of 12 workers on "):
        training_basis("runs/plan", task, model, many, has_pseudo=False)
    Plan.of(replace(found, train_rates=None)).write("runs/plan")
    assert training_basis(None, task, model, train, has_pseudo=False) is None


def test_how_near_a_run_came(fleet: Fleet) -> None:
    planned = basis(fleet)
    summary = {"speed": {"images_per_s": 500.0}, "seconds": {"label": 2000.0}}
    found = label_outcome(planned, GPU, summary)
    expected = foretold(
        RATES, fleet, GPU, recipe_shape(RATES, fleet, GPU), 1_000_000, CALM
    ).images_per_s
    assert found["plan"]["predicted_images_per_s"] == expected
    assert found["plan"]["off"] == pytest.approx(500 / expected - 1)
    assert outcome_words(found).startswith("predicted 730")
    assert outcome_words(found).endswith("images/s, measured 500 (-31%)")
    assert label_outcome(planned, GPU, {"speed": {}, "seconds": {"label": 1.0}}) == {}
    assert label_outcome(replace(planned, label_rates=None), GPU, summary) == {}
    assert outcome_words({}) == ""
    trained = train_outcome(planned, TrainConfig(use_gpu=True), 40.0)
    assert trained["plan"]["predicted_images_per_s"] == pytest.approx(32 / 0.42)
    assert train_outcome(planned, TrainConfig(use_gpu=True), None) == {}


def labelled_run(folder: Path) -> Path:
    """What `label` leaves, as far as a plan reads it."""
    run = folder / "labels"
    run.mkdir()
    speed = {
        "images_per_s": 50.0, "images_per_s_per_teacher": 25.0, "first_label_s": 20.0,
        "busy": {"read": 0.25, "predict": 0.75},
    }  # fmt: skip
    (run / "summary.json").write_text(json.dumps(
        {"verb": "label", "speed": speed, "seconds": {"label": 100.0}, "views": {"sides_px": [64]}}
    ))  # fmt: skip
    written(run, {"label": {"readers": 4, "gpus_per_actor": 1.0}}, "recipe.yaml")
    return run


def trained_run(run: Path) -> Path:
    """The same of `train`."""
    rows = [
        {"step": n, "images_per_s": rate} for n, rate in enumerate([5.0, 8.0, 40.0, 41.0, 39.0])
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "summary.json").write_text(json.dumps({"verb": "train", "student": {}}))
    written(run, {"train": {"num_workers": 2, "batch_size": 4}}, "recipe.yaml")
    return run


def test_what_an_earlier_labelling_knows(tmp_path: Path) -> None:
    run = labelled_run(tmp_path)
    found = rates_of_run(str(run))
    assert isinstance(found, LabelRates)
    # 5000 images in 80 s: 4 readers a quarter of it, 2 teachers three quarters
    assert found.read_s == pytest.approx(0.25 * 80 * 4 / 5000)
    assert found.predict_s == pytest.approx(0.75 * 80 * 2 / 5000)
    assert (found.start_s, found.device, found.shares_cores) == (20.0, "cuda", False)
    (run / "summary.json").write_text(json.dumps({"verb": "eval"}))
    with pytest.raises(
        UserError, match=r"from_runs: .* must be a finished folder of `ray-st label`"
    ):
        rates_of_run(str(run))


def test_what_an_earlier_training_knows(tmp_path: Path) -> None:
    trained_run(tmp_path)
    found = rates_of_run(str(tmp_path))
    assert isinstance(found, TrainRates)
    assert found.image_s == pytest.approx(2 / 40)
    assert "steps of 8 images on 2 workers" in found.source


def test_an_earlier_run_by_uri(tmp_path: Path) -> None:
    run = labelled_run(tmp_path)
    uri = run.as_uri()
    assert uri.startswith("file:///")
    assert replace(rates_of_run(uri), source="") == replace(rates_of_run(str(run)), source="")
    # a stage of a whole run has its recipe one folder above
    (run / "recipe.yaml").rename(tmp_path / "recipe.yaml")
    for same in (uri, str(run), f"{run}/"):
        found = rates_of_run(same)
        assert isinstance(found, LabelRates)
        assert found.device == "cuda"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("summary.json", '{"verb": "label"}', "(KeyError('seconds'))"),
        ("summary.json", '{"verb": "label", "speed": [1], "seconds": {"label": 1}}', "(Attribute"),
        ("summary.json", '{"verb": ["label"]}', "must be a finished folder of `ray-st label`"),
        ("raw/shard-00000/shard.json", "junk", "(JSONDecodeError('Expecting value"),
        ("raw/shard-00000/shard.json", "{}", "(KeyError('files'))"),
        ("recipe.yaml", "- label", "recipe.yaml: must be a mapping of sections"),
    ],
)
def test_a_damaged_earlier_labelling(tmp_path: Path, name: str, text: str, said: str) -> None:
    run = labelled_run(tmp_path)
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text(text)
    with pytest.raises(UserError) as caught:
        rates_of_run(str(run))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{}x\n", "[1]\n", '{"images_per_s": "many"}\n', "\xff"])
def test_a_damaged_earlier_training(tmp_path: Path, text: str) -> None:
    run = trained_run(tmp_path)
    (run / "metrics.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"from_runs: .* is damaged, or cannot be read \("):
        rates_of_run(str(run))
    (run / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"from_runs: .* is damaged, or cannot be read \(File"):
        rates_of_run(str(run))
