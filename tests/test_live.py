"""Labels that are learned from while they are made: which round of steps has which files."""

import json
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from chaos_pool import CLASSES, IMAGES, MODEL, write_pool, write_teacher
from test_store import failed, labelled

from ray_st.cluster.placement import Need, beside
from ray_st.cluster.session import resources
from ray_st.config import UserError
from ray_st.data.augment import AugmentConfig
from ray_st.data.feed import Share
from ray_st.data.labels import Detections, Origin
from ray_st.data.sources import open_labeled
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import open_pool
from ray_st.labeling.live import BLOCK_STEPS, ROUND_STEPS, LiveRows, Rounds
from ray_st.labeling.policy import Choice, PolicyConfig
from ray_st.labeling.recovery import notes
from ray_st.labeling.store import Store
from ray_st.labeling.teacher import SavedTeacher
from ray_st.labeling.verify import findings
from ray_st.models.saved import read_model
from ray_st.selftraining.acceptance import read_chosen
from ray_st.selftraining.learning import Learning, training_job
from ray_st.selftraining.live import beside_training, live_choice, live_stages, require_possible
from ray_st.selftraining.stages import label_stage, train_stage
from ray_st.tasks import make_task
from ray_st.training.schedule import TrainConfig
from ray_st.training.streams import Stream

CHOICE = Choice(
    policy=PolicyConfig(score_threshold=0.0),
    kind=Detections,
    classes=("a", "b"),
    thresholds=np.zeros(2),
)


def put(shard, name, *tables, note="written"):
    """A data file, and Ray's note of its ids."""
    Path(shard.folder).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables), shard.file(f"{name}-0.parquet"))
    folder = Path(notes(shard))
    folder.mkdir(parents=True, exist_ok=True)
    end = {"written": [".parquet"], "pending": [".pending.parquet"], "none": []}[note]
    for each in end:
        (folder / f"{name}{each}").touch()


def names_of(answer):
    files, sizes = answer
    return [(Path(file).name, size) for file, size in zip(files, sizes, strict=True)]


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "raw"))


@pytest.fixture
def rounds(store, tmp_path):
    return Rounds(store.folder, str(tmp_path / "live.json"))


@pytest.mark.pure
def test_a_round_has_what_is_complete_when_it_is_decided_and_keeps_it(store, rounds):
    assert rounds.of(0) is None  # nothing stands
    shard = store.shard(0)
    put(shard, "bad", failed([9]))
    assert rounds.of(0) is None  # nothing is labelled
    put(shard, "b", labelled([1, 2]), failed([3]))
    put(shard, "half", labelled([4]), note="pending")
    put(shard, "unknown", labelled([5]), note="none")
    assert names_of(rounds.of(0)) == [("bad-0.parquet", 0), ("b-0.parquet", 2)]
    put(shard, "a", labelled([6]))
    assert names_of(rounds.of(0)) == [("bad-0.parquet", 0), ("b-0.parquet", 2)]
    assert names_of(rounds.of(1))[2:] == [("a-0.parquet", 1)]
    assert rounds.num_images() == 3


@pytest.mark.pure
def test_no_round_is_decided_long_before_it_begins(store, rounds):
    put(store.shard(0), "a", labelled([1]))
    assert rounds.of(1) is not None  # one ahead
    assert rounds.of(2) is None
    rounds.reached(ROUND_STEPS - 1)
    assert rounds.of(2) is None
    put(store.shard(0), "b", labelled([2]))
    rounds.reached(ROUND_STEPS)
    assert len(rounds.of(2)[0]) == 2
    rounds.reached(1)  # of a worker that started again
    assert rounds.of(3) is None


@pytest.mark.pure
def test_a_run_that_goes_on_has_the_same_rounds(store, rounds, tmp_path):
    shard = store.shard(0)
    put(shard, "a", labelled([1]))
    first = rounds.of(0)
    put(shard, "b", labelled([2, 3]))
    second = rounds.of(1)
    shard.publish()
    put(store.shard(1), "c", labelled([4]))
    again = Rounds(store.folder, str(tmp_path / "live.json"))
    assert (again.of(0), again.of(1)) == (first, second)
    again.reached(ROUND_STEPS)
    assert names_of(again.of(2)) == [*names_of(second), ("c-0.parquet", 1)]
    assert json.loads((tmp_path / "live.json").read_text())["ends"] == [1, 2, 3]


@pytest.mark.pure
def test_a_pool_leaves_the_training_its_cores():
    train = [Need(what="train.num_workers", cpus=4, gpus=2)]
    label = LabelConfig(actors=(1, 8), readers=4, gpus_per_actor=0.5, first_actors=4)
    # 12 - 4 cores: one reader, then actors up to (3 - 2) / 0.5 GPUs, then readers.
    found = beside(label, train, cpus=12, gpus=3)
    assert (found.actors, found.first_actors, found.readers) == ((1, 2), 2, 4)
    # 8 - 4 cores: 3 actors beside one reader.
    few = beside(LabelConfig(actors=(1, 8), readers=4), train[:1], cpus=8, gpus=2)
    assert (few.actors, few.readers) == ((1, 3), 1)
    with pytest.raises(UserError) as caught:
        beside(LabelConfig(actors=(4, 8)), train, cpus=8, gpus=2)
    assert str(caught.value) == (
        "label.actors: wants 9 CPUs at once (label.actors 4 + label.readers 1 + "
        "train.num_workers 4), the cluster has 8; lower one of them or add nodes"
    )
    with pytest.raises(UserError, match="wants 3 GPUs at once"):
        beside(LabelConfig(gpus_per_actor=1.0), train, cpus=99, gpus=2)


@pytest.mark.pure
def test_what_cannot_be_live_is_refused():
    for field, policy in (
        ("balance_share", PolicyConfig(balance_share=0.5)),
        ("max_per_class", PolicyConfig(max_per_class=3)),
    ):
        with pytest.raises(UserError, match=rf"policy\.{field}: must be left out with loop.live"):
            require_possible(LabelConfig(), policy)
    with pytest.raises(UserError, match=r"label\.actors: must be at least 1 actor with loop.live"):
        require_possible(LabelConfig(actors=(0, 0)), PolicyConfig())
    require_possible(LabelConfig(), PolicyConfig(score_threshold=0.1))


def live_rows(store, tmp_path, labelling):
    record = str(tmp_path / "live.json")
    return LiveRows.begun(store.folder, record, labelling, CHOICE, batch_size=2)


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_rows_wait_for_labels_and_all_who_ask_see_the_same(store, tmp_path):
    @ray.remote(num_cpus=0)
    def labelling():
        time.sleep(600)

    reference = labelling.remote()
    rows = live_rows(store, tmp_path, reference)
    later = threading.Timer(1.0, lambda: put(store.shard(0), "a", labelled([1, 2, 3])))
    later.start()
    positions = np.arange(2 * ROUND_STEPS)  # round 0
    found, epochs = rows.at(positions, seed=5)
    assert sorted(found["image_id"].to_pylist()[:3]) == [1, 2, 3]
    assert epochs.tolist() == [i // 3 for i in range(2 * ROUND_STEPS)]
    put(store.shard(0), "b", labelled([4]))
    both, of_both = rows.at(np.array([41, 0, 40, 42, 43]), seed=5)
    assert both["image_id"][1] == found["image_id"][0]
    assert sorted(both["image_id"].take([0, 2, 3, 4]).to_pylist()) == [1, 2, 3, 4]
    assert (of_both[[0, 2, 3, 4]] == 2**20).all()
    assert rows.num_rows == 4
    rows.ended()
    again = live_rows(store, tmp_path, reference)
    assert again.at(positions, seed=5)[0].equals(found)
    again.ended()
    ray.cancel(reference, force=True)


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_a_labelling_that_ended_with_nothing_keeps_nobody_waiting(store, tmp_path):
    @ray.remote(num_cpus=0, max_retries=0)
    def labelling(fails):
        if fails:
            raise UserError("out: is full")

    rows = live_rows(store, tmp_path, labelling.remote(fails=False))
    put(store.shard(0), "bad", failed([9]))
    with pytest.raises(UserError, match="no image of the pool was labelled"):
        rows.at(np.arange(2), seed=0)
    rows.ended()
    rows = live_rows(store, tmp_path, labelling.remote(fails=True))
    with pytest.raises(UserError, match="out: is full"):
        rows.at(np.arange(2), seed=0)
    rows.ended()


@pytest.mark.cluster
@pytest.mark.timeout(180)  # what waits for itself waits for ever
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("loaders", [0, 1])
def test_no_loader_of_small_batches_waits_for_steps_that_wait_for_it(store, tmp_path, loaders):
    """A block of 64 images is 32 steps of two: more than a round that is yet to be decided."""

    @ray.remote(num_cpus=0)
    def labelling():
        time.sleep(600)

    reference = labelling.remote()
    put(store.shard(0), "a", labelled([1, 2, 3]))
    rows = live_rows(store, tmp_path, reference)
    stream = Stream(
        rows=rows, origin=Origin.PSEUDO, batch_size=2, size_px=16, augment=AugmentConfig(),
        order_seed=0, view_seed=0, loaders=loaders, reached=rows.reached, most_steps=BLOCK_STEPS,
    )  # fmt: skip
    alone = Share(worker=0, num_workers=1)
    first = [batch.image_ids.tolist() for batch in stream.batches(0, 70, alone)]
    assert len(first) == 70
    rows.ended()
    again = live_rows(store, tmp_path, reference)  # a run that goes on from step 45
    resumed = replace(stream, rows=again, reached=again.reached)
    assert [batch.image_ids.tolist() for batch in resumed.batches(45, 70, alone)] == first[45:]
    again.ended()
    ray.cancel(reference, force=True)


@pytest.mark.cluster
@pytest.mark.timeout(900)  # two labellings, two trainings
@pytest.mark.usefixtures("ray_cluster")
def test_a_student_learns_while_the_teacher_labels(tmp_path):
    write_pool(tmp_path)
    write_teacher(tmp_path / "teacher")
    images, saved = (
        open_pool(str(tmp_path / "index")),
        read_model(str(tmp_path / "teacher"), "teacher"),
    )
    teacher = SavedTeacher(saved=saved, task=make_task("detection", MODEL, len(CLASSES)))
    policy = PolicyConfig(score_threshold=0.05)
    label = LabelConfig(actors=(1, 1), readers=1, block_images=16, batch_size=8)
    train = TrainConfig(steps=2 * ROUND_STEPS, batch_size=4, cpus_per_worker=1, loaders=0)
    learning = Learning(task="detection", model=MODEL, augment=AugmentConfig(), train=train)
    human = open_labeled(f"coco:{tmp_path}/instances_pool.json")
    val = open_labeled(f"coco:{tmp_path}/instances_val.json")

    def labelling(out, config):
        return partial(label_stage, images, teacher, str(out / "pseudo"), config, policy, None)

    def student(out, rows):
        job = training_job(learning, human=human, val=val, pseudo=rows, init=None, recipe={})
        assert job.pseudo is not None
        assert job.pseudo.most_steps == (BLOCK_STEPS if isinstance(rows, LiveRows) else None)
        return train_stage(job, out / "student", None)

    def live(out):
        beside = beside_training(label, train, **resources())
        choice = live_choice(teacher, policy, None)
        return live_stages(
            labelling(out, beside), partial(student, out), out / "pseudo", choice,
            batch_size=train.num_pseudo, record=out / "live.json",
        )[1]  # fmt: skip

    def apart(out):
        labelling(out, label)()
        return student(out, read_chosen(str(out / "pseudo")))

    took = {}
    for way in (live, apart):  # whoever comes second finds everything warm
        out, begun = tmp_path / way.__name__, time.monotonic()
        out.mkdir()
        trained = way(out)
        took[way.__name__] = time.monotonic() - begun
        assert trained["steps"] == train.steps
        assert 0 < trained["pseudo_images"] < IMAGES  # one cannot be read
        store = Store(str(out / "pseudo" / "raw"))
        assert findings(store, {shard.number: shard.rows() for shard in images.shards}) == []
    print(f"live {took['live']:.1f} s, label then train {took['apart']:.1f} s")
    # Times are for a quiet machine (benchmarks/live.py); that it has begun early holds on any.
    rounds = json.loads((tmp_path / "live" / "live.json").read_text())["ends"]
    files = sum(len(shard.files()) for shard in Store(f"{tmp_path}/live/pseudo/raw").shards())
    assert rounds[0] < files
