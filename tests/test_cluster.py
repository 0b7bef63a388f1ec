"""The edges to Ray, on a real local cluster: streams, Train, the pool, the sweep."""

from __future__ import annotations

import io
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import safetensors.torch
import timm
import torch
from events import read_events
from rich.console import Console

from ray_st.config import as_dict
from ray_st.data.augment import AugmentConfig
from ray_st.data.feed import FittedBlocks, HeldRows, Share, in_order
from ray_st.data.labels import ClassLabel, Detections, Origin
from ray_st.data.rows import pack
from ray_st.data.sources import LabeledSet, open_labeled
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.data.sources.folder import image_rows
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.pool import label, read_raw
from ray_st.labeling.teacher import SavedTeacher
from ray_st.models import ModelConfig
from ray_st.models.initialise import InitConfig
from ray_st.models.saved import read_model
from ray_st.selftraining.checkup.first_views import first_views
from ray_st.selftraining.learning import Learning, read_init, training_job
from ray_st.selftraining.stages import train_stage
from ray_st.selftraining.sweep import SweepConfig, run_sweep, sweep_stage
from ray_st.training.checkpoints import load_log
from ray_st.training.job import Job
from ray_st.training.joint import JointConfig
from ray_st.training.loop import fit
from ray_st.training.schedule import TrainConfig
from ray_st.training.streams import Stream, paired_batches

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]

WORLD = DigitsConfig(
    labeled_scenes=12,
    val_scenes=10,
    pool_scenes=20,
    labeled_digits=30,
    scene_px=64,
    digits_per_scene=(1, 3),
    digit_px=(18, 28),
    classes=(0, 1, 2),
)
LEARNING = Learning(
    task="detection",
    model=ModelConfig(
        backbone="test_resnet", image_size_px=64, levels=(3, 4), channels=16, head_convs=1
    ),
    augment=AugmentConfig(flip_probability=0.5),
    train=TrainConfig(
        steps=8,
        batch_size=4,
        cpus_per_worker=1,
        log_every=1,
        checkpoint_every=4,
        warmup_steps=2,
        lr=0.002,
        optimizer="adamw",
        max_failures=1,
    ),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, WORLD, Detections)
    return folder


@pytest.fixture(scope="module")
def human(world: Path) -> LabeledSet:
    return open_labeled(f"coco:{world}/instances_train.json")


@pytest.fixture(scope="module")
def val(world: Path) -> LabeledSet:
    return open_labeled(f"coco:{world}/instances_val.json")


@pytest.fixture(scope="module")
def pool(world: Path) -> LabeledSet:
    return open_labeled(f"coco:{world}/instances_pool.json")


def student_job(
    human: LabeledSet, val: LabeledSet, pool: LabeledSet, train: TrainConfig = LEARNING.train
) -> Job:
    return training_job(
        replace(LEARNING, train=train),
        human=human,
        val=val,
        pseudo=pool.rows,  # as good as labels can get
        init=None,
        recipe={},
    )


@pytest.fixture(scope="module")
def undisturbed(
    human: LabeledSet, val: LabeledSet, pool: LabeledSet, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    fit(student_job(human, val, pool), out)
    return out


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def require_equal_weights(one: Path, other: Path) -> None:
    left, right = weights_of(one), weights_of(other)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=0, atol=1e-6, msg=name)


# Streams


def test_the_first_views_of_a_checkup_are_those_of_training(
    human: LabeledSet, val: LabeledSet, pool: LabeledSet
) -> None:
    job, alone = student_job(human, val, pool), Share(worker=0, num_workers=1)
    for stream, rows in ((job.human, human.rows), (job.pseudo, pool.rows)):
        assert stream is not None
        first = first_views(
            rows, stream.origin, LEARNING.train, size_px=64, augment=LEARNING.augment
        )
        assert first.num_steps == LEARNING.train.steps
        batches = replace(stream, loaders=0).batches(0, first.num_steps, alone)
        for step, batch in enumerate(batches):
            views = first.of_step(step)
            assert batch.image_ids.tolist() == views.image_ids.tolist()
            np.testing.assert_array_equal(batch.pixels.permute(0, 2, 3, 1), views.pixels)
            for one, other in zip(batch.labels, views.labels, strict=True):
                np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)


def human_stream(
    human: LabeledSet, augment: AugmentConfig, *, seed: int, loaders: int = 1
) -> Stream:
    return Stream(
        rows=HeldRows.of(human.rows),
        origin=Origin.HUMAN,
        batch_size=4,
        size_px=64,
        augment=augment,
        order_seed=seed,
        view_seed=seed,
        loaders=loaders,
    )


def global_batches(stream: Stream, num_workers: int, first: int, last: int) -> list[list[int]]:
    """Image ids of each step's global batch, in order."""
    parts = [
        list(stream.batches(first, last, Share(worker=worker, num_workers=num_workers)))
        for worker in range(num_workers)
    ]
    return [
        [image_id for batch in step for image_id in batch.image_ids.tolist()]
        for step in zip(*parts, strict=True)
    ]


def test_two_workers_and_a_resumed_one_see_the_same_global_batches(human: LabeledSet) -> None:
    stream = human_stream(human, AugmentConfig(), seed=3, loaders=2)
    alone = global_batches(stream, 1, 0, 40)  # 160 images: three blocks, 13 epochs of 12 images
    assert len(alone) == 40
    epochs = [alone[3 * e] + alone[3 * e + 1] + alone[3 * e + 2] for e in range(13)]
    assert [sorted(epoch) for epoch in epochs] == [sorted(human.rows["image_id"].to_pylist())] * 13
    assert global_batches(stream, 2, 0, 40) == alone
    assert global_batches(stream, 1, 17, 40) == alone[17:]
    assert global_batches(replace(stream, loaders=0), 2, 17, 40) == alone[17:]


def test_views_are_the_same_whoever_makes_them(human: LabeledSet) -> None:
    stream = human_stream(human, AugmentConfig(policy="S4"), seed=3)
    share = Share(worker=1, num_workers=2)
    by_tasks = list(stream.batches(5, 45, share))  # 80 images: two blocks
    in_worker = list(replace(stream, loaders=0).batches(5, 45, share))
    assert len(by_tasks) == len(in_worker) == 40
    for one, other in zip(by_tasks, in_worker, strict=True):
        assert one.image_ids.equal(other.image_ids)
        assert one.pixels.equal(other.pixels)


def test_a_pair_is_a_human_and_a_pseudo_half(human: LabeledSet, pool: LabeledSet) -> None:
    job_human, job_pseudo = (
        Stream(
            rows=HeldRows.of(rows),
            origin=origin,
            batch_size=size,
            size_px=64,
            augment=AugmentConfig(),
            order_seed=0,
            view_seed=0,
            loaders=1,
        )
        for rows, origin, size in ((human.rows, Origin.HUMAN, 2), (pool.rows, Origin.PSEUDO, 6))
    )
    share = Share(worker=0, num_workers=1)
    batches = list(paired_batches(job_human, job_pseudo, 0, 3, share))
    assert [batch.origins.tolist() for batch in batches] == [[0, 0, 1, 1, 1, 1, 1, 1]] * 3
    assert batches[0].pixels.shape == (8, 3, 64, 64)
    assert batches[0].pixels.is_contiguous(memory_format=torch.channels_last)


def test_two_view_seeds_show_the_same_images_differently(human: LabeledSet) -> None:
    first = human_stream(human, AugmentConfig(scale_jitter=(0.5, 2.0)), seed=0)
    pairs = paired_batches(first, replace(first, view_seed=1), 0, 5, Share(worker=0, num_workers=1))
    for batch in pairs:
        one, other = batch.image_ids.view(2, 4)
        assert one.equal(other)
        assert all((a != b).any() for a, b in zip(*batch.pixels.split(4), strict=True))


def test_validation_shares_cover_the_set_once(val: LabeledSet) -> None:
    rows = ray.put(val.rows)
    seen = []
    for worker in range(3):  # 10 images: 4 + 3 + 3
        share = Share(worker=worker, num_workers=3)
        blocks = FittedBlocks(rows=rows, num_images=10, size_px=64, share=share)
        seen += [
            image_id
            for views in in_order(blocks, batch_size=2, loaders=1)
            for image_id in views.image_ids.tolist()
        ]
    assert sorted(seen) == sorted(val.rows["image_id"].to_pylist())


# Train


def test_joint_training_learns_a_third_stream_and_saves_the_model_alone(
    human: LabeledSet, val: LabeledSet, pool: LabeledSet, undisturbed: Path, tmp_path: Path
) -> None:
    data = write_world(tmp_path / "classified", replace(WORLD, classes=(4, 9)), ClassLabel)
    classified = open_labeled(data.train)
    orders = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        train = replace(
            LEARNING.train,
            joint=JointConfig(images=data.train, batch_size=6, image_size_px=48),
            num_workers=workers,
            loaders=0,
        )
        job = training_job(
            replace(LEARNING, train=train),
            human=human,
            val=val,
            pseudo=pool.rows,
            init=None,
            recipe={},
            joint=classified,
        )
        assert job.images_a_step == 4 + 4 + 6
        fit(job, out)
        log = load_log(out)
        assert all(row["loss_joint"] > 0 for row in log)
        assert weights_of(out).keys() == weights_of(undisturbed).keys()
        assert len(read_model(out, "model").card.loss_balance["weights"]) == 3
        orders.append(log[-1]["order"])
    assert orders[0] == orders[1] != load_log(undisturbed)[-1]["order"]


def test_a_trained_model_stands_in_its_folder(undisturbed: Path, human: LabeledSet) -> None:
    saved = read_model(undisturbed, "model")
    assert saved.card.classes == human.classes == ("0", "1", "2")
    assert saved.card.metrics["AP"] is not None
    log = load_log(undisturbed)
    assert [row["step"] for row in log] == list(range(1, 9))
    first = log[0]  # the averages start as the first batch
    assert first["mean_human"] == pytest.approx(first["loss_human"], rel=1e-5)
    assert first["loss"] == pytest.approx(first["loss_human"], rel=1e-5)  # so L = L_h
    assert first["loss_pseudo"] > 0
    predictions = pq.read_table(undisturbed / "predictions.parquet")
    assert predictions["image_id"].to_pylist() == list(range(10))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_start_reaches_every_worker(human: LabeledSet, tmp_path: Path, num_workers: int) -> None:
    tensors = timm.create_model("test_resnet").state_dict()
    torch.save(tensors, tmp_path / "w.pth")
    # A rate that moves nothing: what comes out is what came in.
    train = replace(
        LEARNING.train, steps=1, lr=1e-12, warmup_steps=0, num_workers=num_workers, loaders=0,
        parallel="fsdp",
    )  # fmt: skip
    learning = replace(LEARNING, train=train)
    half = (0.5, 0.5, 0.5)
    config = InitConfig(start="imagenet", weights=str(tmp_path / "w.pth"), mean=half, std=half)
    init = read_init(config, learning, human.classes, "the world")
    job = training_job(learning, human=human, val=human, pseudo=None, init=init, recipe={})
    summary = train_stage(job, tmp_path / "out", None)
    assert summary["start"] == {**as_dict(init.loaded), "start": "imagenet"}
    found = weights_of(tmp_path / "out")
    assert found["mean"].flatten().tolist() == [127.5] * 3
    inside = "backbone.network.model."
    parameters = [n for n in found if n.startswith(inside) and n.endswith(("weight", "bias"))]
    assert len(parameters) > 10
    for name in parameters:
        torch.testing.assert_close(found[name], tensors[name.removeprefix(inside)], msg=name)


@dataclass(frozen=True, kw_only=True)
class KillOnce:
    """A counter that kills its train worker at a step, the first time it gets there."""

    at_step: int
    marker: str

    def put(self, done: int, note: str = "") -> None:
        if done == self.at_step and not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_goes_on_as_if_nothing_had_happened(
    human: LabeledSet, val: LabeledSet, pool: LabeledSet, undisturbed: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "killed"
    counter = KillOnce(at_step=6, marker=str(marker))  # checkpoints are taken at 3, 4, 6 and 8
    train = replace(LEARNING.train, evaluate_every=3)
    summary = train_stage(student_job(human, val, pool, train), tmp_path, counter)  # type: ignore[arg-type]
    assert marker.exists()
    require_equal_weights(undisturbed, tmp_path)
    rows = load_log(tmp_path)
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 9))
    measured = {row["step"]: row["val"] for row in rows if "val" in row}
    assert list(measured) == [3, 6, 8]
    assert measured[8] == read_model(undisturbed, "model").card.metrics
    # Of its models the best has a folder, and of equals it is the first.
    best = max(measured, key=lambda step: (measured[step]["AP"], -step))
    assert read_model(tmp_path / "best", "model").card.metrics == measured[best]
    assert summary["best"] == {"step": best, **measured[best]}
    assert pq.read_table(tmp_path / "best" / "predictions.parquet").num_rows == 10
    assert summary["starts"] == 2
    assert 0 < summary["restart_s"] < 300
    # Steps that were done twice stand once; the checkpoint knew of the first, the log of all.
    events = [(step, tag) for step, tag, _ in read_events(tmp_path / "tensorboard")]
    assert [step for step, tag in events if tag == "loss"] == list(range(1, 9))
    assert [step for step, tag in events if tag == "val/AP"] == [3, 6, 8]


def test_zero_workers_without_loaders_train_in_this_process(
    human: LabeledSet, val: LabeledSet, pool: LabeledSet, undisturbed: Path, tmp_path: Path
) -> None:
    train = replace(LEARNING.train, num_workers=0, loaders=0, evaluate_every=4)
    summary = train_stage(student_job(human, val, pool, train), tmp_path, None)
    require_equal_weights(undisturbed, tmp_path)
    best = read_model(tmp_path / "best", "model").card.metrics
    assert summary["best"] == {"step": summary["best"]["step"], **best}
    assert summary["starts"] == 1


def test_two_workers_agree_and_learn(
    human: LabeledSet, val: LabeledSet, pool: LabeledSet, tmp_path: Path
) -> None:
    train = replace(LEARNING.train, num_workers=2, steps=20, loaders=0)
    metrics = fit(student_job(human, val, pool, train), tmp_path)
    log = load_log(tmp_path)
    assert log[-1]["loss"] < log[0]["loss"]
    assert metrics["AP"] is not None
    assert pq.read_table(tmp_path / "predictions.parquet").num_rows == 10  # of both workers


# The pool


def test_every_image_ends_as_labels_or_as_a_failure(
    undisturbed: Path, world: Path, tmp_path: Path
) -> None:
    saved = read_model(undisturbed, "teacher")
    names = sorted(str(path) for path in (world / "images" / "pool").glob("*.jpg"))
    broken, missing = tmp_path / "broken.jpg", tmp_path / "missing.jpg"
    broken.write_bytes(Path(names[0]).read_bytes()[:200])
    uris = [*names, str(broken), str(missing)]
    images = Images.of_rows(image_rows(list(range(100, 100 + len(uris))), uris))
    config = LabelConfig(actors=(2, 2), block_images=4, batch_size=3)
    label(
        images,
        SavedTeacher(saved=saved, task=LEARNING.make_task(3)),
        str(tmp_path / "pool"),
        config,
        None,
    )
    rows = read_raw(str(tmp_path / "pool"))
    failures = pq.read_table(tmp_path / "pool" / "failures.parquet").sort_by("image_id")
    assert rows["image_id"].to_pylist() == list(range(100, 120))
    assert failures["image_id"].to_pylist() == [120, 121]
    assert failures["stage"].to_pylist() == ["decode", "fetch"]
    assert set(rows["height_px"].to_pylist()) == {64}

    here = LabelConfig(actors=(0, 0), batch_size=7)
    teacher = SavedTeacher(saved=saved, task=LEARNING.make_task(3))
    label(images, teacher, str(tmp_path / "here"), here, None)
    again = read_raw(str(tmp_path / "here"))
    assert again["uri"].equals(rows["uri"])
    for name in ("boxes_xyxy", "scores"):
        left, right = (table[name].combine_chunks().flatten() for table in (rows, again))
        np.testing.assert_allclose(left.to_numpy(), right.to_numpy(), rtol=1e-3, atol=1e-3)


def test_a_pool_of_nothing_but_failures(undisturbed: Path, tmp_path: Path) -> None:
    images = Images.of_rows(image_rows([7], [str(tmp_path / "missing.jpg")]))
    label(
        images,
        SavedTeacher(saved=read_model(undisturbed, "teacher"), task=LEARNING.make_task(3)),
        str(tmp_path / "out"),
        LabelConfig(max_failure_rate=1.0),
        None,
    )
    assert read_raw(str(tmp_path / "out")).num_rows == 0
    failures = pq.read_table(tmp_path / "out" / "failures.parquet")
    assert failures["image_id"].to_pylist() == [7]


# The sweep


@dataclass(frozen=True, kw_only=True)
class Silent:
    def put(self, done: int, note: str = "") -> None:
        pass


def test_a_sweep_ends_with_a_row_a_trial(
    human: LabeledSet,
    val: LabeledSet,
    pool: LabeledSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the folder is named as a user would: from here
    config = SweepConfig(alphas=(2.0,), steps=3, plain_at_largest=True)
    counters = {name: Silent() for name in ("alpha_2", "plain_2")}
    job = student_job(human, val, pool, replace(LEARNING.train, loaders=0))
    rows = run_sweep(job, config, Path("sweep"), at_once=1, counters=counters)
    assert {row["steps"] for row in rows} == {3}
    assert [(row["alpha"], row["normalised"]) for row in rows] == [
        (2.0, True),
        (2.0, False),
    ]
    plain = load_log(tmp_path / "sweep" / "plain_2")[0]
    expected = plain["loss_human"] + 2.0 * plain["loss_pseudo"]
    assert plain["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_trial_that_diverges_is_a_finding_and_no_failure(
    human: LabeledSet, val: LabeledSet, pool: LabeledSet, tmp_path: Path
) -> None:
    config = SweepConfig(alphas=(1e39,), steps=2, plain_at_largest=False)  # beyond float32
    train = replace(LEARNING.train, loaders=0, max_skipped_steps=0)
    job = student_job(human, val, pool, train)
    console = Console(file=io.StringIO(), width=500)
    summary = sweep_stage(job, config, tmp_path, at_once=1, console=console)
    (row,) = summary["sweep"]
    assert row == {"alpha": 1e39, "normalised": True, "AP": None, "AP50": None, "steps": 2}
    (warning,) = summary["warnings"]
    assert warning.startswith("alpha_1e+39: train.max_skipped_steps: the loss or gradient of 1 ")
    assert f"warning    {warning}\n" in console.file.getvalue()  # type: ignore[attr-defined]
    assert (tmp_path / "alpha_1e+39" / "bad_step.json").exists()


def test_an_empty_image_is_a_training_image(val: LabeledSet, tmp_path: Path) -> None:
    rows = val.rows
    empty = pack(
        image_ids=rows["image_id"].to_pylist(),
        uris=rows["uri"].to_pylist(),
        sizes_hw=[(64, 64)] * rows.num_rows,
        labels=[Detections.of()] * rows.num_rows,
        origin=Origin.PSEUDO,
    )
    pool = replace(val, rows=empty)
    train = replace(LEARNING.train, steps=2, num_workers=0)
    fit(student_job(val, val, pool, train), tmp_path)
    log = load_log(tmp_path)
    assert [row["pseudo_labels_per_image"] for row in log] == [0.0, 0.0]
    assert all(np.isfinite(row["loss"]) for row in log)
