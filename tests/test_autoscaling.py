"""A labelling on an autoscaled cluster: nodes come, one is taken away, all go; no label is lost."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from chaos import Driver
from growth import TEACHERS, Growth, grown

from ray_st.labeling.images import open_pool
from ray_st.labeling.pool import read_raw

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.xdist_group("nodes"),
    pytest.mark.timeout(1800),  # nodes start slowly on shared cores
]

IMAGES, IMAGE_S = 240, 0.5


@pytest.fixture(scope="module")
def growth(tmp_path_factory: pytest.TempPathFactory) -> Growth:
    return grown(tmp_path_factory.mktemp("growth"), images=IMAGES, image_s=IMAGE_S, hurries=True)


def test_nodes_come_with_the_work_and_go_behind_it(growth: Growth) -> None:
    nodes = [moment.nodes for moment in growth.moments]
    assert nodes[0] == nodes[-1] == 0
    assert max(nodes) == TEACHERS
    # One by one, as load was seen: never all at once from nothing.
    first = next(count for count in nodes if count)
    assert first < TEACHERS
    assert all(after.images >= before.images for before, after in pairwise(growth.moments))
    done = next(moment for moment in growth.moments if moment.images == IMAGES)
    assert done.nodes > 0  # they go behind the last label, as they are idle


def test_a_node_that_is_taken_away_is_replaced_and_costs_no_label(
    growth: Growth, tmp_path: Path
) -> None:
    assert growth.status == 0, growth.said
    assert len(growth.nodes) > TEACHERS  # another came in its place
    before = max(each.images for each in growth.moments if each.at_s <= growth.taken_s)
    assert 0 < before < IMAGES
    verify = Driver(["verify", str(growth.out), f"--images={growth.pool}"], tmp_path / "log")
    assert verify.status() == 0, verify.said()
    assert f"{IMAGES} images, each once: {IMAGES} labelled, 0 failures" in verify.said()
    (shard,) = open_pool(str(growth.pool)).shards
    assert sorted(read_raw(growth.out)["image_id"].to_pylist()) == shard.ids().tolist()
    summary = json.loads((growth.out / "summary.json").read_text())
    assert summary["pseudo"]["images"] == IMAGES
