"""A folder a class: which class, which image, and what cannot be meant."""

import numpy as np
import pytest
from PIL import Image

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.images import decode, fetch
from ray_st.data.labels import ClassLabel, Origin
from ray_st.data.rows import IMAGE_ROW, label_row, unpack
from ray_st.data.sources import keep_labels, open_images, open_labeled
from ray_st.data.sources.folder import IMAGE_SUFFIXES

pytestmark = pytest.mark.pure


def put(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(root / name, "PNG")


def classes_of(labeled):
    """Name of an image below the root -> name of its class."""
    root = storage.absolute(labeled.uri)
    uris = labeled.rows.column("uri").to_pylist()
    return {
        uri.removeprefix(root).lstrip("/"): labeled.classes[int(labels.top_class_ids[0])]
        for uri, labels in zip(uris, unpack(labeled.rows), strict=True)
    }


def refused(uri, **options):
    with pytest.raises(UserError) as caught:
        open_labeled(uri, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_image_is_of_its_folders_class(tmp_path):
    put(tmp_path, ["dog/b.png", "cat/z.jpg", "dog/a.PNG", "cat/a.jpeg", "10/x.png", "9/x.png"])
    labeled = open_labeled(f"classes:{tmp_path}")
    assert labeled.classes == ("10", "9", "cat", "dog")  # by code points, on every machine
    assert labeled.findings == {}
    assert labeled.rows.schema.equals(label_row(ClassLabel), check_metadata=True)
    assert classes_of(labeled) == {
        "10/x.png": "10",
        "9/x.png": "9",
        "cat/a.jpeg": "cat",
        "cat/z.jpg": "cat",
        "dog/a.PNG": "dog",
        "dog/b.png": "dog",
    }
    assert labeled.rows.column("image_id").to_pylist() == list(range(6))
    assert set(labeled.rows.column("origin").to_pylist()) == {int(Origin.HUMAN)}
    for labels in unpack(labeled.rows):
        assert labels.top_scores.tolist() == [1.0]
    images = open_images(f"classes:{tmp_path}")
    assert images.equals(labeled.rows.select(IMAGE_ROW.names))


def test_the_deepest_image_is_of_the_first_folder(tmp_path):
    put(tmp_path, ["cat/2021/cam 1/a.png", "cat/b.png", "dog/cat/c.png"])
    labeled = open_labeled(f"classes:{tmp_path}")
    assert labeled.classes == ("cat", "dog")
    assert classes_of(labeled)["dog/cat/c.png"] == "dog"


def test_names_as_people_give_them(tmp_path):
    names = ["New York #2/a b.png", "50%/=.png", "ä/日.png", "v1.2/x.png"]
    put(tmp_path / "my set", names)
    for form in (f"classes:{tmp_path}/my set", f"classes:{tmp_path}/my set/../my set/"):
        labeled = open_labeled(form)
        assert set(labeled.classes) == {"New York #2", "50%", "ä", "v1.2"}
        for uri in labeled.rows.column("uri").to_pylist():
            assert decode(fetch(uri)).shape == (3, 4, 3)


def test_every_suffix_counts_and_other_files_do_not(tmp_path):
    put(tmp_path, [f"cat/a.{suffix}" for suffix in IMAGE_SUFFIXES])
    for name in ("notes.txt", "cat/notes.txt", ".DS_Store", ".cache/a.png", "cat/.a.png", "dog/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    labeled = open_labeled(f"classes:{tmp_path}")
    assert labeled.classes == ("cat",)  # a folder without an image is no class
    assert labeled.rows.num_rows == len(IMAGE_SUFFIXES)


def test_a_damaged_image_is_listed_and_fails_when_it_is_read(tmp_path):
    put(tmp_path, ["cat/a.png"])
    (tmp_path / "cat/b.png").write_bytes(b"")
    assert open_labeled(f"classes:{tmp_path}").rows.num_rows == 2


def test_one_image_may_stand_under_two_classes(tmp_path):
    put(tmp_path, ["cat/a.png", "dog/a.png"])
    assert classes_of(open_labeled(f"classes:{tmp_path}")) == {
        "cat/a.png": "cat",
        "dog/a.png": "dog",
    }


@pytest.mark.parametrize("uri", ["mock://flowers", "mock://plants/set", "mock://herbs/set/"])
def test_a_bucket(uri):
    for name in ("rose/a #1.png", "tulip/b.png"):
        filesystem, path = storage.locate(storage.join(uri, name))
        filesystem.create_dir(path.rpartition("/")[0])
        with filesystem.open_output_stream(path) as stream:
            stream.write(b"x")
    labeled = open_labeled(f"classes:{uri}")
    assert labeled.classes == ("rose", "tulip")
    assert labeled.rows.column("uri").to_pylist() == [
        f"{uri.rstrip('/')}/rose/a #1.png",
        f"{uri.rstrip('/')}/tulip/b.png",
    ]


def test_some_labels_may_be_kept(tmp_path):
    put(tmp_path, [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(5)])
    labeled = open_labeled(f"classes:{tmp_path}")
    kept, rest = keep_labels(labeled, 4, seed=0)
    assert kept.rows.num_rows == 4
    assert rest.num_rows == 6
    ids = kept.rows.column("image_id").to_pylist()
    for image_id, labels in zip(ids, unpack(kept.rows), strict=True):
        assert labels.top_class_ids.tolist() == [int(image_id >= 5)]
        assert labels.top_class_ids.dtype == np.int32


def test_an_image_beside_the_folders(tmp_path):
    put(tmp_path, ["cat/a.png", "loose.png"])
    line = refused(f"classes:{tmp_path}")
    assert line.startswith(f"{tmp_path}: every image must stand in the folder of its class, got ")
    assert "'loose.png'" in line


def test_no_folder_no_image(tmp_path):
    (tmp_path / "cat").mkdir()
    assert "must hold images" in refused(f"classes:{tmp_path}")
    assert "check the path" in refused(f"classes:{tmp_path / 'none'}")


@pytest.mark.parametrize(("field", "start"), [("data.images", "data.images: "), (None, "images: ")])
def test_images_cannot_stand_elsewhere(tmp_path, field, start):
    put(tmp_path, ["cat/a.png"])
    line = refused(f"classes:{tmp_path}", images="/elsewhere", images_field=field)
    assert line.startswith(f"{start}must be left out")
    assert line.endswith("got '/elsewhere'; remove it")
