"""Settings of training: what is refused, and the learning rate by hand."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_st.config import UserError
from ray_st.training.rate import learning_rate
from ray_st.training.schedule import TrainConfig

pytestmark = pytest.mark.pure

CONFIG = TrainConfig(lr=0.1, steps=110, warmup_steps=10)
SPINENET = TrainConfig(
    lr=0.28,
    schedule="step",
    lr_drops=(217_610, 226_870),
    warmup_steps=2000,
    warmup_lr=0.0067,
    steps=231_500,
)
B7 = TrainConfig(lr=0.32, warmup_steps=1000, warmup_lr=0.0032, steps=45_000)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.001),  # a hundredth of the peak
        (5, 0.1 * (0.01 + 0.99 / 2)),
        (9, 0.1 * (0.01 + 0.99 * 0.9)),
        (10, 0.1),  # the peak
        (35, 0.05 * (1 + math.sqrt(0.5))),  # a quarter on: cos 45 degrees
        (60, 0.05),  # half way
        (110, 0.0),
        (500, 0.0),  # never up again
    ],
)
def test_learning_rate_by_hand(step, expected):
    assert learning_rate(step, CONFIG) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0067),
        (1000, 0.14335),  # half way between 0.0067 and 0.28
        (1999, 0.27986335),  # 0.28 - 0.2733 / 2000
        (2000, 0.28),
        (217_609, 0.28),
        (217_610, 0.028),
        (226_869, 0.028),
        (226_870, 0.0028),
        (231_499, 0.0028),
    ],
)
def test_learning_rate_of_spinenet(step, expected):
    assert learning_rate(step, SPINENET) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0032),
        (500, 0.1616),  # half way between 0.0032 and 0.32
        (999, 0.3196832),  # 0.32 - 0.3168 / 1000
        (1000, 0.32),
        (12_000, 0.16 * (1 + math.sqrt(0.5))),  # a quarter of the 44,000 steps after it
        (23_000, 0.16),
        (34_000, 0.16 * (1 - math.sqrt(0.5))),
        (44_999, 0.32 * math.sin(math.pi / 88_000) ** 2),  # (1 + cos(pi - x)) / 2 = sin(x / 2)^2
        (45_000, 0.0),
    ],
)
def test_learning_rate_of_the_main_study(step, expected):
    assert learning_rate(step, B7) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_a_warm_up_from_nothing():
    config = TrainConfig(lr=0.2, warmup_lr=0.0, warmup_steps=4)
    assert [learning_rate(step, config) for step in range(5)] == pytest.approx(
        [0.0, 0.05, 0.1, 0.15, 0.2]
    )


def test_a_drop_at_the_end_of_the_warm_up():
    config = TrainConfig(lr=0.2, warmup_steps=2, schedule="step", lr_drops=(2,), steps=3)
    assert [learning_rate(step, config) for step in range(3)] == pytest.approx([0.002, 0.101, 0.02])


def test_a_longer_or_shorter_run_keeps_its_shape():
    assert CONFIG.lasting(40) == replace(CONFIG, steps=40)
    assert B7.lasting(45_000) == B7
    assert SPINENET.lasting(231_500) == SPINENET
    assert SPINENET.lasting(463_000) == replace(
        SPINENET, steps=463_000, lr_drops=(435_220, 453_740)
    )
    assert SPINENET.lasting(2_315) == replace(SPINENET, steps=2_315, lr_drops=(2_176, 2_268))


def test_a_run_that_ends_within_the_warm_up_has_no_drops():
    short = SPINENET.lasting(2000)
    assert (short.steps, short.lr_drops) == (2000, ())
    assert [learning_rate(step, short) for step in (0, 1999)] == [
        learning_rate(step, SPINENET) for step in (0, 1999)
    ]


@given(
    steps=st.integers(2, 400),
    other=st.integers(1, 400),
    warmup=st.integers(0, 50),
    where=st.sets(st.floats(0, 1), min_size=1, max_size=4),
)
def test_any_length_can_be_had(steps, other, warmup, where):
    first = max(1, warmup)
    if first >= steps:
        return
    drops = tuple(sorted({first + int(share * (steps - 1 - first)) for share in where}))
    config = TrainConfig(schedule="step", lr_drops=drops, steps=steps, warmup_steps=warmup)
    moved = config.lasting(other)  # its own checks run
    assert moved.steps == other
    assert len(moved.lr_drops) <= len(drops)
    assert min(learning_rate(step, moved) for step in range(other)) > 0
    assert config.lasting(steps) == config


def test_learning_rate_without_warmup_and_of_one_step():
    assert learning_rate(0, TrainConfig(lr=0.2, warmup_steps=0)) == 0.2
    assert learning_rate(0, TrainConfig(lr=0.2, warmup_steps=0, steps=1)) == 0.2


def test_no_step_of_a_run_is_without_a_rate():
    rates = [learning_rate(step, CONFIG) for step in range(CONFIG.steps)]
    assert min(rates) > 0
    assert rates.index(max(rates)) == 10
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"alpha": -1.0}, "train.alpha"),
        ({"alpha": math.nan}, "train.alpha"),
        ({"steps": 0}, "train.steps"),
        ({"batch_size": 0}, "train.batch_size"),
        ({"batch_size": 3, "num_workers": 4}, "train.batch_size"),
        ({"pseudo_batch_size": 1, "num_workers": 2}, "train.pseudo_batch_size"),
        ({"num_workers": 2, "min_workers": 3}, "train.min_workers"),
        ({"num_workers": 2, "min_workers": 0}, "train.min_workers"),
        ({"num_workers": 0, "min_workers": 1}, "train.min_workers"),
        ({"num_workers": 0, "min_workers": 0}, "train.min_workers"),
        ({"held_images": -1}, "train.held_images"),
        ({"pseudo_batch_size": 0}, "train.pseudo_batch_size"),
        ({"accumulate": 0}, "train.accumulate"),
        ({"batch_size": 3, "accumulate": 4}, "train.batch_size"),
        ({"batch_size": 3, "accumulate": 2, "num_workers": 2}, "train.batch_size"),
        ({"pseudo_batch_size": 3, "accumulate": 4, "num_workers": 0}, "train.pseudo_batch_size"),
        ({"ema_decay": 1.0}, "train.ema_decay"),
        ({"ema_decay": -0.5}, "train.ema_decay"),
        ({"ema_decay": math.nan}, "train.ema_decay"),
        ({"max_skipped_steps": -1}, "train.max_skipped_steps"),
        ({"mean_decay": 1.0}, "train.mean_decay"),
        ({"mean_decay": -0.1}, "train.mean_decay"),
        ({"momentum": 1.0}, "train.momentum"),
        ({"momentum": -0.1}, "train.momentum"),
        ({"lr": 0.0}, "train.lr"),
        ({"warmup_lr": 0.01}, "train.warmup_lr"),  # no lower than lr
        ({"warmup_lr": -0.01}, "train.warmup_lr"),
        ({"warmup_lr": math.nan}, "train.warmup_lr"),
        ({"lr_drops": (100,)}, "train.lr_drops"),  # with cosine
        ({"lr_drops": (), "schedule": "step"}, "train.lr_drops"),
        ({"lr_drops": (200, 100), "schedule": "step"}, "train.lr_drops"),
        ({"lr_drops": (100, 100), "schedule": "step"}, "train.lr_drops"),
        ({"lr_drops": (100, 500), "schedule": "step"}, "train.lr_drops"),  # the steps are 0..499
        ({"lr_drops": (49,), "schedule": "step"}, "train.lr_drops"),  # in the warm-up
        ({"lr_drops": (0,), "schedule": "step", "warmup_steps": 0}, "train.lr_drops"),
        ({"sync_batchnorm": True, "num_workers": 2}, "train.sync_batchnorm"),
        ({"clip_norm": 0.0}, "train.clip_norm"),
        ({"warmup_steps": -1}, "train.warmup_steps"),
        ({"weight_decay": -1e-4}, "train.weight_decay"),
        ({"num_workers": -1}, "train.num_workers"),
        ({"max_failures": -1}, "train.max_failures"),
        ({"seed": -1}, "train.seed"),
        ({"cpus_per_worker": 0}, "train.cpus_per_worker"),
        ({"loaders": -1}, "train.loaders"),
        ({"log_every": 0}, "train.log_every"),
        ({"checkpoint_every": 0}, "train.checkpoint_every"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_field(changes, field):
    with pytest.raises(UserError) as caught:
        TrainConfig(**changes)
    line = str(caught.value)
    assert line.startswith(f"{field}: must be ")
    assert f"got {changes[field.removeprefix('train.')]!r}" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("num_workers", "accumulate", "said"),
    [
        (0, 1, "1"),
        (1, 1, "1"),
        (4, 1, "train.num_workers (4)"),
        (0, 3, "train.accumulate (3)"),
        (2, 3, "train.num_workers (2) times train.accumulate (3)"),
    ],
)
def test_each_part_of_each_worker_has_an_image_of_either_origin(num_workers, accumulate, said):
    least = max(1, num_workers) * accumulate
    sizes = {"num_workers": num_workers, "accumulate": accumulate}
    for size in (least, 5 * least + 1):
        assert TrainConfig(batch_size=size, **sizes).batch_size == size
    with pytest.raises(UserError) as caught:
        TrainConfig(batch_size=least, pseudo_batch_size=least - 1, **sizes)
    rule = f"must be at least {said}, got {least - 1}"
    assert str(caught.value) == f"train.pseudo_batch_size: {rule}"


def test_as_many_pseudo_images_as_human_ones_unless_said():
    assert TrainConfig(batch_size=6).num_pseudo == 6
    assert TrainConfig(batch_size=6, pseudo_batch_size=2).num_pseudo == 2
    assert TrainConfig(batch_size=7, num_workers=0).num_pseudo == 7


def test_synchronised_batchnorm_is_refused_only_where_pytorch_has_none():
    TrainConfig(sync_batchnorm=True, num_workers=2, use_gpu=True)
    TrainConfig(sync_batchnorm=True, num_workers=1)
    TrainConfig(sync_batchnorm=True, num_workers=0)


@pytest.mark.parametrize("fewest", [0, 1])
def test_nothing_is_elastic_in_the_calling_process(fewest):
    with pytest.raises(UserError) as caught:
        TrainConfig(num_workers=0, min_workers=fewest)
    assert str(caught.value) == (
        "train.min_workers: must be left out with train.num_workers 0, which trains in the calling "
        f"process alone, got {fewest}"
    )
