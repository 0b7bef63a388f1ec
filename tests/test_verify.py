"""Whatever can be wrong with a store's files is found from the files alone."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_store import CARD, failed, labelled

from ray_st.config import UserError
from ray_st.data.labels import Detections
from ray_st.data.sources.folder import image_rows
from ray_st.labeling.identity import of_other_files
from ray_st.labeling.rows import store_row
from ray_st.labeling.store import Store
from ray_st.labeling.verify import findings

pytestmark = pytest.mark.pure


@pytest.fixture
def store(tmp_path):
    """Two shards, 0 to 5 and 100 to 103; image 3 and 103 failed."""
    made = Store(str(tmp_path / "raw"))
    made.claim(CARD)
    for number, parts in enumerate(([[0, 1, 2], [4, 5]], [[100, 101, 102]])):
        write(made, number, *[labelled(ids) for ids in parts], failed([3 if number == 0 else 103]))
        made.shard(number).publish()
    return made


def write(store, number, *tables):
    folder = Path(store.shard(number).folder)
    folder.mkdir(exist_ok=True)
    for i, table in enumerate(tables):
        pq.write_table(table, folder / f"{i}.parquet", write_page_checksum=True)


def again(store, number, *tables):
    """Write a shard's files and publish them over what stood there."""
    for file in Path(store.shard(number).folder).iterdir():
        file.unlink()
    write(store, number, *tables)
    store.shard(number).publish()


def rows(ids):
    return [image_rows(some, [f"/{i}.jpg" for i in some]) for some in (ids[:2], ids[2:])]


MANIFEST = {0: [0, 1, 2, 3, 4, 5], 1: [100, 101, 102, 103]}


def checked(store, manifest=MANIFEST):
    return findings(store, {number: rows(ids) for number, ids in manifest.items()})


def test_a_whole_store_is_clean(store):
    assert findings(store) == []
    assert checked(store) == []


def test_no_store(tmp_path):
    with pytest.raises(UserError, match="holds no labels"):
        findings(Store(str(tmp_path)))


def test_missing_doubled_and_foreign_images_are_named(store):
    again(store, 0, labelled([0, 1, 2, 2]), labelled([5, 7]), failed([0]))
    assert findings(store) == ["shard 0: 2 images stand more than once: 0, 2"]
    assert checked(store) == [
        "shard 0: 2 images stand more than once: 0, 2",
        "shard 0: 2 images are missing: 3, 4",
        "shard 0: 1 image are not of the manifest: 7",
    ]


def test_images_that_are_other_files_now(store):
    listed = {number: rows(ids) for number, ids in MANIFEST.items()}
    listed[0] = [image_rows([5, 4, 0], ["/5.jpg", "/other.jpg", "s3://b/0.jpg?region=x"]),
                 image_rows([1, 2, 3], ["/2.jpg", "/2.jpg", "/3.jpg"])]  # fmt: skip
    assert findings(store, listed) == ["shard 0: 3 images are of other files than listed: 0, 1, 4"]


def test_options_of_a_bucket_are_no_part_of_a_name():
    here = image_rows([2, 0, 1], [f"s3://b/{i}.jpg?region=x" for i in (2, 0, 1)])
    there = image_rows([0, 1, 2, 3], [f"s3://b/{i}.jpg" for i in range(4)])
    assert of_other_files(here, there).tolist() == []
    assert of_other_files(here, there.slice(0, 0)).tolist() == []
    assert of_other_files(here.slice(0, 0), there).tolist() == []


def test_an_image_in_two_shards(store):
    again(store, 1, labelled([100, 4, 3]))
    assert findings(store) == ["2 images stand in shard-00000 and in shard-00001: 3, 4"]


def test_many_are_counted_and_some_named(store):
    again(store, 0, labelled([0]))
    found = checked(store, {0: list(range(20)), 1: MANIFEST[1]})
    assert found == ["shard 0: 19 images are missing: 1, 2, 3, 4, 5 and 14 more"]


def test_unfinished_and_unknown_shards(store):
    (Path(store.shard(1).folder) / "shard.json").unlink()
    assert findings(store) == ["shard 1: is not finished; run the same `label` again"]
    found = checked(store, {**MANIFEST, 2: [200, 201]})
    assert [each.partition(";")[0] for each in found] == [
        "shard 1: is not finished",
        "shard 2: is not finished",
    ]
    assert "shard 0: is not of this manifest" in checked(store, {1: MANIFEST[1]})


def test_damaged_files(store):
    folder = Path(store.shard(0).folder)
    whole = (folder / "0.parquet").read_bytes()
    (folder / "0.parquet").write_bytes(whole[:-20])
    assert findings(store)[0].startswith(f"shard 0: 0.parquet: has {len(whole) - 20} bytes, ")
    (folder / "0.parquet").unlink()
    assert findings(store)[0] == "shard 0: 0.parquet: is gone"
    (folder / "0.parquet").write_bytes(whole)
    assert findings(store) == []
    # One bit in the middle of the data: the size is right, the page's checksum is not.
    column = pq.read_metadata(folder / "0.parquet").row_group(0).column(0)
    at = column.data_page_offset + column.total_compressed_size - 3
    changed = bytes([whole[at] ^ 1])
    (folder / "0.parquet").write_bytes(whole[:at] + changed + whole[at + 1 :])
    assert [each.partition(": ")[2].partition(":")[0] for each in findings(store)] == ["0.parquet"]
    (folder / "0.parquet").write_bytes(whole)
    (folder / "late.parquet").write_bytes(whole)
    assert findings(store) == ["shard 0: holds files that do not belong to it (late.parquet)"]


def test_rows_that_are_not_of_this_store(store):
    other = labelled([0, 1]).cast(store_row(Detections, "def"))
    again(store, 0, other, labelled([2, 4, 5]), failed([3]))
    assert checked(store) == ["shard 0: 0.parquet: was labelled by another teacher (def)"]
    plain = labelled([0, 1]).cast(store_row(Detections))
    again(store, 0, plain, labelled([2, 4, 5]), failed([3]))
    assert checked(store) == ["shard 0: 0.parquet: was labelled by another teacher (unnamed)"]
    narrow = labelled([0, 1]).drop_columns(["reason"])
    again(store, 0, labelled([0]))
    write(store, 0, labelled([0]), narrow)
    entry = {"name": "1.parquet", "rows": 2, "failed": 0}
    card = Path(store.shard(0).folder) / "shard.json"
    facts = json.loads(card.read_text())
    size = (Path(store.shard(0).folder) / "1.parquet").stat().st_size
    facts["files"].append({**entry, "bytes": size})
    card.write_text(json.dumps(facts))
    assert "shard 0: 1.parquet: has other columns than this version's" in findings(store)


def test_failures_say_why(store):
    silent = failed([3])
    at = silent.schema.get_field_index("reason")
    silent = silent.set_column(at, "reason", pa.array([None], pa.string()))
    again(store, 0, labelled([0, 1, 2, 4, 5]), silent)
    assert checked(store) == ["shard 0: 1.parquet: has failures without stage or reason"]


def test_another_format(store):
    path = Path(store.folder) / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9}))
    assert findings(store) == ["store.json: is of format 9, not 2"]
