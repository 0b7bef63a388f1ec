"""What is half written is removed, and nothing else; what was done is not counted as undone."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_st.data.labels import Detections
from ray_st.data.rows import IMAGE_ROW
from ray_st.labeling.recovery import notes, recover
from ray_st.labeling.rows import failed_rows, store_row
from ray_st.labeling.store import Shard

pytestmark = pytest.mark.pure


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    found = Shard(str(tmp_path / "shard-00000"))
    Path(found.folder).mkdir()
    Path(notes(found)).mkdir(parents=True)
    return found


def stand(shard: Shard, name: str, ids: list[int]) -> Path:
    rows = pa.table([ids, [str(each) for each in ids]], schema=IMAGE_ROW)
    file = Path(shard.file(name))
    pq.write_table(failed_rows(rows, "decode", "none", store_row(Detections)), file)
    return file


def note(shard: Shard, name: str) -> Path:
    path = Path(notes(shard)) / name
    pq.write_table(pa.table({"image_id": [1]}), path)
    return path


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def test_what_is_noted_as_written_stays(shard: Shard) -> None:
    stand(shard, "run_000001-0.parquet", [1, 2])
    stand(shard, "run_0000010-0.parquet", [3])  # its name begins like the one that is pending
    note(shard, "run_000001.parquet")
    note(shard, "run_0000010.parquet")
    note(shard, "run_000.pending.parquet")
    recover(shard)
    assert sorted(shard.ids().tolist()) == [1, 2, 3]
    assert sorted(path.name for path in Path(notes(shard)).iterdir()) == [
        "run_000001.parquet", "run_0000010.parquet",
    ]  # fmt: skip


@pytest.mark.parametrize("is_torn", [False, True])
def test_what_was_being_written_is_written_again(shard: Shard, is_torn: bool) -> None:
    file = stand(shard, "run_000001-0.parquet", [1, 2])
    if is_torn:
        tear(file)
        with pytest.raises(pa.ArrowInvalid):
            shard.ids()
    note(shard, "run_000001.pending.parquet")
    recover(shard)
    assert shard.ids().tolist() == []
    assert list(Path(notes(shard)).iterdir()) == []


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_file_with_both_notes_is_not_lost(shard: Shard, is_torn: bool) -> None:
    """A bucket's rename broke off half-way, or a writer died when it wrote its file again."""
    file = stand(shard, "run_000001-0.parquet", [1, 2])
    if is_torn:
        tear(file)
    note(shard, "run_000001.pending.parquet")
    note(shard, "run_000001.parquet")
    recover(shard)
    # No note without its file: else these images would never be labelled.
    assert shard.standing() == []
    assert list(Path(notes(shard)).iterdir()) == []


def test_files_of_our_own_need_no_note(shard: Shard) -> None:
    stand(shard, "here-ab.parquet", [1])
    tear(stand(shard, "here-cd.parquet", [2]))
    recover(shard)
    assert shard.ids().tolist() == [1]


def test_a_shard_that_never_began(tmp_path: Path) -> None:
    recover(Shard(str(tmp_path / "shard-00000")))
    assert list(tmp_path.iterdir()) == []
