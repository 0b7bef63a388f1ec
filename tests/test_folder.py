import pytest
from PIL import Image

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.images import decode, fetch
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.sources import open_images

pytestmark = pytest.mark.pure

NAMES = [
    "B.JPG",
    "a#1.jpg",
    "a%20b.jpeg",
    "a=b c.Png",
    "deep/er/z.webp",
    "deep/y.tiff",
    "x.bmp",
    "ä日.ppm",
]


def write_images(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        kind = {"jpg": "jpeg"}.get(name.rpartition(".")[2].lower(), name.rpartition(".")[2])
        Image.new("RGB", (4, 3)).save(folder / name, kind)


def test_a_folder_is_listed_in_one_order_and_every_name_can_be_read(tmp_path):
    write_images(tmp_path, NAMES[::-1])
    for other in (".hidden.jpg", ".cache/a.jpg", "notes.txt", "jpg"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"no image")
    rows = open_images(str(tmp_path))
    assert rows.schema.equals(IMAGE_ROW, check_metadata=True)
    assert rows.column("uri").to_pylist() == [str(tmp_path / name) for name in sorted(NAMES)]
    assert rows.column("image_id").to_pylist() == list(range(len(NAMES)))
    for uri in rows.column("uri").to_pylist():
        assert decode(fetch(uri)).shape == (3, 4, 3)


def test_path_forms_give_the_same_rows(tmp_path, monkeypatch):
    folder = tmp_path / "my images #1"
    write_images(folder, ["a.jpg", "b/c.jpg"])
    monkeypatch.chdir(tmp_path)
    expected = open_images(str(folder))
    for form in ("my images #1", "./my images #1/", folder.as_uri()):
        assert open_images(form).equals(expected)


def test_a_hidden_parent_hides_nothing(tmp_path):
    write_images(tmp_path / ".data", ["a.jpg"])
    assert open_images(str(tmp_path / ".data")).num_rows == 1


def test_a_remote_folder_gives_full_uris():
    filesystem, folder = storage.locate("mock://bucket/listed")
    for name in ("b.jpg", "sub/a #1.png", ".c.jpg", "d.txt"):
        filesystem.create_dir(f"{folder}/sub")
        with filesystem.open_output_stream(f"{folder}/{name}") as stream:
            stream.write(name.encode())
    uris = open_images("mock://bucket/listed/").column("uri").to_pylist()
    assert uris == ["mock://bucket/listed/b.jpg", "mock://bucket/listed/sub/a #1.png"]
    assert fetch(uris[1]) == b"sub/a #1.png"


def test_copies_under_two_names_are_two_images(tmp_path):
    write_images(tmp_path, ["a.jpg", "copy of a.jpg"])
    assert open_images(str(tmp_path)).num_rows == 2


def test_an_empty_a_missing_and_a_file_for_a_folder_are_user_errors(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "missing", tmp_path / "a.jpg"):
        with pytest.raises(UserError, match="check the path") as caught:
            open_images(str(path))
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_an_unknown_filesystem_is_a_user_error():
    with pytest.raises(UserError, match="nope://bucket/a"):
        open_images("nope://bucket/a")
