"""Tars, Parquet, lists and labelled sets as pools: the bytes of every image are the original's."""

import io
import random
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_manifest import index, rows_of, uris_of, write

from ray_st.config import UserError
from ray_st.data import parts, storage
from ray_st.data.images import ImageError, fetch, read_size_hw
from ray_st.data.manifest.tars import list_tar

pytestmark = pytest.mark.pure

LONG = "folder-of-a-long-name/" * 12 + "ä日 #1=2.jpg"  # 276 characters: past every old header
FORMATS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}


def make_tar(path, members, kind="gnu"):
    with tarfile.open(path, "w:", format=FORMATS[kind]) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def by_tarfile(path):
    """The slow, obvious reading: each member's name and bytes."""
    with tarfile.open(path) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}


def images_of(members):
    wanted = {}
    for name, content in members.items():
        is_hidden = any(part[0] == "." for part in name.removeprefix("./").split("/"))
        if name.lower().endswith((".jpg", ".png")) and not is_hidden:
            wanted[name] = content
    return [*wanted.values()]


@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_members_of_a_tar_are_slices_with_its_very_bytes(tmp_path, kind):
    rng = random.Random(0)
    members = {
        "000.jpg": b"first",
        "000.json": b"{}" * 3000,
        "./001.PNG": rng.randbytes(513),
        "._001.jpg": b"hidden",
        LONG: rng.randbytes(100_000),
        "sub/.x/a.jpg": b"hidden",
        "sub/" + "n" * 96 + ".jpg": rng.randbytes(512),  # 104 characters
        "empty.jpg": b"",
        "last one #2.jpg": rng.randbytes(9000),
    }
    make_tar(tmp_path / "a b#=ä.tar", members, kind)
    assert list(by_tarfile(tmp_path / "a b#=ä.tar")) == list(members)
    index(tmp_path / "*.tar", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    uris = rows.column("uri").to_pylist()
    assert [fetch(uri) for uri in uris] == images_of(members)
    assert rows.column("size_bytes").to_pylist() == [len(each) for each in images_of(members)]
    assert all(uri.startswith("slice:") and uri.endswith("a b#=ä.tar") for uri in uris)


def test_a_ustar_name_is_put_together_of_two_fields(tmp_path):
    members = {"p" * 120 + "/" + "n" * 90 + ".jpg": b"1", "d.jpg/x.txt": b"2", "q.png": b"3"}
    make_tar(tmp_path / "a.tar", members, "ustar")
    assert [fetch(uri) for uri in list_tar(str(tmp_path / "a.tar")).column("uri").to_pylist()] == [
        b"1",
        b"3",
    ]


@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_a_member_past_8_gib_is_stepped_over(tmp_path, kind):
    large = tarfile.TarInfo("large.bin")
    large.size = 2**33 + 5
    with (tmp_path / "a.tar").open("wb") as file:  # holes: the disk has no such room
        file.write(large.tobuf(FORMATS[kind]))
        start = file.tell() + 2**33 + 512
        make_tar(tmp_path / "b.tar", {"x.jpg": b"behind it"})
        file.seek(start)
        file.write((tmp_path / "b.tar").read_bytes())
    (uri,) = list_tar(str(tmp_path / "a.tar")).column("uri").to_pylist()
    assert uri == f"slice:{start + 512}:9:{tmp_path}/a.tar"
    assert fetch(uri) == b"behind it"


def test_links_and_folders_of_a_tar_are_no_images(tmp_path):
    write(tmp_path / "in", ["x.jpg", "folder.jpg/y.jpg"])
    (tmp_path / "in" / "link.jpg").symlink_to("x.jpg")
    (tmp_path / "in" / "hard.jpg").hardlink_to(tmp_path / "in" / "x.jpg")
    for name, kind in FORMATS.items():
        with tarfile.open(tmp_path / f"{name}.tar", "w:", format=kind) as tar:
            tar.add(tmp_path / "in", ".")
        uris = list_tar(str(tmp_path / f"{name}.tar")).column("uri").to_pylist()
        found = sorted(fetch(uri) for uri in uris)
        assert found == [b"folder.jpg/y.jpg", b"x.jpg"]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    members=st.dictionaries(
        st.text("aä日 #=%./", min_size=1, max_size=150).map(lambda text: f"x{text}.jpg"),
        st.binary(max_size=1500),
        max_size=6,
    ),
    kind=st.sampled_from(["gnu", "pax"]),
)
def test_any_tar_is_read_as_tarfile_reads_it(tmp_path, members, kind):
    make_tar(tmp_path / "t.tar", members, kind)
    parts._open.cache_clear()  # the file is another one every time
    uris = list_tar(str(tmp_path / "t.tar")).column("uri").to_pylist()
    shown = {
        name: content
        for name, content in by_tarfile(tmp_path / "t.tar").items()
        if "/." not in f"/{name}" and name.rpartition("/")[2] != ".jpg"
    }
    assert [fetch(uri) for uri in uris] == [*shown.values()]


def test_headers_are_read_and_members_are_not(tmp_path, monkeypatch):
    make_tar(tmp_path / "a.tar", {f"{i}.jpg": bytes(1_000_000) for i in range(10)})
    filesystem, _ = storage.locate(str(tmp_path))
    read = []

    class Counted:
        def __init__(self, file):
            self.file = file
            self.size, self.close = file.size, file.close

        def read_at(self, size, offset):
            read.append(size)
            return self.file.read_at(size, offset)

    class Watched:
        def open_input_file(self, path):
            return Counted(filesystem.open_input_file(path))

    monkeypatch.setattr(storage, "locate", lambda uri: (Watched(), uri))
    assert list_tar(str(tmp_path / "a.tar")).num_rows == 10
    assert len(read) <= 12
    assert sum(read) < 100_000


def test_tars_keep_their_order_and_a_new_one_is_added(tmp_path):
    (tmp_path / "in").mkdir()
    for i in (3, 1, 0):
        make_tar(tmp_path / f"in/{i}.tar", {f"b{i}.jpg": b"%d1" % i, f"a{i}.jpg": b"%d2" % i})
    index(f"wds:{tmp_path}/in", tmp_path / "out")
    assert [fetch(uri) for uri in uris_of(tmp_path / "out")] == [
        b"01", b"02", b"11", b"12", b"31", b"32",
    ]  # fmt: skip
    make_tar(tmp_path / "in/2.tar", {"c.jpg": b"21"})
    done = index(f"wds:{tmp_path}/in", tmp_path / "out")
    assert (done.counts.found, done.counts.new) == (7, 1)
    assert fetch(uris_of(tmp_path / "out")[6]) == b"21"


def test_one_tar_may_have_its_index_beside_it(tmp_path):
    make_tar(tmp_path / "a.tar", {"b.jpg": b"1"})
    index(tmp_path / "a.tar", tmp_path / "index")
    assert [fetch(uri) for uri in uris_of(tmp_path / "index")] == [b"1"]


def test_a_tar_in_a_bucket(tmp_path):
    make_tar(tmp_path / "a.tar", {"x.jpg": b"bytes of x", LONG: b"bytes of the long one"})
    filesystem, folder = storage.locate("mock://bucket/tars")
    filesystem.create_dir(folder)
    with filesystem.open_output_stream(f"{folder}/a.tar") as stream:
        stream.write((tmp_path / "a.tar").read_bytes())
    index("mock://bucket/tars/*.tar", tmp_path / "out")
    uris = uris_of(tmp_path / "out")
    assert uris[0] == "slice:512:10:mock://bucket/tars/a.tar"
    assert [fetch(uri) for uri in uris] == [b"bytes of x", b"bytes of the long one"]


def test_a_tar_that_is_not_whole_and_plain_is_refused_by_name(tmp_path):
    good = tmp_path / "good.tar"
    make_tar(good, {"a.jpg": bytes(2000), "b.jpg": bytes(3000)})
    whole = good.read_bytes()
    sparse = tarfile.TarInfo("holes.jpg")
    sparse.type = tarfile.GNUTYPE_SPARSE
    bad = {
        "cut in a member": (whole[:4000], "cut off in 'b.jpg'"),
        "cut in a header": (whole[:2800], "damaged"),
        "no tar": (b"x" * 5000, "no tar"),
        "empty": (b"", "empty"),
        "a flipped bit": (whole[:3] + b"\xff" + whole[4:], "damaged"),
        "gzip": (b"\x1f\x8b" + whole, "compressed by gzip"),
        "sparse": (sparse.tobuf(tarfile.GNU_FORMAT), "sparse"),
    }
    for name, (content, words) in bad.items():
        file = tmp_path / name / "bad.tar"
        file.parent.mkdir()
        file.write_bytes(content)
        with pytest.raises(UserError, match=words) as caught:
            index(file, tmp_path / "out")
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
    for name in ("x.tar.gz", "x.tgz", "x.tar.zst"):
        (tmp_path / name).write_bytes(b"")
        for images in (tmp_path / name, f"wds:{tmp_path}/x.*"):
            with pytest.raises(UserError, match="plain tars") as caught:
                index(images, tmp_path / "out")
            assert name in str(caught.value)
        (tmp_path / name).unlink()


def write_parquet(path, columns, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)


CONTENTS = [b"%d" % i * (i + 1) for i in range(23)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    ("name", "columns", "column"),
    [
        ("bytes", {"id": range(23), "bytes": CONTENTS}, None),
        ("image", {"image": pa.array(CONTENTS, pa.large_binary())}, None),
        ("image.bytes", {"image": pa.array([{"bytes": each} for each in CONTENTS], STRUCT)}, None),
        ("image.bytes", {"image.bytes": CONTENTS, "image": range(23)}, None),
        ("x", {"bytes": ["text"] * 23, "x": CONTENTS}, "x"),
        ("a.b.c", {"a": [{"b": {"c": each, "d": 1}} for each in CONTENTS]}, "a.b.c"),
    ],
)
def test_cells_are_the_very_bytes(tmp_path, name, columns, column):
    for i in range(2):
        write_parquet(tmp_path / "in" / f"k=v #{i}.parquet", columns, row_group_size=5)
    write(tmp_path / "in", ["_SUCCESS", ".part.crc"])
    index(f"parquet:{tmp_path}/in/*", tmp_path / "out", column=column, shard_rows=100)
    uris = uris_of(tmp_path / "out")
    assert [fetch(uri) for uri in uris] == CONTENTS * 2
    assert uris[7] == f"cell:1:2:{name}:{tmp_path}/in/k=v #0.parquet"
    random.Random(0).shuffle(order := [*range(46)])
    assert [fetch(uris[i]) for i in order] == [(CONTENTS * 2)[i] for i in order]


def test_uris_in_a_column_are_resolved_and_taken_once(tmp_path):
    write(tmp_path, ["in/a.jpg", "in/b c.jpg", "d#1.jpg", "e.jpg"])
    uris = ["a.jpg", "b c.jpg", None, "../d#1.jpg", str(tmp_path / "e.jpg"), "a.jpg"]
    write_parquet(tmp_path / "in" / "t.parquet", {"url": uris, "n": range(6)})
    done = index(f"parquet:{tmp_path}/in", tmp_path / "out")
    expected = [str(tmp_path / name) for name in ("in/a.jpg", "in/b c.jpg", "d#1.jpg", "e.jpg")]
    assert uris_of(tmp_path / "out") == expected
    assert (done.counts.found, done.counts.repeated, done.counts.new) == (4, 1, 4)


def test_a_list_is_resolved_and_taken_once_and_can_grow(tmp_path):
    write(tmp_path, ["in/a.jpg", "in/ä #1.jpg", "in/any name", "b.jpg"])
    make_tar(tmp_path / "t.tar", {"x.jpg": b"member"})
    first = ["\ufeffa.jpg", "", "ä #1.jpg\r", "  any name ", "../b.jpg", "a.jpg"]
    first += [(tmp_path / "b.jpg").as_uri(), f"slice:512:6:{tmp_path}/t.tar"]
    (tmp_path / "in" / "pool.txt").write_text("\n".join(first), "utf-8")
    done = index(f"list:{tmp_path}/in/pool.txt", tmp_path / "out")
    assert (done.counts.found, done.counts.repeated) == (5, 2)
    contents = [fetch(uri).decode() for uri in uris_of(tmp_path / "out")]
    assert contents == ["in/a.jpg", "in/ä #1.jpg", "in/any name", "b.jpg", "member"]
    (tmp_path / "in" / "pool.txt").write_text("new.jpg\na.jpg\n", "utf-8")
    done = index(f"list:{tmp_path}/in/pool.txt", tmp_path / "out")
    assert (done.counts.found, done.counts.new, done.counts.gone) == (2, 1, 4)
    assert uris_of(tmp_path / "out")[5:] == [str(tmp_path / "in" / "new.jpg")]


def test_labelled_sets_give_their_images(tmp_path):
    write(tmp_path, ["images/a.jpg", "images/b.jpg", "labels/a.png", "labels/b.png"])
    (tmp_path / "train.txt").write_text("b\na\n")
    (tmp_path / "coco.json").write_text(
        '{"images": [{"id": 7, "file_name": "b.jpg"}, {"id": 5, "file_name": "a.jpg"}]}'
    )
    for i, images in enumerate((f"masks:{tmp_path}/train.txt", f"coco:{tmp_path}/coco.json")):
        index(images, tmp_path / f"out{i}")
        expected = [str(tmp_path / "images" / name) for name in ("b.jpg", "a.jpg")]
        assert uris_of(tmp_path / f"out{i}") == expected
        assert rows_of(tmp_path / f"out{i}").column("image_id").to_pylist() == [0, 1]
    index(f"classes:{tmp_path}/images", tmp_path / "out2")
    assert len(uris_of(tmp_path / "out2")) == 2


def test_tables_and_lists_that_cannot_be_meant_are_one_line(tmp_path):
    write_parquet(tmp_path / "numbers.parquet", {"bytes": [1], "uri": [2]})
    write_parquet(tmp_path / "colon.parquet", {"a:b": [b"1"]})
    write_parquet(tmp_path / "mixed/0.parquet", {"bytes": [b"1"]})
    write_parquet(tmp_path / "mixed/1.parquet", {"uri": ["a"]})
    write_parquet(tmp_path / "web.parquet", {"url": ["https://a.b/c.jpg"]})
    write_parquet(tmp_path / "none.parquet", {"bytes": pa.array([], pa.binary())})
    write(tmp_path, ["broken.parquet"])
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "empty.txt").write_bytes(b"\n")
    wrong = {
        "parquet:numbers.parquet": "uri \\(int64\\); pass --column",
        "parquet:broken.parquet": "readable Parquet",
        "parquet:missing.parquet": "got nothing",
        "parquet:mixed/*": "1.parquet",
        "parquet:web.parquet": "downloaded first",
        "parquet:none.parquet": "got none",
        "list:bytes.txt": "bytes.txt",
        "list:empty.txt": "got none",
        "list:missing.txt": "readable",
    }
    for images, words in wrong.items():
        scheme, _, name = images.partition(":")
        with pytest.raises(UserError, match=words) as caught:
            index(f"{scheme}:{tmp_path}/{name}", tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out" / "shard-00000").exists()
    for column, words in (("a:b", "no colon"), ("nope", "'nope'")):
        with pytest.raises(UserError, match=words):
            index(f"parquet:{tmp_path}/colon.parquet", tmp_path / "out", column=column)


def test_parts_that_are_not_there_are_image_errors(tmp_path):
    write_parquet(tmp_path / "t.parquet", {"bytes": [b"a", None], "n": [1, 2]})
    (tmp_path / "f").write_bytes(b"12345")
    table, file = tmp_path / "t.parquet", tmp_path / "f"
    for uri, words in {
        f"slice:3:4:{file}": "2 bytes before",
        f"slice:9:1:{file}": "fetch",
        f"slice:0:1:{file}x": "No such file",
        f"cell:0:2:bytes:{table}": "2 rows",
        f"cell:1:0:bytes:{table}": "1 row groups",
        f"cell:0:0:nope:{table}": "nope",
        f"cell:0:0:n:{table}": "bytes, got int",
        f"cell:0:1:bytes:{table}": "bytes, got NoneType",
        f"cell:0:0:bytes:{file}": "Parquet",
        "slice:0:1:nope://bucket/a": "nope",
        f"slice:a:1:{file}": "No such file",  # a path like any other
    }.items():
        with pytest.raises(ImageError, match=words) as caught:
            fetch(uri)
        assert caught.value.stage == "fetch"
        assert uri in caught.value.reason
    assert fetch(f"cell:0:0:bytes:{table}") == b"a"
    assert fetch(f"slice:1:3:{file}") == b"234"
    assert fetch(f"slice:5:0:{file}") == b""


def test_a_part_is_an_image_like_any_other(tmp_path):
    Image.new("RGB", (7, 5)).save(content := io.BytesIO(), "png")
    make_tar(tmp_path / "a.tar", {"x.png": content.getvalue()})
    index(tmp_path / "a.tar", tmp_path / "out")
    assert read_size_hw(uris_of(tmp_path / "out")[0]) == (5, 7)


def test_a_row_group_is_read_once_even_where_threads_cross_its_border(tmp_path):
    write_parquet(tmp_path / "t.parquet", {"bytes": CONTENTS}, row_group_size=5)
    index(f"parquet:{tmp_path}/t.parquet", tmp_path / "out", shard_rows=100)
    uris = uris_of(tmp_path / "out")
    order = [0, 1, 2, 3, 5, 4, 6, 4, 7, *range(8, 23)]
    parts._cells.cache_clear()
    assert [fetch(uris[i]) for i in order] == [CONTENTS[i] for i in order]
    assert parts._cells.cache_info().misses == 5
