"""What all tests share: shape checks on the contracts, and a quiet, small Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Set before Ray is imported anywhere. Ray's own variables for tests on a small machine.
os.environ.setdefault("RAY_TRAIN_COLLECTIVE_TIMEOUT_S", "120")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "PYTHON worker processes have been started")

_CHECKED = (
    "ray_st.data.labels",
    "ray_st.data.batches",
    "ray_st.data.order",
    "ray_st.data.views",
    "ray_st.models.classifier",
    "ray_st.models.projector",
    "ray_st.models.retinanet",
    "ray_st.models.segmenter",
    "ray_st.tasks.classification",
    "ray_st.tasks.detection",
    "ray_st.tasks.focal",
    "ray_st.tasks.mean_iou",
    "ray_st.tasks.segmentation",
    "ray_st.tasks.simclr",
    "ray_st.training.accumulation",
    "ray_st.training.gradient",
    "ray_st.training.loss_balance",
    "ray_st.training.step",
)
# Ray's workers import the doubles that a test hands them.
_HERE = Path(__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(_HERE), str(_HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)
install_import_hook(_CHECKED, "beartype.beartype")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side run files, each whole; those of several nodes one after the other.

    Two clusters of three nodes each are thirty processes on two cores, and seconds become minutes.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Small real data sets beside the checkout; a clone elsewhere has none."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data sets that stand beside the project's own checkout")
    return folder


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """A local Ray for the tests of one module."""
    from ray_st.cluster.session import connected

    with connected("local"):
        yield
