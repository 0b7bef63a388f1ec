"""A pool is indexed: what is found, in which order, under which ids, and what a rerun adds."""

import io
import json
import shutil
import threading
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from ray_st.cli import main
from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.images import fetch
from ray_st.data.manifest import Manifest, indexing
from ray_st.data.manifest.indexing import index_images
from ray_st.data.manifest.listing import walk
from ray_st.data.manifest.manifest import image_id, place_of
from ray_st.data.rows import MANIFEST_ROW
from ray_st.data.sources import open_images

pytestmark = pytest.mark.pure

NAMES = [
    "B.JPG",
    "a#1.jpg",
    "a%20b.jpeg",
    "a-b.jpg",
    "a/z.png",
    "a=b c.Png",
    "deep/er/z.webp",
    "deep/y.tiff",
    "deep.jpg",
    "x.bmp",
    "ä日.ppm",
]


def index(images, out, *, dry_run=False, **more):
    settings = {"column": None, "shard_rows": 5, "file_rows": 2, "threads": 3, **more}
    return index_images(str(images), str(out), dry_run=dry_run, seen=lambda _: None, **settings)


def rows_of(out):
    manifest = Manifest.read(str(out))
    tables = [table for each in manifest.shards for table in manifest.read_shard(each.shard)]
    return pa.concat_tables(tables)


def uris_of(out):
    return rows_of(out).column("uri").to_pylist()


def write(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def files(root):
    return {path: path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


def counts(done):
    return done.counts.found, done.counts.new, done.counts.gone


def test_a_folder_gives_the_rows_of_the_plain_reader_with_sizes(tmp_path):
    write(tmp_path / "in", NAMES[::-1])
    write(tmp_path / "in", (".hidden.jpg", ".cache/a.jpg", "notes.txt", "jpg", "deep/.x/a.jpg"))
    done = index(tmp_path / "in", tmp_path / "out", shard_rows=100)
    rows = rows_of(tmp_path / "out")
    assert counts(done) == (len(NAMES), len(NAMES), 0)
    assert rows.schema.equals(MANIFEST_ROW, check_metadata=True)
    assert rows.select(["image_id", "uri"]).equals(open_images(str(tmp_path / "in")))
    assert rows.column("size_bytes").to_pylist() == [len(name.encode()) for name in sorted(NAMES)]
    assert rows.column("etag").null_count == len(NAMES)
    for uri, name in zip(rows.column("uri").to_pylist(), sorted(NAMES), strict=True):
        assert fetch(uri) == name.encode()


def test_ids_are_shard_and_offset_and_files_are_full(tmp_path):
    write(tmp_path / "in", [f"{i:02d}.jpg" for i in range(12)])
    index(tmp_path / "in", tmp_path / "out")
    ids = rows_of(tmp_path / "out").column("image_id").to_pylist()
    assert ids == [
        *(0, 1, 2, 3, 4),
        *(2**32 + i for i in range(5)),
        *(2 * 2**32 + i for i in range(2)),
    ]
    assert [place_of(each) for each in ids[-3:]] == [(1, 4), (2, 0), (2, 1)]
    assert place_of(image_id(299, 999_999)) == (299, 999_999)
    parts = sorted((tmp_path / "out").rglob("*.parquet"))
    assert [pq.ParquetFile(part).metadata.num_rows for part in parts] == [2, 2, 1, 2, 2, 1, 2]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == {
        "format": 1,
        "source": str(tmp_path / "in"),
        "column": None,
        "shard_rows": 5,
        "file_rows": 2,
        "shards": [
            {"shard": 0, "rows": 5, "files": 3},
            {"shard": 1, "rows": 5, "files": 3},
            {"shard": 2, "rows": 2, "files": 1},
        ],
    }


@pytest.mark.parametrize("count", [1, 2, 4, 5, 10])
def test_every_count_at_a_border_is_whole(tmp_path, count):
    write(tmp_path / "in", [f"{i:02d}.jpg" for i in range(count)])
    index(tmp_path / "in", tmp_path / "out")
    manifest = Manifest.read(str(tmp_path / "out"))
    assert manifest.num_rows == count == rows_of(tmp_path / "out").num_rows
    assert sum(each.files for each in manifest.shards) == len([*tmp_path.rglob("*.parquet")])
    assert all(each.rows for each in manifest.shards)


def test_the_same_tree_gives_the_same_files_whatever_the_threads(tmp_path):
    write(tmp_path / "in", [f"{i % 7}/{i % 3}/{i}.jpg" for i in range(200)])
    for name, threads in (("one", 1), ("many", 16)):
        index(tmp_path / "in", tmp_path / name, threads=threads, shard_rows=70, file_rows=30)
    one, many = (
        {path.relative_to(tmp_path / name): text for path, text in files(tmp_path / name).items()}
        for name in ("one", "many")
    )
    assert one == many
    assert len(one) == 1 + 8


def test_a_rerun_adds_what_is_new_and_touches_nothing(tmp_path):
    write(tmp_path / "in", NAMES)
    index(tmp_path / "in", tmp_path / "out")
    before, old = files(tmp_path / "out"), rows_of(tmp_path / "out")
    assert counts(index(tmp_path / "in", tmp_path / "out")) == (11, 0, 0)
    assert files(tmp_path / "out") == before

    write(tmp_path / "in", ["a/0.jpg", "zz.jpg", "A.jpg"])
    (tmp_path / "in" / "x.bmp").unlink()
    dry = index(tmp_path / "in", tmp_path / "out", dry_run=True)
    assert counts(dry) == (13, 3, 1)
    assert files(tmp_path / "out") == before
    assert counts(index(tmp_path / "in", tmp_path / "out")) == (13, 3, 1)
    after = files(tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    assert {path: after[path] for path in before if path != manifest} == {
        path: text for path, text in before.items() if path != manifest
    }
    rows = rows_of(tmp_path / "out")
    assert rows.slice(0, 11).equals(old)
    assert rows.slice(11).column("image_id").to_pylist() == [3 * 2**32 + i for i in range(3)]
    names = [Path(uri).name for uri in rows.slice(11).column("uri").to_pylist()]
    assert names == ["A.jpg", "0.jpg", "zz.jpg"]  # the order of the listing
    assert counts(index(tmp_path / "in", tmp_path / "out")) == (13, 0, 1)


def test_a_crash_before_the_end_leaves_the_old_manifest_and_is_cleaned_up(tmp_path, monkeypatch):
    write(tmp_path / "in", NAMES)
    index(tmp_path / "in", tmp_path / "out")
    old = rows_of(tmp_path / "out")
    write(tmp_path / "in", [f"new/{i}.jpg" for i in range(20)])

    def crash(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", crash)
        with pytest.raises(KeyboardInterrupt):
            index(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "shard-00006").is_dir()
    assert rows_of(tmp_path / "out").equals(old)

    for i in range(15):  # fewer are new than the broken run had
        (tmp_path / "in" / "new" / f"{i}.jpg").unlink()
    assert counts(index(tmp_path / "in", tmp_path / "out")) == (16, 5, 0)
    assert sorted(path.name for path in (tmp_path / "out").glob("shard-*")) == [
        f"shard-0000{i}" for i in range(4)
    ]
    assert rows_of(tmp_path / "out").slice(0, 11).equals(old)


def test_a_first_run_that_crashed_is_no_manifest_yet_and_is_begun_again(tmp_path, monkeypatch):
    write(tmp_path / "in", NAMES)
    with monkeypatch.context() as patch:
        patch.setattr(indexing, "write_shards", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index(tmp_path / "in", tmp_path / "out")
    shutil.copytree(tmp_path / "in", tmp_path / "out" / "shard-00000")  # as if written in part
    with pytest.raises(UserError, match="finished manifest"):
        Manifest.read(str(tmp_path / "out"))
    index(tmp_path / "in", tmp_path / "out")
    assert uris_of(tmp_path / "out") == [str(tmp_path / "in" / name) for name in sorted(NAMES)]
    assert not [*(tmp_path / "out").rglob("*.jpg")]


def test_globs_choose_names_and_enter_only_what_can_hold_them(tmp_path):
    write(tmp_path, ["in/a.jpg", "in/x/b.jpg", "in/x/y/c.jpg", "in/x/y/d.png", "in/z[1]/e.jpg"])
    write(tmp_path, ["in/x/.h.jpg", "in/x/f.txt"])
    expected = {
        "in/**/*.jpg": ["a.jpg", "x/b.jpg", "x/y/c.jpg", "z[1]/e.jpg"],
        "in/**": ["a.jpg", "x/b.jpg", "x/y/c.jpg", "x/y/d.png", "z[1]/e.jpg"],
        "in/*.jpg": ["a.jpg"],
        "in/x/**/y/?.*": ["x/y/c.jpg", "x/y/d.png"],
        "in/*/[!a].jpg": ["x/b.jpg", "z[1]/e.jpg"],
        "in/**/x/*.jpg": ["x/b.jpg"],
        "in/z[1]": ["z[1]/e.jpg"],  # a folder that stands is no glob
    }
    for i, (glob, names) in enumerate(expected.items()):
        index(tmp_path / glob, tmp_path / f"out{i}")
        assert uris_of(tmp_path / f"out{i}") == [str(tmp_path / "in" / name) for name in names]


def test_a_bucket_is_listed_and_written(tmp_path):
    filesystem, folder = storage.locate("mock://indexed/pool")
    for name in ("b.jpg", "sub/a #1.png", ".c.jpg", "d.txt", "sub/deep/e.jpg"):
        filesystem.create_dir(f"{folder}/{name}".rpartition("/")[0])
        with filesystem.open_output_stream(f"{folder}/{name}") as stream:
            stream.write(name.encode())
    names = ["b.jpg", "sub/a #1.png", "sub/deep/e.jpg"]
    for images, last in (("mock://indexed/pool/", 3), ("mock://indexed/pool/**/*.png", 1)):
        out = f"mock://indexed/manifest{last}"
        index(images, out)
        assert len(uris_of(out)) == last
    assert uris_of("mock://indexed/manifest3") == [f"mock://indexed/pool/{name}" for name in names]
    assert fetch(uris_of("mock://indexed/manifest1")[0]) == b"sub/a #1.png"
    with filesystem.open_output_stream(f"{folder}/c.jpg") as stream:
        stream.write(b"new")
    done = index("mock://indexed/pool", "mock://indexed/manifest3")
    assert counts(done) == (4, 1, 0)
    index("mock://indexed", "mock://elsewhere/manifest")
    assert len(uris_of("mock://elsewhere/manifest")) == 4
    assert uris_of("mock://indexed/manifest3")[3] == "mock://indexed/pool/c.jpg"


def test_a_link_to_a_folder_above_ends(tmp_path):
    write(tmp_path / "in", ["a/b.jpg"])
    (tmp_path / "in" / "a" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "c").symlink_to(tmp_path / "in" / "a")
    write(tmp_path / "in", ["d/e.jpg"])
    (tmp_path / "in" / "a" / "d").symlink_to(tmp_path / "in" / "d")
    (tmp_path / "in" / "d" / "a").symlink_to(tmp_path / "in" / "a")
    (tmp_path / "in" / "dead").symlink_to(tmp_path / "in" / "nothing")
    index(tmp_path / "in", tmp_path / "out")
    names = [uri.removeprefix(f"{tmp_path}/in/") for uri in uris_of(tmp_path / "out")]
    assert names == ["a/b.jpg", "a/d/e.jpg", "c/b.jpg", "c/d/e.jpg", "d/a/b.jpg", "d/e.jpg"]


class Endless(fs.FileSystemHandler):
    """As many folders of as many images as asked for; nothing of them is held."""

    def __init__(self, folders, images):
        self.folders, self.images, self.listed = folders, images, []

    def get_type_name(self):
        return "endless"

    def normalize_path(self, path):
        return path

    def get_file_info(self, paths):
        return [fs.FileInfo(path, fs.FileType.Directory) for path in paths]

    def get_file_info_selector(self, selector):
        here = selector.base_dir
        self.listed.append(here)
        if here == "top":
            names, kind = [f"f{i:05d}" for i in range(self.folders)], fs.FileType.Directory
        else:
            names, kind = [f"{i:05d}.jpg" for i in range(self.images)], fs.FileType.File
        return [fs.FileInfo(f"{here}/{name}", kind, size=1) for name in names[::-1]]

    def __getattr__(self, name):
        raise AssertionError(f"listing must not call {name}")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = None
    delete_file = move = copy_file = open_input_stream = open_input_file = None
    open_output_stream = open_append_stream = None


def peak_bytes(monkeypatch, tmp_path, folders, again):
    """Memory of indexing folders of 200 images: Python's and Arrow's."""
    handler = Endless(folders, 200)
    filesystem = fs.PyFileSystem(handler)
    locate = storage.locate
    out = tmp_path / f"out{folders}"
    here = {"endless://top": (filesystem, "top")}
    with monkeypatch.context() as patch:
        patch.setattr(storage, "locate", lambda uri: here.get(uri) or locate(uri))
        settings = {"shard_rows": 50_000, "file_rows": 2000, "threads": 4}
        if again:
            index("endless://top", out, **settings)
        pa.default_memory_pool().release_unused()
        arrow = [pa.total_allocated_bytes()]
        tracemalloc.start()
        index_images(
            "endless://top",
            str(out),
            column=None,
            dry_run=False,
            seen=lambda _: arrow.append(pa.total_allocated_bytes()),
            **settings,
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert Manifest.read(str(out)).num_rows == folders * 200
    return peak, max(arrow) - arrow[0]


@pytest.mark.parametrize("again", [False, True])
def test_memory_does_not_grow_with_the_pool(tmp_path, monkeypatch, again):
    small = peak_bytes(monkeypatch, tmp_path, 100, again)
    large = peak_bytes(monkeypatch, tmp_path, 1000, again)
    # Ten times the images, 200,000 of them: their URIs alone would be 5 MB more, as Python strings
    # 15 MB; folders that wait are the 1000 names.
    assert large[0] - small[0] < 1_500_000
    assert large[1] - small[1] < 1_500_000


class Waiting(Endless):
    """Folders that answer only when `threads` of them are asked at the same time."""

    def __init__(self, folders, images, threads):
        super().__init__(folders, images)
        self.together = threading.Barrier(threads, timeout=20)

    def get_file_info_selector(self, selector):
        if selector.base_dir != "top":
            self.together.wait()
        return super().get_file_info_selector(selector)


def test_folders_are_listed_side_by_side_and_given_in_order(monkeypatch):
    filesystem = fs.PyFileSystem(Waiting(12, 3, threads=4))
    monkeypatch.setattr(storage, "locate", lambda _: (filesystem, "top"))
    tables = [*walk("endless://top", 4, keeps=lambda _: True)]
    uris = [uri for table in tables for uri in table.column("uri").to_pylist()]
    assert len(uris) == 36
    assert uris == sorted(uris)


def test_listing_runs_ahead_by_a_few_folders_only(monkeypatch):
    handler = Endless(1000, 10)
    filesystem = fs.PyFileSystem(handler)
    monkeypatch.setattr(storage, "locate", lambda _: (filesystem, "top"))
    listing = walk("endless://top", 4, keeps=lambda _: True)
    assert next(listing).column("uri")[0].as_py() == "endless://top/f00000/00000.jpg"
    listing.close()
    assert len(handler.listed) <= 1 + 8


def test_what_a_user_can_have_written_wrong_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, ["in/a.jpg", "in/b/c.jpg", "empty/x.txt", "file", "held/thing"])
    index("in", "standing", shard_rows=1_000_000, file_rows=10_000)
    wrong = {
        "missing": ("missing", "new", "got nothing"),
        "file": ("file", "new", "got a file"),
        "no images": ("empty", "new", "got none"),
        "no match": ("in/**/*.png", "new", "got none"),
        "inside": ("in", "in/index", "outside of the images"),
        "itself": ("in", "in", "holds other files"),
        "inside a glob": ("in/**/*.jpg", "in/b/index", "outside of the images"),
        "other files": ("in", "held", "holds other files"),
        "out is a file": ("in", "file", "is a file"),
        "out is below a file": ("in", "file/x", "file/x"),
        "another source": ("in/b", "standing", "--images"),
        "scheme": ("wdz:in/*.tar", "new", "did you mean wds:in/"),
        "filesystem": ("nope://bucket/a", "new", "nope"),
        "no column": ("in", "new", "column", "--column", "a"),
        "shard size": ("in", "standing", "--shard-rows", "--shard-rows", "7"),
        "zero": ("in", "new", "file_rows", "--file-rows", "0"),
    }
    before = files(tmp_path)
    for case, (images, out, words, *more) in wrong.items():
        assert main(["index", "--images", images, "--out", out, *more]) == 2, case
        printed, error = capsys.readouterr()
        assert printed == "", case
        assert error.startswith("ray-st: "), case
        assert error.count("\n") == 1, case
        assert words in error, (case, error)
        assert files(tmp_path) == before, case
        assert not (tmp_path / "new").exists(), case


def test_a_glob_that_cannot_meet_its_index_may_have_it_beside(tmp_path):
    write(tmp_path, ["a.jpg"])
    index(tmp_path / "*.jpg", tmp_path / "index")
    assert uris_of(tmp_path / "index") == [str(tmp_path / "a.jpg")]


def test_the_verb_says_what_it_did(tmp_path, capsys):
    write(tmp_path / "in", NAMES)
    words = ["index", "--images", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main([*words, "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"found      11 images in {tmp_path / 'in'}\n" in said
    assert "new        11\n" in said
    assert f"manifest   {tmp_path / 'out'}: 11 images, shards: 1\n" in said
    assert "images/s" in said
    (tmp_path / "in" / "x.bmp").unlink()
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "gone       1\n" in said
    assert "warning    what is gone (1)" in said


def test_a_manifest_that_was_tampered_with_is_refused(tmp_path):
    write(tmp_path / "in", NAMES)
    index(tmp_path / "in", tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    good = path.read_text()
    for text in ("", "[]", "{}", good.replace('"format": 1', '"format": 2'), good[:40]):
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            Manifest.read(str(tmp_path / "out"))
        assert "\n" not in str(caught.value)
    path.write_text(good)
    (tmp_path / "out" / "shard-00001" / "part-00001.parquet").unlink()
    with pytest.raises(UserError, match="part-00001"):
        rows_of(tmp_path / "out")
    other = pa.table({"image_id": [1]})
    buffer = io.BytesIO()
    pq.write_table(other, buffer)
    (tmp_path / "out" / "shard-00001" / "part-00001.parquet").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="columns"):
        rows_of(tmp_path / "out")


def test_options_of_a_bucket_stay_behind_every_uri():
    images, out = "mock://optional/pool?retry=1", "mock://optional/manifest?retry=1"
    filesystem, folder = storage.locate(images)
    for name in ("a.jpg", "sub/b #1.jpg"):
        filesystem.create_dir(f"{folder}/{name}".rpartition("/")[0])
        with filesystem.open_output_stream(f"{folder}/{name}") as stream:
            stream.write(name.encode())
    index(images, out)
    index(f"mock://optional/pool/**/b*.jpg{images[-8:]}", out.replace("manifest", "glob"))
    with filesystem.open_output_stream(f"{folder}/c.jpg") as stream:
        stream.write(b"c.jpg")
    assert counts(index(images, out)) == (3, 1, 0)
    assert [fetch(uri) for uri in uris_of(out)] == [b"a.jpg", b"sub/b #1.jpg", b"c.jpg"]
    assert uris_of(out)[2] == "mock://optional/pool/c.jpg?retry=1"
    assert uris_of("mock://optional/glob?retry=1") == ["mock://optional/pool/sub/b #1.jpg?retry=1"]
