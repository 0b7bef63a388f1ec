"""A store as the rows of a stream: read in windows, chosen on the way, in the one true order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_st.data.labels import Detections, Origin
from ray_st.data.order import images_at
from ray_st.data.rows import label_row, pack, unpack
from ray_st.data.sources.folder import image_rows
from ray_st.labeling import stored
from ray_st.labeling.policy import Choice, PolicyConfig, choose
from ray_st.labeling.rows import OK, failed_rows, store_row
from ray_st.labeling.store import Store
from ray_st.labeling.stored import StoredRows

pytestmark = pytest.mark.pure

CLASSES = ("cat", "dog")
SCHEMA = store_row(Detections, "abc")


def labelled(ids):
    """An image has a box of each of two scores, whose left side is its id."""
    rows = pack(
        image_ids=ids,
        uris=[f"/{i}.jpg" for i in ids],
        sizes_hw=[(50, 60)] * len(ids),
        labels=[Detections.of([[i, 0, i + 1, 1]] * 2, [0, 1], scores=[0.25, 0.75]) for i in ids],
        origin=Origin.PSEUDO,
        kind=Detections,
    )
    for name, text in (("status", OK), ("stage", None), ("reason", None)):
        rows = rows.append_column(name, pa.array([text] * len(ids), pa.string()))
    return rows.cast(SCHEMA)


def failed(ids):
    return failed_rows(image_rows(ids, [f"/{i}.jpg" for i in ids]), "decode", "cut", SCHEMA)


@pytest.fixture
def store(tmp_path):
    """Images 0 to 39; every tenth failed; a file of failures alone; a shard that is not whole."""
    store = Store(str(tmp_path / "raw"))
    store.claim({})
    rng = np.random.default_rng(0)
    for number in range(2):
        shard = store.shard(number)
        Path(shard.folder).mkdir(parents=True)
        ids = 20 * number + rng.permutation(20)
        for part in range(4):
            mine = [int(i) for i in ids[5 * part : 5 * part + 5]]
            good, bad = [i for i in mine if i % 10], [i for i in mine if i % 10 == 0]
            tables = [labelled(good), *([failed(bad)] if bad else [])]
            pq.write_table(pa.concat_tables(tables), shard.file(f"{part}.parquet"))
        if number == 1:
            pq.write_table(failed([100, 101]), shard.file("bad.parquet"))
        shard.publish()
    begun = store.shard(2)
    Path(begun.folder).mkdir()
    pq.write_table(labelled([500]), begun.file("a.parquet"))
    return store


GOOD = [i for i in range(40) if i % 10]


def rows_of(store, *, threshold=0.5, window_images=10):
    policy = PolicyConfig(score_threshold=threshold)
    choice = choose(lambda: [store.read()], Detections, policy, CLASSES)
    return StoredRows.of(store, choice, window_images)


def test_an_epoch_holds_each_labelled_image_once_with_what_the_policy_keeps(store):
    rows = rows_of(store)
    assert rows.num_rows == 36
    found, epochs = rows.at(np.arange(72), seed=3)
    assert found.schema.equals(label_row(Detections), check_metadata=True)
    ids = found["image_id"].to_pylist()
    assert sorted(ids[:36]) == sorted(ids[36:]) == GOOD
    assert ids[:36] != ids[36:]
    assert epochs.tolist() == [0] * 36 + [1] * 36
    for image_id, labels in zip(ids, unpack(found), strict=True):
        assert labels.class_ids.tolist() == [1]
        assert labels.boxes_xyxy.tolist() == [[image_id, 0, image_id + 1, 1]]
    assert set(found["origin"].to_pylist()) == {int(Origin.PSEUDO)}


def test_a_position_has_the_same_row_whoever_asks_and_in_any_order(store):
    rows, positions = rows_of(store), np.array([71, 0, 35, 36, 5, 0])
    together, epochs = rows.at(positions, seed=3)
    for i in range(len(positions)):
        alone, epoch = rows.at(positions[i : i + 1], seed=3)
        assert alone.equals(together.slice(i, 1))
        assert epoch.tolist() == [epochs[i]]
    assert rows.at(np.empty(0, np.int64), seed=3)[0].num_rows == 0


def test_one_window_has_the_order_of_rows_that_are_held(store):
    rows = rows_of(store, window_images=10**6)
    held = store.read()
    positions = np.arange(90)
    indices, epochs = images_at(positions, num_images=36, seed=8)
    found = rows.at(positions, seed=8)
    assert found[0]["image_id"].equals(held.take(pa.array(indices))["image_id"])
    np.testing.assert_array_equal(found[1], epochs)


def test_other_thresholds_see_the_same_images_with_other_labels(store):
    some, all_boxes = rows_of(store), rows_of(store, threshold=0.1)
    one, other = (rows.at(np.arange(36), seed=0)[0] for rows in (some, all_boxes))
    assert one["image_id"].equals(other["image_id"])
    assert [len(each) for each in unpack(other)] == [2] * 36
    assert [len(each) for each in unpack(one)] == [1] * 36


def test_a_window_is_read_once_and_few_are_held(store, tmp_path):
    rows = rows_of(store)
    ids = rows.at(np.arange(36), seed=1)[0]["image_id"]
    assert len(stored._HELD) == 2
    before = rows.at(np.arange(30, 36), seed=1)[0]
    for file in rows.files.to_pylist():
        Path(file).unlink()
    assert rows.at(np.arange(30, 36), seed=1)[0].equals(before)  # the last window is held
    assert before["image_id"].equals(ids.slice(30))
    with pytest.raises(FileNotFoundError):
        rows.at(np.arange(6), seed=1)


def test_thresholds_are_read_back_from_a_summary():
    policy = PolicyConfig(score_threshold=0.3)
    thresholds = np.array([0.1 + 0.2, np.inf])
    choice = Choice(policy=policy, kind=Detections, classes=CLASSES, thresholds=thresholds)
    again = Choice.recorded(choice.account()["thresholds"], policy, Detections)
    assert again.classes == CLASSES
    np.testing.assert_array_equal(again.thresholds, thresholds)
