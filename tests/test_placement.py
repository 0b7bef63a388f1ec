"""Who gets which cores: arithmetic."""

import pytest

from ray_st.cluster.placement import (
    Need,
    labeling_needs,
    most_at_once,
    require_fits,
    training_needs,
)
from ray_st.config import UserError
from ray_st.labeling.config import LabelConfig
from ray_st.training.schedule import TrainConfig

pytestmark = pytest.mark.pure


def totals(needs):
    return sum(need.cpus for need in needs), sum(need.gpus for need in needs)


@pytest.mark.parametrize(
    ("config", "has_pseudo", "cpus_gpus"),
    [
        (TrainConfig(cpus_per_worker=2), False, (2 + 1, 0)),
        (TrainConfig(cpus_per_worker=2), True, (2 + 2, 0)),
        (TrainConfig(num_workers=4, cpus_per_worker=3), True, (4 * 3 + 4 * 2, 0)),
        (TrainConfig(num_workers=2, cpus_per_worker=1, use_gpu=True), False, (2 + 2, 2)),
        (TrainConfig(num_workers=4, min_workers=2, cpus_per_worker=3), True, (2 * 3 + 2 * 2, 0)),
        (TrainConfig(num_workers=0, cpus_per_worker=1), False, (1 + 1, 0)),  # inside the caller
        (TrainConfig(num_workers=2, cpus_per_worker=3, loaders=0), True, (2 * 3, 0)),
    ],
)
def test_what_training_holds(config, has_pseudo, cpus_gpus):
    assert totals(training_needs(config, has_pseudo=has_pseudo)) == cpus_gpus


@pytest.mark.parametrize(
    ("config", "cpus_gpus"),
    [
        (LabelConfig(actors=(1, 8)), (1 + 1, 0)),  # the least, since the pool grows as it can
        (LabelConfig(actors=(3, 3), cpus_per_actor=0.5), (1.5 + 1, 0)),
        (LabelConfig(actors=(4, 4), gpus_per_actor=0.25), (4 + 1, 1)),
        (LabelConfig(actors=(0, 0)), (0 + 1, 0)),
    ],
)
def test_what_labelling_holds(config, cpus_gpus):
    assert totals(labeling_needs(config)) == cpus_gpus


NEEDS = [Need(what="train.num_workers", cpus=6, gpus=2), Need(what="train.loaders", cpus=2)]


def test_what_fits_exactly_fits():
    require_fits(NEEDS, cpus=8, gpus=2)
    require_fits([], cpus=0, gpus=0)


def test_what_does_not_fit_is_one_line_with_the_sum():
    with pytest.raises(UserError) as caught:
        require_fits(NEEDS, cpus=7.5, gpus=2)
    assert str(caught.value) == (
        "train.num_workers: wants 8 CPUs at once (train.num_workers 6 + train.loaders 2), "
        "the cluster has 7.5; lower one of them or add nodes"
    )
    with pytest.raises(UserError, match=r"wants 2 GPUs at once .* the cluster has 1; lower"):
        require_fits(NEEDS, cpus=8, gpus=1)


def test_where_there_is_no_gpu_the_field_that_asks_for_one_is_named():
    with pytest.raises(UserError, match=r"has 0; leave out train\.use_gpu or add nodes$"):
        require_fits(training_needs(TrainConfig(use_gpu=True), has_pseudo=True), cpus=8, gpus=0)
    teachers = labeling_needs(LabelConfig(gpus_per_actor=1))
    with pytest.raises(UserError, match=r"has 0; leave out label\.gpus_per_actor or add nodes$"):
        require_fits(teachers, cpus=8, gpus=0)


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"),
    [(8, 2, 1), (31, 8, 3), (32, 8, 4), (80, 4, 2), (7, 1, 1)],
)
def test_how_many_runs_fit_side_by_side(cpus, gpus, expected):
    assert most_at_once(NEEDS, cpus=cpus, gpus=gpus) == expected


def test_runs_without_accelerators_are_not_counted_by_them():
    assert most_at_once([Need(what="a", cpus=2)], cpus=9, gpus=0) == 4
