"""What a checkup says of training: its first views, a few steps, its settings, the room for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from tiny import MODEL, tiny_card, tiny_model, tiny_task

from ray_st.cluster.session import local_cpus
from ray_st.config import UserError
from ray_st.data.augment import AugmentConfig
from ray_st.data.labels import ClassLabel, Detections, Labels, Origin, SegmentationMap
from ray_st.data.order import images_at, positions_of
from ray_st.data.rows import pack
from ray_st.data.views import Views, augmented_views
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.policy import PolicyConfig
from ray_st.models import ModelConfig, build
from ray_st.models.fitting import Loaded
from ray_st.models.initialise import Start
from ray_st.models.saved import read_model, save_model
from ray_st.selftraining.checkup.classes import Counts
from ray_st.selftraining.checkup.finding import Finding
from ray_st.selftraining.checkup.first_views import FirstViews, first_views, surviving_labels
from ray_st.selftraining.checkup.fit import Room, fits
from ray_st.selftraining.checkup.memory import (
    Held,
    PeakMemory,
    gigabytes,
    machine_bytes,
    needed_memory,
    resident_bytes,
)
from ray_st.selftraining.checkup.pseudo import pseudo_labels
from ray_st.selftraining.checkup.settings import alpha, batches, checkpoints, passes, schedule
from ray_st.selftraining.checkup.start_loss import StartLoss, as_expected
from ray_st.selftraining.checkup.trial_step import Trial, batches_of, try_steps
from ray_st.selftraining.checkup.verdict import duration, needed_time, sound_numbers, too_large
from ray_st.selftraining.surroundings import room_at
from ray_st.tasks import make_task
from ray_st.training.schedule import TrainConfig

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

GIGABYTE = 10**9
STILL = AugmentConfig(flip_probability=0, scale_jitter=(1.0, 1.0))
TRAIN = TrainConfig(
    steps=20, batch_size=4, cpus_per_worker=1, warmup_steps=2, optimizer="adamw", checkpoint_every=5
)


def words(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    for each in findings:
        assert "\n" not in each.line
        assert each.severity == "fine" or each.move
    return [(each.severity, each.where, each.what) for each in findings]


@pytest.fixture
def rows(tmp_path: Path) -> pa.Table:
    """Six images with a bright square each and a box around it, and one that is none."""
    uris, labels = [], []
    for i in range(7):
        pixels = np.full((64, 64, 3), 40, np.uint8)
        pixels[8 : 8 + 32, i : i + 32] = 220
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        uris.append(str(tmp_path / f"{i}.png"))
        labels.append(Detections.of([[i, 8, i + 32, 40]], [i % 2]))
    Path(uris[6]).write_bytes(b"no image")
    return pack(
        image_ids=range(7),
        uris=uris,
        sizes_hw=[(64, 64)] * 7,
        labels=labels,
        origin=Origin.HUMAN,
    )


def human_views(rows: pa.Table, train: TrainConfig = TRAIN, **changes: Any) -> FirstViews:
    arguments = {"size_px": 64, "augment": STILL, **changes}
    return first_views(rows, Origin.HUMAN, train, **arguments)


# First views


def test_the_first_views_are_those_of_all_workers_in_order(rows: pa.Table) -> None:
    train = replace(TRAIN, batch_size=6, num_workers=2, seed=3)
    first = human_views(rows, train, augment=AugmentConfig(policy="S4"))
    assert (first.batch_size, first.num_steps) == (6, 8)  # no more than 8 steps
    for step in (0, 5):
        parts = []
        for worker in (0, 1):
            positions = positions_of(
                first_step=step, num_steps=1, batch_size=6, worker=worker, num_workers=2
            ).ravel()
            indices, epochs = images_at(positions, num_images=7, seed=6)  # twice the seed
            taken = rows.take(pa.array(indices))
            parts.append(augmented_views(taken, epochs.tolist(), 64, AugmentConfig(policy="S4"), 6))
        whole, (one, other) = first.of_step(step), parts
        assert whole.uris == one.uris + other.uris
        np.testing.assert_array_equal(whole.pixels, np.concatenate([one.pixels, other.pixels]))
        assert first.of_step(step, 3).uris == one.uris


@pytest.mark.parametrize(
    ("batch_size", "steps", "num_steps"), [(4, 20, 8), (16, 20, 4), (100, 20, 1), (16, 2, 2)]
)
def test_as_many_steps_as_it_takes(
    rows: pa.Table, batch_size: int, steps: int, num_steps: int
) -> None:
    first = human_views(rows, replace(TRAIN, batch_size=batch_size, steps=steps))
    assert first.num_steps == num_steps
    assert len(first.views) == len(first.sources) == batch_size * num_steps
    assert first.seconds_per_view * len(first.views) == pytest.approx(first.seconds)


def test_pseudo_images_have_a_batch_size_and_an_order_of_their_own(rows: pa.Table) -> None:
    train = replace(TRAIN, pseudo_batch_size=8)
    pseudo = first_views(rows, Origin.PSEUDO, train, size_px=64, augment=STILL)
    assert (pseudo.batch_size, pseudo.num_steps) == (8, 8)
    assert pseudo.of_step(0, 7).uris != human_views(rows).of_step(0, 7).uris


def seen(sources: Sequence[Labels], shown: Sequence[Labels], *, bad: int = 0) -> FirstViews:
    count = len(sources)
    views = Views(
        image_ids=np.arange(count),
        uris=("/x.jpg",) * count,
        pixels=np.zeros((count, 8, 8, 3), np.uint8),
        sizes_hw=np.ones((count, 2), np.int32),
        labels=tuple(shown),
        stages=(*[None] * (count - bad), *["decode"] * bad),
        reasons=(*[None] * (count - bad), *["bad"] * bad),
    )
    return FirstViews(
        origin=Origin.HUMAN, batch_size=count, sources=tuple(sources), views=views, seconds=1.0
    )


def boxes(count: int) -> Detections:
    return Detections.of([[0, 0, 5, 5]] * count, [0] * count)


def test_how_much_of_the_labels_survives() -> None:
    first = seen([boxes(4), boxes(2)], [boxes(3), boxes(0)])
    assert words(surviving_labels(first)) == [
        (
            "warn", "augment",  # half of the views have no label
            "the first 2 human views: 1.50 boxes a view, 3.00 in the images they show; 50% of the "
            "views have no label",
        )
    ]  # fmt: skip
    assert words(surviving_labels(seen([boxes(2), boxes(0)], [boxes(1), boxes(0)])))[0][0] == "fine"
    few = surviving_labels(seen([boxes(3), boxes(4)], [boxes(2), boxes(1)]))
    assert few[0].severity == "warn"  # 3 of 7 boxes
    ignored = surviving_labels(seen([boxes(1), boxes(9)], [boxes(1), boxes(0)], bad=1))
    assert ignored[0].numbers["views"] == 1
    assert surviving_labels(seen([boxes(1)], [boxes(0)], bad=1)) == []


def test_maps_and_classes_survive_in_words_of_their_own() -> None:
    half = SegmentationMap(class_map=np.array([[0, 255]], np.uint8))
    full = SegmentationMap(class_map=np.array([[0, 1]], np.uint8))
    (maps,) = surviving_labels(seen([full], [half]))
    assert "50% of their pixels have a class, 100% in the images; 0% of the views" in maps.what
    assert maps.severity == "fine"
    (classes,) = surviving_labels(seen([ClassLabel.of([1])], [ClassLabel.of([1])]))
    assert "views: 100% have a class; 0% of the views" in classes.what


# The loss at the start


def trial(
    rows: pa.Table, train: TrainConfig = TRAIN, init: Start | None = None, pseudo: bool = False
) -> Trial:
    human = human_views(rows, train)
    other = first_views(rows, Origin.PSEUDO, train, size_px=64, augment=STILL) if pseudo else None
    shares = batches_of([human] if other is None else [human, other], train.num_workers)
    return try_steps(shares, tiny_task(), MODEL, train, init, 2)


def test_a_detector_starts_at_the_loss_of_its_prior(rows: pa.Table) -> None:
    before = trial(rows).before
    assert before is not None
    assert before.found == pytest.approx(before.expected, rel=1e-3)
    (finding,) = as_expected(before)
    assert finding.severity == "fine"


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("num_classes", [2, 30])
def test_other_heads_start_at_the_logarithm_of_their_classes(
    rows: pa.Table, task: Any, num_classes: int
) -> None:
    labels: list[Labels] = [
        ClassLabel.of([i % num_classes])
        if task == "classification"
        else SegmentationMap(class_map=np.full((64, 64), i % num_classes, np.uint8))
        for i in range(7)
    ]
    classed = pack(
        image_ids=range(7),
        uris=rows["uri"].to_pylist(),
        sizes_hw=[(64, 64)] * 7,
        labels=labels,
        origin=Origin.HUMAN,
    )
    model = ModelConfig(backbone="test_resnet", image_size_px=64, levels=(3, 5), channels=16)
    shares = batches_of([human_views(classed)], 1)
    found = try_steps(shares, make_task(task, model, num_classes), model, TRAIN, None, num_classes)
    assert found.before is not None
    assert found.before.expected == math.log(num_classes)
    assert found.before.found == pytest.approx(math.log(num_classes), rel=0.1)


def test_a_start_that_is_far_off() -> None:
    (fine,) = as_expected(StartLoss(found=3.0, expected=2.0))
    assert words([fine])[0] == (
        "fine", "model", "the loss of the classes starts at 3, a fresh head's at 2"
    )  # fmt: skip
    for found in (3.1, 1.3, float("nan")):
        assert as_expected(StartLoss(found=found, expected=2.0))[0].severity == "warn"
    assert as_expected(StartLoss(found=0.0, expected=0.0))[0].severity == "fine"  # no label at all


# A few steps


def test_a_few_steps_are_those_of_training(rows: pa.Table) -> None:
    found = trial(rows)
    assert found.images == 4
    assert math.isfinite(found.loss)
    assert found.gradient_norm > 0
    assert found.seconds > 0
    (finding,) = sound_numbers(found, TRAIN)
    assert finding.severity == "fine"


def test_a_worker_has_its_share_of_both_origins(rows: pa.Table) -> None:
    train = replace(TRAIN, num_workers=2, pseudo_batch_size=8)
    human = human_views(rows, train)
    pseudo = first_views(rows, Origin.PSEUDO, train, size_px=64, augment=STILL)
    shares = batches_of([human, pseudo], 2)
    assert [len(each) for each in shares] == [2 + 4] * 3
    assert shares[1].origins.tolist() == [0, 0, 1, 1, 1, 1]
    of_step = [*human.of_step(1, 2).image_ids, *pseudo.of_step(1, 4).image_ids]
    assert shares[1].image_ids.tolist() == of_step
    assert [len(each) for each in batches_of([human], 0)] == [4] * 3
    assert trial(rows, train, pseudo=True).images == 6


def test_a_teacher_is_no_fresh_head(rows: pa.Table, tmp_path: Path) -> None:
    save_model(tmp_path / "teacher", tiny_model(), tiny_card())
    saved = read_model(tmp_path / "teacher", "teacher")
    assert trial(rows, init=Start.of_teacher(saved, "teacher")).before is None
    backbone = Start(weights=saved.weights, loaded=Loaded(start="imagenet", source="x", tensors=1))
    assert trial(rows, init=backbone).before is not None


def test_a_start_that_gives_no_numbers(rows: pa.Table, tmp_path: Path) -> None:
    model = tiny_model()
    model.std.fill_(1e-37)  # type: ignore[operator, union-attr] # 220 / 1e-37 is past float32
    save_model(tmp_path / "teacher", model, tiny_card())
    found = trial(rows, init=Start.of_teacher(read_model(tmp_path / "teacher", "x"), "teacher"))
    (finding,) = sound_numbers(found, TRAIN)
    assert words([finding])[0][:2] == ("fail", "train")
    assert finding.what.endswith(": no finite numbers")


def a_trial(**changes: Any) -> Trial:
    held = Held(
        device="cpu", parameters=1, gradients=1, optimiser=2, activations=3, process=GIGABYTE
    )
    fields = {"images": 4, "before": None, "loss": 1.0, "gradient_norm": 1.0, "seconds": 0.5}
    return Trial(**{**fields, "held": held, **changes})


def test_what_a_first_step_says() -> None:
    said = "the first step has a loss of 1 and a gradient of norm 1"
    assert words(sound_numbers(a_trial(), TRAIN)) == [("fine", "train", said)]
    (none,) = sound_numbers(a_trial(gradient_norm=0.0), TRAIN)
    assert none.severity == "fail"
    (steep,) = sound_numbers(a_trial(gradient_norm=202.0), replace(TRAIN, clip_norm=2.0))
    assert steep.severity == "fine"
    assert steep.what.endswith("a gradient of norm 202, 101 times train.clip_norm: it is cut")
    (found,) = sound_numbers(a_trial(gradient_norm=math.inf), TRAIN)
    assert found.severity == "fail"
    assert words(too_large(7))[0][2] == "a step of 7 images does not fit on a GPU of this machine"


def test_how_long_training_takes() -> None:
    quick = seen([boxes(1)] * 10, [boxes(1)] * 10)  # a second for ten views, a step's
    slow = replace(quick, seconds=4.0)
    train = replace(TRAIN, steps=200, batch_size=10, loaders=2)
    step = a_trial(seconds=1.0)
    assert words(needed_time(step, [quick], train)) == [
        (
            "fine", "train.steps",
            "a step of 4 images takes 1 s on 1 core of this machine, and loading its images "
            "0.5 s: 200 steps about 3 minutes",  # 200 x 1 s, where half a second loads
        )
    ]  # fmt: skip
    (waits,) = needed_time(step, [quick, slow], train)
    assert words([waits])[0][:2] == ("warn", "train.loaders")
    assert waits.what.endswith("200 steps about 7 minutes; the step waits for its images")
    assert waits.numbers["loaders_wanted"] == 4  # 4 s of loading in a step of 1 s
    assert waits.move.startswith("raise train.loaders to 4 ")
    workers = replace(train, num_workers=2, loaders=0)  # each loads its half, in one thread
    assert needed_time(step, [slow], workers)[0].numbers["loading_s"] == 2.0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 minutes"),
        (5399, "90 minutes"),
        (5400, "1.5 hours"),
        (172_800, "2.0 days"),
    ],
)
def test_times_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# Memory


@pytest.mark.parametrize(("optimizer", "copies"), [("sgd", 1), ("adamw", 2)])
def test_what_a_step_holds(rows: pa.Table, optimizer: Any, copies: int) -> None:
    held = trial(rows, replace(TRAIN, optimizer=optimizer)).held
    model = build(MODEL, "detection", 2)
    trained = 4 * sum(each.numel() for each in model.parameters())
    assert held.device == "cpu"
    assert held.gradients == trained
    buffers = sum(each.numel() * each.element_size() for each in model.buffers())
    assert held.parameters == trained + buffers
    counters = 4 * len([*model.parameters()]) if optimizer == "adamw" else 0  # a step each
    assert held.optimiser == copies * trained + counters
    assert held.process > 0
    assert held.total >= held.process + held.parameters + held.gradients + held.optimiser


def test_the_peak_of_a_block_is_seen_though_it_is_gone_at_its_end() -> None:
    before = resident_bytes()
    with PeakMemory(torch.device("cpu")) as memory:
        large = np.ones(200_000_000, np.uint8)
        assert large.sum() == 200_000_000
        del large
    assert memory.peak >= before + 150_000_000
    assert machine_bytes() > memory.peak


def test_memory_that_is_needed_and_there() -> None:
    held = Held(
        device="cpu", parameters=GIGABYTE, gradients=GIGABYTE, optimiser=2 * GIGABYTE,
        activations=5 * GIGABYTE, process=0,
    )  # fmt: skip
    two = replace(TRAIN, num_workers=2)
    said = "a worker holds 9.00 GB at the peak of a step (weights 1.00 GB, gradients 1.00 GB, "
    said += "optimiser 2.00 GB, activations 5.00 GB)"

    def grade(held: Held, train: TrainConfig, *nodes: int) -> str:
        return needed_memory(held, train, [n * GIGABYTE for n in nodes], "the cluster")[0].severity

    assert words(needed_memory(held, two, [], "x")) == [("fine", "train.batch_size", said)]
    assert words(needed_memory(held, two, [23 * GIGABYTE], "this machine")) == [
        ("fine", "train.batch_size", f"{said}; this machine has 23.00 GB: room for 2 of 2")
    ]
    assert grade(held, two, 22) == "warn"  # 22 x 0.8 is less than 2 x 9
    assert grade(held, two, 17) == "fail"
    assert grade(held, two, 8, 8, 8) == "fail"  # none of them has room for one
    assert grade(held, two, 12, 12) == "fine"
    on_gpu = replace(held, device="cuda")
    assert grade(on_gpu, two, 80) == "fail"  # a worker has a GPU of its own
    assert grade(on_gpu, two, 80, 80) == "fine"
    assert needed_memory(held, two, [], "x")[0].numbers["total"] == 9 * GIGABYTE
    assert [gigabytes(x) for x in (5, 2_100_000, 1.5e9)] == ["0.0 MB", "2.1 MB", "1.50 GB"]


# Settings


def test_a_warm_up_that_never_ends() -> None:
    def told(steps: int) -> list[str]:
        train = replace(TRAIN, steps=steps, warmup_steps=50)
        return [each.line for each in schedule(train, name="sweep", field="sweep.steps")]

    assert told(101) == []
    assert told(100) == [
        "warn  train.warmup_steps: the warm-up takes 50 of the 100 steps of the sweep; "
        "lower it or raise sweep.steps"
    ]
    assert told(50) == [
        "fail  train.warmup_steps: the warm-up of 50 steps outlasts the 50 of the sweep; "
        "lower it or raise sweep.steps: train.lr is never reached"
    ]
    assert schedule(replace(TRAIN, steps=1, warmup_steps=0), name="x", field="y") == []


def test_a_training_without_a_checkpoint() -> None:
    assert checkpoints(replace(TRAIN, steps=6)) == []
    assert words(checkpoints(replace(TRAIN, steps=5)))[0][:2] == ("warn", "train.checkpoint_every")
    assert checkpoints(replace(TRAIN, steps=5, num_workers=0)) == []  # Train stores nothing then


def test_how_often_each_image_is_seen() -> None:
    assert words(passes(TRAIN, 40, None)) == [  # 20 steps of 4
        ("fine", "train.steps", "20 steps of 4 see each of 40 human-labelled images 2 times")
    ]
    (found,) = passes(TRAIN, 80, 800)
    assert found.what.endswith("images 1 times, each pseudo-labelled one 0.1 times")
    assert found.severity == "fine"  # pools are large
    assert passes(TRAIN, 81, None)[0].severity == "warn"


def test_batches_of_too_few_images() -> None:
    def told(train: TrainConfig, human: int, *, norms: bool = True, pseudo: bool = False) -> Any:
        found = batches(train, human, has_norms=norms, has_pseudo=pseudo)
        return [where for _, where, _ in words(found)]

    assert told(TRAIN, 4) == []
    assert told(TRAIN, 3) == ["train.batch_size"]
    two = replace(TRAIN, num_workers=2)
    assert told(two, 9) == ["train.num_workers"]  # two images each
    assert told(two, 9, pseudo=True) == []
    assert told(two, 9, norms=False) == []
    assert told(replace(two, use_gpu=True, sync_batchnorm=True), 9) == []


def test_pseudo_labels_without_weight() -> None:
    assert alpha(TRAIN) == []
    assert words(alpha(replace(TRAIN, alpha=0)))[0][:2] == ("warn", "train.alpha")


# Room


def test_what_a_cluster_has_room_for() -> None:
    room = Room(cpus=8, gpus=0)
    label = LabelConfig(actors=(1, 4))
    three = replace(TRAIN, num_workers=1, cpus_per_worker=2)
    assert words(fits(three, label, room, has_pseudo=False, has_pool=False)) == [
        ("fine", "address", "training holds 3 CPUs and 0 GPUs at once; the cluster has 8 and 0")
    ]
    found = fits(three, label, room, has_pseudo=False, has_pool=True)  # the student's streams too
    assert [each.numbers["cpus"] for each in found] == [4.1, 2]
    on_gpu = replace(three, use_gpu=True)
    (refused,) = fits(on_gpu, label, room, has_pseudo=True, has_pool=False)
    assert words([refused])[0][:2] == ("fail", "train.num_workers")
    assert "wants 1 GPUs at once" in refused.what
    many = fits(three, LabelConfig(actors=(8, 8)), room, has_pseudo=False, has_pool=True)
    assert [each.severity for each in many] == ["fine", "fail"]


def test_tickets_are_no_cores() -> None:
    here = Room(cpus=8, gpus=0, cores=2, name="this machine")
    label = LabelConfig()
    two = replace(TRAIN, num_workers=2)
    assert len(fits(two, label, here, has_pseudo=False, has_pool=False)) == 1
    wide = replace(two, cpus_per_worker=2)
    found = fits(wide, label, here, has_pseudo=False, has_pool=False)
    assert words(found)[1] == (
        "warn", "train.cpus_per_worker",
        "training computes with 4 cores, this machine has 2: they share them",
    )  # fmt: skip


def test_a_cluster_and_a_machine_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("RAY_JOB_ID", "RAY_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    for address in (None, "local"):
        room = room_at(address)
        assert (room.cpus, room.name) == (local_cpus(), "this machine")
        assert room.cpus >= 8
        assert room.memory_bytes == (machine_bytes(),)
        assert len(room.gpu_memory_bytes) == room.gpus
    with pytest.raises(UserError, match="nothing answers at"):
        room_at("ray://127.0.0.1:1")


# Pseudo labels


def pseudo_counts(*labels: Labels) -> Counts:
    rows = pack(
        image_ids=range(len(labels)),
        uris=["/x.jpg"] * len(labels),
        sizes_hw=[(9, 9)] * len(labels),
        labels=labels,
        origin=Origin.PSEUDO,
        kind=Detections,
    )
    return Counts.of(rows, Detections, ("cat", "dog"))


def test_pseudo_labels_and_what_would_worry_us() -> None:
    people = {"human_boxes_per_image": 2.0, "human_labels_per_class": {"cat": 9, "dog": 1}}
    summary = {"pseudo": {"failures": 3, "score_histogram": [0] * 20}, "score_floor": 0.05}
    thresholds = {"cat": 0.5, "dog": 0.01}
    found = pseudo_labels(
        pseudo_counts(boxes(3), boxes(0), boxes(0)), 90, people, summary, PolicyConfig(), thresholds
    )
    assert words(found) == [
        (
            "fine", "pseudo",
            "90 pseudo-labelled images, 1.00 boxes an image, where people drew 2.00; 67% have no "
            "label",
        ),
        ("warn", "pseudo", "67% of the pool images have no pseudo label at all"),
        ("warn", "pseudo", "3 images could not be read or labelled: more than one in a hundred"),
        (
            "warn", "pseudo",
            "the lowest threshold, 0.01, is below what labelling kept: boxes up to 0.05 were never "
            "stored",
        ),
    ]  # fmt: skip
    assert found[3].move == "raise it, or label again with a lower detect.score_floor"


def test_no_pseudo_label_at_all_is_a_failure() -> None:
    people = {"human_boxes_per_image": 2.0, "human_labels_per_class": {"cat": 9, "dog": 1}}
    found = pseudo_labels(pseudo_counts(boxes(0)), 1, people, {}, PolicyConfig(), {})
    assert found[0].severity == "fail"
    sound = pseudo_labels(pseudo_counts(boxes(2)), 1, people, {}, PolicyConfig(), {})
    assert [each.severity for each in sound] == ["fine"]
