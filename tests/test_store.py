"""A store counts what is published, refuses to mix teachers, and says what is missing."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_st.config import UserError
from ray_st.data.labels import ClassLabel, Detections, Origin, SegmentationMap
from ray_st.data.rows import FAILURE_ROW, label_row, pack, unpack
from ray_st.data.sources.folder import image_rows
from ray_st.labeling.rows import OK, failed_rows, store_row
from ray_st.labeling.store import Store

pytestmark = pytest.mark.pure

CARD = {"teacher_sha256": "abc", "task": "detection", "classes": ["a", "b"], "image_size_px": 64}


def labelled(ids, kind=Detections):
    """STORE_ROWs of images that were labelled."""
    labels = {
        Detections: Detections.of([[1, 2, 3, 4]], [0], scores=[0.25]),
        SegmentationMap: SegmentationMap(class_map=np.ones((2, 3), np.uint8)),
        ClassLabel: ClassLabel.of([1], [0.5]),
    }[kind]
    rows = pack(
        image_ids=ids,
        uris=[f"/{i}.jpg" for i in ids],
        sizes_hw=[(2, 3)] * len(ids),
        labels=[labels] * len(ids),
        origin=Origin.PSEUDO,
        kind=kind,
    )
    for name, text in (("status", OK), ("stage", None), ("reason", None)):
        rows = rows.append_column(name, pa.array([text] * len(ids), pa.string()))
    return rows.cast(store_row(kind, "abc"))


def failed(ids, kind=Detections):
    rows = image_rows(ids, [f"/{i}.jpg" for i in ids])
    return failed_rows(rows, "decode", "cut off", store_row(kind, "abc"))


def put(shard, name, *tables):
    Path(shard.folder).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables), shard.file(name))


@pytest.mark.parametrize("kind", [Detections, SegmentationMap, ClassLabel])
def test_labels_and_failures_are_read_apart_in_the_order_of_ids(tmp_path, kind):
    store = Store(str(tmp_path / "raw"))
    store.claim(CARD)
    put(store.shard(0), "b.parquet", labelled([4, 0], kind), failed([2], kind))
    put(store.shard(0), "a.parquet", failed([1], kind))
    put(store.shard(1), "c.parquet", labelled([3], kind))
    for number in (0, 1):
        store.shard(number).publish()
    rows = store.read()
    assert rows.schema.equals(label_row(kind), check_metadata=True)
    assert rows["image_id"].to_pylist() == [0, 3, 4]
    assert all(isinstance(one, kind) and one.amount() > 0 for one in unpack(rows))
    failures = pa.concat_tables(store.failures()).sort_by("image_id")
    assert failures.schema.equals(FAILURE_ROW, check_metadata=True)
    assert failures.select(["image_id", "reason"]).to_pylist() == [
        {"image_id": 1, "reason": "cut off"},
        {"image_id": 2, "reason": "cut off"},
    ]


def test_what_is_not_published_does_not_count(tmp_path):
    store = Store(str(tmp_path))
    shard = store.shard(0)
    put(shard, "a.parquet", labelled([0, 1]))
    assert shard.facts is None
    assert store.shards() == []
    assert store.read().num_rows == 0
    assert sorted(shard.ids()) == [0, 1]  # what stands there, for the one who goes on
    Path(shard.work).mkdir()
    shard.publish()
    put(shard, "late.parquet", labelled([7]))  # of a process that was thought dead
    assert store.read()["image_id"].to_pylist() == [0, 1]
    facts = shard.facts
    size = Path(shard.file("a.parquet")).stat().st_size
    assert facts == {
        "rows": 2,
        "failed": 0,
        "files": [{"name": "a.parquet", "rows": 2, "failed": 0, "bytes": size}],
    }
    assert not Path(shard.work).exists()


def test_a_shard_of_failures_alone(tmp_path):
    store = Store(str(tmp_path))
    put(store.shard(0), "a.parquet", failed([5, 6]))
    store.shard(0).publish()
    assert store.shard(0).facts["failed"] == 2
    assert store.read().num_rows == 0
    (failures,) = store.failures()
    assert failures["image_id"].to_pylist() == [5, 6]


def test_an_empty_store_and_shards_in_order(tmp_path):
    store = Store(str(tmp_path))
    assert store.read().num_rows == len(list(store.failures())) == 0
    for number in (12, 3, 100_000):
        store.shard(number).publish()
    assert [shard.name for shard in store.shards()] == [
        "shard-00003",
        "shard-00012",
        "shard-100000",
    ]


def test_a_store_is_of_one_teacher(tmp_path):
    store = Store(str(tmp_path / "raw"))
    with pytest.raises(UserError, match="holds no labels"):
        _ = store.card
    store.claim(CARD)
    store.claim(CARD)
    assert store.card == {"format": 2, **CARD}
    with pytest.raises(UserError) as caught:
        store.claim({**CARD, "teacher_sha256": "def", "classes": ["a"]})
    assert "another kind (teacher_sha256, classes differ)" in str(caught.value)
    assert json.loads((tmp_path / "raw" / "store.json").read_text()) == {"format": 2, **CARD}
