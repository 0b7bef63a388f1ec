"""Which nodes something may run on: labels, refused before anything waits for what is not there."""

import pytest

from ray_st.config import UserError
from ray_st.labeling.config import LabelConfig
from ray_st.nodes import require_some, selector
from ray_st.training.schedule import TrainConfig

pytestmark = pytest.mark.pure

NODES = [
    {"ray.io/node-id": "a"},
    {"ray.io/node-id": "b", "pool": "teacher", "zone": "1"},
    {"ray.io/node-id": "c", "pool": "student"},
]


def test_labels_become_rays_selector():
    assert selector(("pool=teacher", "ray.io/market-type=spot")) == {
        "pool": "teacher",
        "ray.io/market-type": "spot",
    }
    assert selector(()) == {}


@pytest.mark.parametrize("nodes", [(), ("pool=teacher",), ("pool=teacher", "zone=1")])
def test_labels_that_one_node_has_pass(nodes):
    require_some(nodes, "label.nodes", NODES)


@pytest.mark.parametrize("nodes", [("pool=techer",), ("pool=student", "zone=1")])
def test_labels_that_no_node_has_are_one_line(nodes):
    with pytest.raises(UserError) as caught:
        require_some(nodes, "label.nodes", NODES)
    assert str(caught.value) == (
        f"label.nodes: no node of the cluster has {' '.join(nodes)} (there is pool=student "
        f"pool=teacher zone=1); start one with `ray start --labels {','.join(nodes)}`, "
        "or leave label.nodes out"
    )


def test_a_cluster_without_labels():
    with pytest.raises(UserError, match=r"\(there is no label of its own\)"):
        require_some(("pool=teacher",), "train.nodes", NODES[:1])


@pytest.mark.parametrize("config", [LabelConfig, TrainConfig])
@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (("teacher",), "KEY=VALUE each, got 'teacher'"),
        (("pool=",), "KEY=VALUE each, got 'pool='"),
        (("pool=!in(a)",), "KEY=VALUE each, got 'pool=!in(a)'"),
        (("pool=a", "pool=b"), "one value a key, got ('pool=a', 'pool=b')"),
    ],
)
def test_what_is_no_label(config, nodes, said):
    section = {LabelConfig: "label", TrainConfig: "train"}[config]
    with pytest.raises(UserError) as caught:
        config(nodes=nodes)
    assert str(caught.value) == f"{section}.nodes: must be {said}"
