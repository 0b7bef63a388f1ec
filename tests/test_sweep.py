"""The cells of a sweep; without Ray Tune."""

import math

import pytest

from ray_st.config import UserError
from ray_st.models import ModelConfig
from ray_st.selftraining.sweep import SweepConfig, Trial, job_of, trials_of
from ray_st.tasks import make_task
from ray_st.training.job import Job
from ray_st.training.schedule import TrainConfig

pytestmark = pytest.mark.pure


def names(**changes):
    return [trial.name for trial in trials_of(SweepConfig(**changes))]


def test_one_cell_an_alpha_and_the_plain_sum_at_the_largest():
    assert names(alphas=(4.0, 0.25, 1.0)) == ["alpha_4", "alpha_0.25", "alpha_1", "plain_4"]
    assert names(alphas=(4.0, 0.25), plain_at_largest=False) == ["alpha_4", "alpha_0.25"]
    assert names(alphas=(0.0,)) == ["alpha_0", "plain_0"]


def test_no_alpha_is_no_sweep():
    assert names(alphas=()) == []
    assert names(alphas=(), plain_at_largest=False) == []


@pytest.mark.parametrize(
    "alphas",
    [(0.1234567, 0.1234568), (1.0, 1.0 + 2**-52), (1e6, 1e6 + 1), (1e-5, 1e-6), (1e22, 0.1)],
)
def test_distinct_alphas_have_distinct_folders(alphas):
    found = names(alphas=alphas)
    assert len(set(found)) == len(found) == 3
    assert [float(name.rpartition("_")[2]) for name in found[:2]] == list(alphas)
    assert not any("/" in name for name in found)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"alphas": (1.0, -0.5)}, "sweep.alphas"),
        ({"alphas": (math.nan,)}, "sweep.alphas"),
        ({"alphas": (1.0, 2.0, 1.0)}, "sweep.alphas"),
        ({"alphas": (0.0, -0.0)}, "sweep.alphas"),
        ({"steps": 0}, "sweep.steps"),
    ],
)
def test_what_cannot_be_swept(changes, field):
    with pytest.raises(UserError) as caught:
        SweepConfig(**changes)
    assert str(caught.value).startswith(f"{field}: must be ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("normalised", [True, False])
def test_a_cell_changes_the_loss_and_the_length_of_the_students_job_alone(normalised):
    train = TrainConfig(alpha=1.0, steps=500, lr=0.3, seed=4)
    job = Job(
        task="detection",
        classes=("a",),
        model=ModelConfig(),
        train=train,
        human=None,
        pseudo=None,
        objective=make_task("detection", ModelConfig(), 1),
        num_outputs=1,
        val=None,
        num_val=0,
        init=None,
        recipe={},
        counter=None,
    )
    changed = job_of(job, Trial(alpha=7.0, normalised=normalised), SweepConfig(steps=20))
    assert changed.train == TrainConfig(
        alpha=7.0, steps=20, loss="normalised" if normalised else "plain", lr=0.3, seed=4
    )
    assert changed.model is job.model
    assert job.train == train
