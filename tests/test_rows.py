import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_st.data.labels import Detections, Origin
from ray_st.data.rows import label_row, pack, unpack

pytestmark = pytest.mark.pure

FIELDS = ("boxes_xyxy", "class_ids", "scores", "is_crowd", "areas_px")


def made(counts: list[int]) -> list[Detections]:
    rng = np.random.default_rng(len(counts))
    return [
        Detections.of(
            rng.uniform(0, 100, (n, 4)),
            rng.integers(0, 90, n),
            scores=rng.uniform(0, 1, n).astype(np.float32),
            is_crowd=rng.random(n) < 0.3,
        )
        for n in counts
    ]


def packed(labels: list[Detections]) -> pa.Table:
    return pack(
        image_ids=range(len(labels)),
        uris=[f"{i}.jpg" for i in range(len(labels))],
        sizes_hw=[(100, 50 + i) for i in range(len(labels))],
        labels=labels,
        origin=Origin.PSEUDO,
        kind=Detections,
    )


def assert_same(got: list[Detections], expected: list[Detections]) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
            assert getattr(a, field).dtype == getattr(b, field).dtype
            assert getattr(a, field).shape == getattr(b, field).shape


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=8))
def test_unpack_undoes_pack(counts):
    table = packed(made(counts))
    assert table.schema.equals(label_row(Detections), check_metadata=True)
    assert_same(unpack(table), made(counts))


def test_the_other_columns():
    table = packed(made([1, 0]))
    plain = table.select(["image_id", "uri", "height_px", "width_px", "origin"]).to_pylist()
    assert plain[1] == {
        "image_id": 1,
        "uri": "1.jpg",
        "height_px": 100,
        "width_px": 51,
        "origin": int(Origin.PSEUDO),
    }


@pytest.mark.parametrize("counts", [[], [0], [0, 0, 0], [2, 0, 120]])
def test_tables_in_chunks_slices_and_other_orders(counts):
    labels = made(counts)
    table = packed(labels)
    assert_same(unpack(pa.concat_tables([table, table])), labels + labels)
    assert_same(unpack(pa.concat_tables([table, table]).slice(len(counts))), labels)
    assert_same(unpack(table.take(pa.array(range(len(counts))[::-1], pa.int64()))), labels[::-1])
    assert_same(unpack(table.slice(1)), labels[1:])


def test_a_table_of_no_chunks():
    assert unpack(label_row(Detections).empty_table()) == []


def test_parquet_gives_the_labels_back(tmp_path):
    import pyarrow.parquet as pq

    labels = made([3, 0, 1])
    pq.write_table(packed(labels), tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.metadata[b"ray_st.schema_version"] == b"2"
    assert_same(unpack(table), labels)
