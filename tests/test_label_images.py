"""A pool is a manifest or rows in memory; either gives its shards."""

import numpy as np
import pytest
from PIL import Image

from ray_st.config import UserError
from ray_st.data.manifest.indexing import index_images
from ray_st.data.manifest.manifest import Manifest
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.sources.folder import image_rows
from ray_st.labeling import images as module
from ray_st.labeling.images import Images, open_pool

pytestmark = pytest.mark.pure


def test_rows_in_memory_are_cut_into_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_IMAGES", 3)
    rows = image_rows([9, 4, 7, 2, 5, 1, 0], [f"/{i}" for i in range(7)])
    pool = Images.of_rows(rows)
    assert pool.num_rows == 7
    assert [(shard.number, shard.num_rows) for shard in pool.shards] == [(0, 3), (1, 3), (2, 1)]
    assert [shard.ids().tolist() for shard in pool.shards] == [[9, 4, 7], [2, 5, 1], [0]]
    assert all(shard.files == () for shard in pool.shards)
    assert Images.of_rows(rows.slice(0, 0)).num_rows == 0


def test_a_manifest_is_opened_and_a_folder_is_listed(tmp_path):
    for i in range(5):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    index_images(
        str(tmp_path), str(tmp_path.parent / "index=1"), column=None, shard_rows=4, file_rows=3,
        threads=2, dry_run=False, seen=lambda rows: None,
    )  # fmt: skip
    manifest = Manifest.read(str(tmp_path.parent / "index=1"))
    pool, listed = open_pool(manifest.uri), open_pool(str(tmp_path))
    assert pool.num_rows == listed.num_rows == 5
    assert [shard.ids().tolist() for shard in pool.shards] == [[0, 1, 2, 3], [2**32]]
    assert [len(shard.files) for shard in pool.shards] == [2, 1]
    tables = [table for shard in pool.shards for table in shard.rows()]
    assert all(table.schema.equals(IMAGE_ROW) for table in tables)
    uris = [uri for table in tables for uri in table["uri"].to_pylist()]
    (whole,) = listed.shards
    assert uris == [uri for table in whole.rows() for uri in table["uri"].to_pylist()]
    np.testing.assert_array_equal(whole.ids(), np.arange(5))


def test_what_is_neither_is_refused_as_ever(tmp_path):
    with pytest.raises(UserError, match="must hold images"):
        open_pool(str(tmp_path))
    with pytest.raises(UserError, match="did you mean coco:x"):
        open_pool("cocoa:x")
