"""Images that failed: how many may, and how they are tried again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ray_st.config import UserError
from ray_st.data.labels import ClassLabel, Labels
from ray_st.data.sources.folder import image_rows
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.looks import Looks
from ray_st.labeling.pool import label, read_raw
from ray_st.labeling.rows import FAILED
from ray_st.labeling.store import Shard, Store
from ray_st.labeling.verify import findings
from ray_st.tasks.classification import Classification

pytestmark = pytest.mark.pure

HERE = LabelConfig(actors=(0, 0), batch_size=3)


class Brightness:
    """A teacher that sees how bright the middle of an image is; the images it saw are counted."""

    digest, classes, image_size_px = "brightness", ("dark", "bright"), 8
    kind: type[Labels] = ClassLabel

    def __init__(self) -> None:
        self.seen = 0

    @property
    def task(self):
        return Classification(num_classes=2)

    def looks(self, config):
        return Looks(sides_px=(8,))

    def load(self, device, looks):
        return self

    def predict(self, pixels, sizes_hw):
        self.seen += len(pixels)
        return [ClassLabel.of([int(one[4, 4, 0] > 127)], [one[4, 4, 0] / 255]) for one in pixels]


@pytest.fixture
def pool(tmp_path):
    """Ten images of growing brightness; 2, 3 and 7 cannot be read."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(10):
        draw(folder / f"{i}.png", i)
    for i in (2, 3, 7):
        (folder / f"{i}.png").write_bytes(b"no image")
    rows = image_rows(range(10), [str(folder / f"{i}.png") for i in range(10)])
    return folder, Images.of_rows(rows), rows


def draw(path: Path, i: int) -> None:
    Image.new("RGB", (8, 8), (25 * i,) * 3).save(path)


def labels_of(out):
    rows = read_raw(out)
    return dict(zip(rows["image_id"].to_pylist(), rows["top_scores"].to_pylist(), strict=True))


def failures_of(out):
    table = pq.read_table(f"{out}/failures.parquet").sort_by("image_id")
    return table["image_id"].to_pylist()


def test_failures_are_tried_again_and_labels_are_not(pool, tmp_path):
    folder, images, rows = pool
    teacher, out = Brightness(), str(tmp_path / "out")
    label(images, teacher, out, HERE, None)
    assert failures_of(out) == [2, 3, 7]
    assert teacher.seen == 7
    before = labels_of(out)
    draw(folder / "3.png", 3)
    draw(folder / "7.png", 7)
    label(images, teacher, out, HERE, None)  # without the flag: what failed stays
    assert teacher.seen == 7
    assert failures_of(out) == [2, 3, 7]
    for _ in range(2):  # the second time there is one failure left, and its file is a retry's
        label(images, teacher, out, HERE, None, retry_failed=True)
        assert failures_of(out) == [2]
        assert teacher.seen == 9
        after = labels_of(out)
        assert sorted(after) == [0, 1, 3, 4, 5, 6, 7, 8, 9]
        assert {i: after[i] for i in before} == before
        assert after[7] == [pytest.approx(7 * 25 / 255, abs=1e-3)]
        assert findings(Store(f"{out}/raw"), {0: [rows]}) == []
    draw(folder / "2.png", 2)
    label(images, teacher, out, HERE, None, retry_failed=True)
    assert failures_of(out) == []
    assert findings(Store(f"{out}/raw"), {0: [rows]}) == []
    standing = Store(f"{out}/raw").shard(0)
    label(images, teacher, out, HERE, None, retry_failed=True)  # nothing to try
    assert teacher.seen == 10
    assert Store(f"{out}/raw").shard(0).facts == standing.facts
    assert {path.name for path in (tmp_path / "out" / "raw").iterdir()} == {
        "store.json", "shard-00000",
    }  # fmt: skip


def test_a_retry_that_breaks_off_leaves_the_store_as_it_was(pool, tmp_path, monkeypatch):
    folder, images, rows = pool
    out = str(tmp_path / "out")
    label(images, Brightness(), out, HERE, None)
    store = Store(f"{out}/raw")
    before, ids = labels_of(out), store.shard(0).ids(FAILED)
    draw(folder / "2.png", 2)
    publish, broken = Shard.publish, []

    def breaking(self, names=None):
        if names is not None:  # all is written, the card is not
            broken.append(names)
            raise KeyboardInterrupt
        publish(self, names)

    monkeypatch.setattr(Shard, "publish", breaking)
    with pytest.raises(KeyboardInterrupt):
        label(images, Brightness(), out, HERE, None, retry_failed=True)
    monkeypatch.undo()
    assert len(broken) == 1
    assert labels_of(out) == before
    np.testing.assert_array_equal(store.shard(0).ids(FAILED), ids)
    assert "files that do not belong" in findings(store, {0: [rows]})[0]
    label(images, Brightness(), out, HERE, None)  # tidies up
    assert findings(store, {0: [rows]}) == []
    assert failures_of(out) == [2, 3, 7]
    label(images, Brightness(), out, HERE, None, retry_failed=True)
    assert failures_of(out) == [3, 7]
    assert findings(store, {0: [rows]}) == []


@pytest.mark.parametrize(("rate", "passes"), [(0.0, False), (0.29, False), (0.3, True)])
def test_a_shard_may_have_so_many_failures(pool, tmp_path, rate, passes):
    _, images, rows = pool
    out, config = str(tmp_path / "out"), replace(HERE, max_failure_rate=rate)
    if passes:
        label(images, Brightness(), out, config, None)
        assert failures_of(out) == [2, 3, 7]
        return
    for _ in range(2):  # the second time it is known before anything is read
        teacher = Brightness()
        with pytest.raises(UserError, match=r"^label\.max_failure_rate: .* has 3 images") as caught:
            label(images, teacher, out, config, None)
        assert f"at most {int(10 * rate)} may" in str(caught.value)
        assert "--retry-failed" in str(caught.value)
    assert teacher.seen == 0
    assert Store(f"{out}/raw").shards() == []
    # The way out that the line names: nothing that was labelled is labelled again.
    teacher = Brightness()
    label(images, teacher, out, config, None, retry_failed=True)
    assert failures_of(out) == [2, 3, 7]
    assert findings(Store(f"{out}/raw"), {0: [rows]}) == []
    assert teacher.seen == 0


def test_a_part_of_a_shard(pool):
    images = pool[1]
    (whole,) = images.shards
    some = whole.only(np.array([7, 2, 99]))
    assert (some.num_rows, some.files, some.number) == (2, (), 0)
    assert pa.concat_tables(some.rows())["image_id"].to_pylist() == [2, 7]
    assert pa.concat_tables(some.rows()).num_rows == 2  # a second time too


def listed(folder, *names):
    """A pool of these names, numbered by their places."""
    return Images.of_rows(image_rows(range(len(names)), [str(folder / name) for name in names]))


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_folder_whose_files_moved_on_is_refused(tmp_path, is_whole):
    """What stands under an image's number would be another file's label, and one get none."""
    teacher, out = Brightness(), str(tmp_path / "out")
    for i, name in enumerate("abcde"):
        draw(tmp_path / f"{name}.png", i)
    names = [f"{name}.png" for name in "bcd"]
    label(listed(tmp_path, *names), teacher, out, HERE, None)
    shard = Store(f"{out}/raw").shard(0)
    if not is_whole:
        Path(shard.folder, "shard.json").unlink()  # as it is until the last file is written
    before = shard.named()
    cases = {
        f"image 0 was {tmp_path}/b.png and is {tmp_path}/a.png": ["a.png", *names],
        f"image 1 was {tmp_path}/c.png and is {tmp_path}/d.png": ["b.png", "d.png"],
        "1 fewer": ["b.png", "c.png"],
        **({"1 more": [*names, "e.png"]} if is_whole else {}),
    }
    for said, files in cases.items():
        with pytest.raises(
            UserError, match=r"^images: must be listed as when .*was begun, got "
        ) as it:
            label(listed(tmp_path, *files), teacher, out, HERE, None)
        assert f"({said}); " in str(it.value)
        assert shard.named() == before
    assert teacher.seen == 3
    label(listed(tmp_path, *names), teacher, out, HERE, None)
    assert teacher.seen == 3


def test_files_behind_all_others_join_a_shard_that_is_not_whole(tmp_path):
    teacher, out = Brightness(), str(tmp_path / "out")
    for i, name in enumerate("abc"):
        draw(tmp_path / f"{name}.png", i)
    label(listed(tmp_path, "a.png", "b.png"), teacher, out, HERE, None)
    (tmp_path / "out" / "raw" / "shard-00000" / "shard.json").unlink()
    images = listed(tmp_path, "a.png", "b.png", "c.png")
    label(images, teacher, out, HERE, None)
    assert teacher.seen == 3
    assert findings(Store(f"{out}/raw"), {0: images.shards[0].rows()}) == []
