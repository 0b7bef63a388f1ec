import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.labels import Detections, Origin
from ray_st.data.rows import IMAGE_ROW, label_row, pack, unpack
from ray_st.data.sources import DataConfig, keep_labels, open_images, open_labeled, write_coco

pytestmark = pytest.mark.pure

BCCD = Path(__file__).parents[2] / "shared/data/bccd"


def image(image_id=1, name="a.jpg", **more):
    return {"id": image_id, "file_name": name, "width": 40, "height": 30, **more}


def box(bbox, annotation_id=1, image_id=1, category_id=7, **more):
    ids = {"id": annotation_id, "image_id": image_id, "category_id": category_id}
    return {**ids, "bbox": bbox, **more}


CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}]


def written(
    folder, *, images=None, annotations=(), categories=CATEGORIES, name="instances_train.json"
):
    """A COCO file with its images beside it."""
    images = [image()] if images is None else images
    for one in images:
        if isinstance(one.get("file_name"), str) and one["file_name"]:
            Image.new("RGB", (40, 30)).save(folder / one["file_name"], "JPEG")
    document = {"images": images, "annotations": list(annotations), "categories": categories}
    (folder / name).write_text(json.dumps(document))
    return str(folder / name)


def test_a_plain_file(tmp_path):
    annotations = [
        box([10, 5, 20, 10], 1, 2, 90, area=123, iscrowd=1),
        box([0.5, 1.25, 2.5, 3], 2, 1, 7),
        box([1, 1, 4, 4], 3, 2, 7, area=None),
    ]
    uri = written(
        tmp_path, images=[image(2, "b.jpg"), image(1), image(9, "c.jpg")], annotations=annotations
    )
    labeled = open_labeled(f"coco:{uri}")
    assert labeled.classes == ("cat", "dog")  # by id, gaps closed
    assert labeled.findings == {}
    assert labeled.rows.schema.equals(label_row(Detections), check_metadata=True)
    assert labeled.rows.column("image_id").to_pylist() == [2, 1, 9]
    assert labeled.rows.column("uri").to_pylist() == [str(tmp_path / f"{n}.jpg") for n in "bac"]
    assert set(labeled.rows.column("origin").to_pylist()) == {int(Origin.HUMAN)}
    assert set(labeled.rows.column("height_px").to_pylist()) == {30}
    first, second, third = unpack(labeled.rows)
    assert first.boxes_xyxy.tolist() == [[10, 5, 30, 15], [1, 1, 5, 5]]
    assert first.class_ids.tolist() == [1, 0]
    assert first.is_crowd.tolist() == [True, False]
    assert first.areas_px.tolist() == [123, 16]
    assert second.boxes_xyxy.tolist() == [[0.5, 1.25, 3, 4.25]]
    assert len(third) == 0


def test_dirt_is_mended_and_counted(tmp_path):
    annotations = [
        box([0, 0, 10, 10], 1),
        box([5, 5, 0, 10], 2),  # no width
        box([5, 5, 10, -1], 3),  # inverted
        box([30, 20, 50, 50], 4),  # past the border
        box([-5, 0, 10, 10], 5),
        box([50, 50, 5, 5], 6),  # outside
        box([0, 0, 10, 10], 7),  # again
        box([0, 0, 10, 10], 8, category_id=90),  # the same place, another class: kept
        box([10.001, 0, 30, 30.001], 9),  # past the border by rounding only: not worth a word
    ]
    labeled = open_labeled(written(tmp_path, annotations=annotations))
    (labels,) = unpack(labeled.rows)
    assert labeled.findings == {
        "zero_area_boxes_dropped": 2,
        "outside_boxes_dropped": 1,
        "boxes_clipped": 2,
        "duplicate_boxes_dropped": 1,
    }
    assert labels.class_ids.tolist() == [0, 0, 0, 1, 0]
    expected = [
        [0, 0, 10, 10],
        [30, 20, 40, 30],
        [0, 0, 5, 10],
        [0, 0, 10, 10],
        [10.001, 0, 40, 30],
    ]
    np.testing.assert_allclose(labels.boxes_xyxy, expected, rtol=1e-6)
    assert labels.areas_px[1] == 100  # what is left of it


def test_equal_boxes_in_two_images_are_no_duplicates(tmp_path):
    images = [image(), image(2, "b.jpg")]
    annotations = [box([0, 0, 10, 10], 1, 1), box([0, 0, 10, 10], 2, 2)]
    labeled = open_labeled(written(tmp_path, images=images, annotations=annotations))
    assert [len(one) for one in unpack(labeled.rows)] == [1, 1]


def test_no_annotations_and_more_than_a_hundred(tmp_path):
    labeled = open_labeled(written(tmp_path))
    assert [len(one) for one in unpack(labeled.rows)] == [0]
    many = [box([i / 10, i / 10, 5, 5], i) for i in range(150)]
    assert len(unpack(open_labeled(written(tmp_path, annotations=many)).rows)[0]) == 150


def test_missing_sizes_are_read_from_the_files(tmp_path):
    bare = {"id": 3, "file_name": "b.jpg"}
    labeled = open_labeled(
        written(tmp_path, images=[image(1, width=41), bare, image(4, "c.jpg", width=0)])
    )
    assert labeled.rows.column("width_px").to_pylist() == [41, 40, 40]
    assert labeled.rows.column("height_px").to_pylist() == [30, 30, 30]
    (tmp_path / "b.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"without width and height.*b\.jpg|0 bytes"):
        open_labeled(str(tmp_path / "instances_train.json"))


@pytest.mark.parametrize("place", [".", "images", "../images", "../train"])
def test_images_are_found_beside_the_file(tmp_path, place):
    folder = tmp_path / "annotations"
    (folder / place).mkdir(parents=True, exist_ok=True)
    uri = written(folder, name="instances_train.json")
    if place != ".":
        (folder / "a.jpg").rename(folder / place / "a.jpg")
    (uri_found,) = open_labeled(uri).rows.column("uri").to_pylist()
    assert uri_found == str((folder / place / "a.jpg").resolve())
    assert open_images(uri).column("uri").to_pylist() == [uri_found]


def test_images_elsewhere_need_the_setting(tmp_path):
    uri = written(tmp_path)
    (tmp_path / "far").mkdir()
    (tmp_path / "a.jpg").rename(tmp_path / "far/a.jpg")
    for opened, move in (
        (lambda: open_labeled(uri, images_field="data.images"), "set data.images to their folder"),
        (lambda: open_labeled(uri), "move them there"),
        (lambda: open_images(uri), "move them there"),
    ):
        with pytest.raises(
            UserError, match=rf"got none of 1 tried there, such as 'a\.jpg'; {move}$"
        ):
            opened()
    labeled = open_labeled(uri, images=str(tmp_path / "far"))
    assert labeled.rows.column("uri").to_pylist() == [str(tmp_path / "far/a.jpg")]


def test_awkward_names(tmp_path):
    names = ["a#1.jpg", "b=c d.jpg", "100%.jpg", "é日.jpg"]
    uri = written(tmp_path, images=[image(i, name) for i, name in enumerate(names)])
    assert open_labeled(uri).rows.column("uri").to_pylist() == [str(tmp_path / n) for n in names]


@pytest.mark.parametrize(
    ("count", "gone", "said"),
    [
        (1, [], None),
        (3, [0], "1 of 3 images tried are missing"),
        (3, [0, 1], "2 of 3 images tried are missing"),
        (100, [99], "1 of 8 images tried are missing"),
        (100, range(50), "4 of 8 images tried are missing"),
        (100, range(1, 14), None),  # not all are tried
    ],
)
def test_a_few_missing_images_are_said_and_stop_nothing(tmp_path, caplog, count, gone, said):
    uri = written(tmp_path, images=[image(i, f"{i:02}.jpg") for i in range(count)])
    (tmp_path / "images").mkdir()  # where the fewest are missing the others are looked for
    (tmp_path / "images" / "00.jpg").write_bytes(b"")
    for i in gone:
        (tmp_path / f"{i:02}.jpg").unlink()
    uris = open_labeled(uri).rows.column("uri").to_pylist()
    open_images(uri)
    assert uris == [f"{tmp_path}/{i:02}.jpg" for i in range(count)]
    first = next(iter(gone), None)
    line = f"{uri}: {said} in {tmp_path}, such as '{first:02}.jpg'; an image that " if said else ""
    assert [record.message[: len(line)] for record in caplog.records] == ([line] if said else [])


def test_a_remote_file_gives_remote_images(tmp_path):
    uri = written(tmp_path, annotations=[box([1, 2, 3, 4])])
    filesystem, folder = storage.locate("mock://bucket/coco/images")
    filesystem.create_dir(folder)
    for name, source in (("../instances_x.json", Path(uri)), ("a.jpg", tmp_path / "a.jpg")):
        _, path = storage.locate(storage.join("mock://bucket/coco/images", name))
        with filesystem.open_output_stream(path) as stream:
            stream.write(source.read_bytes())
    labeled = open_labeled("coco:mock://bucket/coco/instances_x.json")
    assert labeled.rows.column("uri").to_pylist() == ["mock://bucket/coco/images/a.jpg"]


BAD = [
    ({"annotations": [box([1, 2, 3, 4], 55, category_id=8)]}, "category_id.*8 in annotation 55"),
    ({"annotations": [box([1, 2, 3, 4], 55, image_id=8)]}, "image_id.*8 in annotation 55"),
    ({"annotations": [box([1, 2, 3, 4], 55, image_id=[1])]}, r"image_id.*\[1\] in annotation 55"),
    ({"annotations": [box([1, 2, 3], 55)]}, "bbox.*annotation 55"),
    ({"annotations": [box([1, 2, 3, float("nan")], 55)]}, "bbox.*nan.*annotation 55"),
    ({"annotations": [box([1, 2, float("inf"), 3], 55)]}, "bbox.*inf.*annotation 55"),
    ({"annotations": [box([1, 2, "3", 4], 55)]}, "bbox.*'3'.*annotation 55"),
    ({"annotations": [box(None, 55)]}, "bbox.*None.*annotation 55"),
    ({"annotations": [3]}, "'annotations'"),
    ({"images": [image(), image(1, "b.jpg")]}, "image id.* 1 twice"),
    ({"images": [image("x")]}, "whole-number id.*'x'"),
    ({"images": [image(name="")]}, "file_name"),
    ({"images": []}, "'images' must not be empty"),
    ({"categories": []}, "'categories' must not be empty"),
    ({"categories": [*CATEGORIES, {"id": 7, "name": "cow"}]}, "category id.* 7 twice"),
    ({"categories": [*CATEGORIES, {"id": 8, "name": "cat"}]}, "category name.*'cat' twice"),
    ({"categories": [{"id": 8}]}, "category"),
]


@pytest.mark.parametrize(("content", "words"), BAD)
def test_what_cannot_be_meant_is_one_line_with_file_and_place(tmp_path, content, words):
    uri = written(tmp_path, **content)
    with pytest.raises(UserError, match=words) as caught:
        open_labeled(uri)
    assert str(caught.value).startswith(f"{uri}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "\x00\x01", "[]", "{}", '{"images": []}', '{"images": 3}', "3"]
)
def test_a_file_that_is_no_coco(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    for opened in (open_labeled, open_images):
        with pytest.raises(UserError, match=r"a\.json"):
            opened(str(tmp_path / "a.json"))


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.json.*No such file.*check the path"):
        open_labeled(str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("cocoa:a.json", "did you mean coco:a.json"),
        ("folder/of/labels", "coco:PATH"),
        ("", "coco:PATH"),
    ],
)
def test_unknown_forms_name_the_known_ones(uri, words):
    with pytest.raises(UserError, match=words):
        open_labeled(uri)


def test_only_the_image_list_is_needed_without_labels(tmp_path):
    uri = Path(written(tmp_path, images=[image(8), image(3, "b.jpg")]))
    uri.write_text(json.dumps({"images": json.loads(uri.read_text())["images"]}))
    rows = open_images(str(uri))
    assert rows.schema.equals(IMAGE_ROW, check_metadata=True)
    assert rows.column("image_id").to_pylist() == [8, 3]


def test_write_then_read(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    labels = [
        Detections.of(
            [[0.1, 0.2, 10.3, 20.7], [1, 2, 3, 4]], [1, 0], is_crowd=[False, True], areas_px=[99, 3]
        ),
        Detections.of(),
    ]
    uris = [str(tmp_path / "out/images/a.jpg"), str(tmp_path / "in/b.jpg")]
    for uri in uris:
        Path(uri).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30)).save(uri)
    rows = pack(
        image_ids=[5, 3], uris=uris, sizes_hw=[(30, 40)] * 2, labels=labels, origin=Origin.HUMAN
    )
    path = tmp_path / "out/instances.json"
    write_coco(path, rows=rows, classes=("x", "y"))
    labeled = open_labeled(str(path))
    assert labeled.classes == ("x", "y")
    assert labeled.rows.equals(rows)
    document = json.loads(path.read_text())
    assert [one["file_name"] for one in document["images"]] == ["images/a.jpg", uris[1]]
    assert [one["id"] for one in document["annotations"]] == [1, 2]
    assert "score" not in document["annotations"][0]


def test_pseudo_labels_are_written_with_scores(tmp_path):
    labels = Detections.of([[0, 0, 4, 4]], [0], scores=[0.75])
    rows = pack(
        image_ids=[1],
        uris=["s3://b/a.jpg"],
        sizes_hw=[(9, 9)],
        labels=[labels],
        origin=Origin.PSEUDO,
    )
    write_coco(tmp_path / "p.json", rows=rows, classes=["x"])
    document = json.loads((tmp_path / "p.json").read_text())
    assert document["annotations"][0]["score"] == 0.75
    assert document["images"][0]["file_name"] == "s3://b/a.jpg"


def test_keep_labels_draws_by_seed_and_gives_the_rest_without_labels(tmp_path):
    images = [image(i, f"{i}.jpg") for i in range(1, 13)]
    labeled = open_labeled(written(tmp_path, images=images, annotations=[box([1, 2, 3, 4])]))
    kept, rest = keep_labels(labeled, 5, seed=3)
    ids = kept.rows.column("image_id").to_pylist()
    rest_ids = rest.column("image_id").to_pylist()
    assert len(ids) == 5
    assert sorted(ids + rest_ids) == list(range(1, 13))
    assert (ids, rest_ids) == (sorted(ids), sorted(rest_ids))
    assert rest.schema.equals(IMAGE_ROW, check_metadata=True)
    assert keep_labels(labeled, 5, seed=3)[0].rows.equals(kept.rows)
    assert keep_labels(labeled, 5, seed=4)[0].rows.column("image_id").to_pylist() != ids
    assert set(ids) < set(keep_labels(labeled, 8, seed=3)[0].rows.column("image_id").to_pylist())
    assert kept == replace(labeled, rows=kept.rows)


def test_keep_all_none_and_too_many_labels(tmp_path):
    labeled = open_labeled(written(tmp_path))
    kept, rest = keep_labels(labeled, 1, seed=0)
    assert (kept.rows.num_rows, rest.num_rows) == (1, 0)
    for count in (0, 2):
        with pytest.raises(UserError, match=rf"data\.labeled_images.*got {count}"):
            keep_labels(labeled, count, seed=0)


def test_data_config_names_its_fields():
    with pytest.raises(UserError, match=r"data\.labeled_images.*got 0"):
        DataConfig(labeled_images=0)
    with pytest.raises(UserError, match=r"data\.split_seed.*got -1"):
        DataConfig(split_seed=-1)


@pytest.mark.skipif(not BCCD.is_dir(), reason="the BCCD set does not stand in ../shared/data")
@pytest.mark.parametrize(("split", "count"), [("train", 205), ("val", 87), ("test", 72)])
def test_a_real_set(split, count):
    labeled = open_labeled(str(BCCD / f"instances_{split}.json"))
    assert labeled.rows.num_rows == count
    assert set(labeled.classes) == {"RBC", "WBC", "Platelets"}
    assert "zero_area_boxes_dropped" not in labeled.findings
    assert all(Path(uri).is_file() for uri in labeled.rows.column("uri").to_pylist())
    for labels in unpack(labeled.rows):
        assert (labels.boxes_xyxy[:, 2:] > labels.boxes_xyxy[:, :2]).all()
        assert (labels.boxes_xyxy >= 0).all()
        assert (labels.boxes_xyxy <= [640, 480, 640, 480]).all()
