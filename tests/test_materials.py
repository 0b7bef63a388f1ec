"""The data of a run: opened, checked, split."""

import json

import pytest
from PIL import Image

from ray_st.config import UserError
from ray_st.data.labels import ClassLabel, Detections
from ray_st.data.rows import IMAGE_ROW, unpack
from ray_st.data.sources import DataConfig
from ray_st.selftraining.materials import open_human, open_materials, open_train, require_pool

pytestmark = pytest.mark.pure


def coco(folder, name, num_images, *, classes=("cat", "dog"), first_id=1, boxes=()):
    """A COCO file whose image i has a box of class i modulo 2, or the boxes given."""
    folder.mkdir(exist_ok=True)
    ids = range(first_id, first_id + num_images)
    for i in ids:
        Image.new("RGB", (40, 30)).save(folder / f"{i}.jpg")
    bboxes = [(i, 1 + i % 2, [1, 2, 10, 10]) for i in ids if i % 2 < len(classes)] + [*boxes]
    document = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in ids],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": bbox}
            for n, (i, c, bbox) in enumerate(bboxes, start=1)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes, start=1)],
    }
    (folder / f"instances_{name}.json").write_text(json.dumps(document))
    return f"coco:{folder}/instances_{name}.json"


@pytest.fixture
def data(tmp_path):
    return {
        "train": coco(tmp_path / "train", "train", 5),
        "val": coco(tmp_path / "val", "val", 2, boxes=[(1, 1, [30, 20, 30, 30])]),
    }


def one_line(function, *args, **changes):
    with pytest.raises(UserError) as caught:
        function(*args, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def ids(table):
    return table.column("image_id").to_pylist()


def test_labels_only(data):
    materials = open_materials(DataConfig(**data), Detections)
    assert ids(materials.human.rows) == [1, 2, 3, 4, 5]
    assert ids(materials.val.rows) == [1, 2]
    assert materials.human.classes == ("cat", "dog")
    assert materials.pool is materials.pool_truth is None
    assert materials.findings == {"train": {}, "val": {"boxes_clipped": 1}}
    assert one_line(require_pool, materials).startswith("data.unlabeled: is missing; pass --data.")


@pytest.mark.parametrize("count", [1, 3, 4])
def test_the_rest_of_the_labels_is_the_pool_and_its_truth(data, count):
    materials = open_materials(DataConfig(**data, labeled_images=count), Detections)
    kept, pool = ids(materials.human.rows), ids(materials.pool)
    assert len(kept) == count
    assert sorted(kept + pool) == [1, 2, 3, 4, 5]
    assert materials.pool.schema.equals(IMAGE_ROW)  # no label can leak
    assert ids(materials.pool_truth) == pool
    assert [one.class_ids.tolist() for one in unpack(materials.pool_truth)] == [
        [i % 2] for i in pool
    ]
    assert ids(require_pool(materials)) == pool


def test_what_is_trained_on_can_be_opened_alone(data):
    config = DataConfig(train=data["train"])
    assert ids(open_train(config, Detections).rows) == [1, 2, 3, 4, 5]
    for count in (2, 5):
        config = DataConfig(**data, labeled_images=count)
        human = open_materials(config, Detections).human
        assert open_train(config, Detections).rows.equals(human.rows)
    line = one_line(open_train, DataConfig(val=data["val"]), Detections)
    assert line.startswith("data.train: is missing; pass --data.train coco:")
    line = one_line(open_train, DataConfig(train=data["train"], labeled_images=6), Detections)
    assert line.startswith("data.labeled_images: must be from 1 to the 5 images of ")


def test_all_labels_kept_leave_no_pool(data):
    materials = open_materials(DataConfig(**data, labeled_images=5), Detections)
    assert materials.pool.num_rows == 0
    assert one_line(require_pool, materials).startswith("data.unlabeled: is missing; ")


def test_more_labels_than_there_are(data):
    line = one_line(open_materials, DataConfig(**data, labeled_images=6), Detections)
    assert line.startswith("data.labeled_images: must be from 1 to the 5 images of ")


def test_a_pool_of_a_folder_has_no_truth(data, tmp_path):
    coco(tmp_path / "pool", "pool", 3)
    (tmp_path / "pool" / "instances_pool.json").unlink()
    materials = open_materials(DataConfig(**data, unlabeled=str(tmp_path / "pool")), Detections)
    assert materials.pool.num_rows == 3
    assert materials.pool_truth is None
    assert ids(materials.human.rows) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("classes", "known"), [(("cat", "dog"), True), (("dog", "cat"), False), (("cat",), False)]
)
def test_a_pool_with_labels_has_a_truth_where_its_classes_are_ours(data, tmp_path, classes, known):
    uri = coco(tmp_path / "pool", "pool", 3, classes=classes, first_id=50)
    materials = open_materials(DataConfig(**data, unlabeled=uri), Detections)
    assert ids(require_pool(materials)) == [50, 51, 52]
    assert require_pool(materials).schema.equals(IMAGE_ROW)
    assert (materials.pool_truth is not None) == known
    if known:
        assert ids(materials.pool_truth) == [50, 51, 52]


@pytest.mark.parametrize(
    ("val", "pool", "said"),
    [
        ("val", None, []),
        ("train", None, ["5 of the 5 images of data.val are in data.train too"]),
        ("val", "val", ["2 of the 2 images of data.val are in the pool too"]),
        ("val", "folder of val", ["2 of the 2 images of data.val are in the pool too"]),
    ],
)
def test_what_is_measured_on_must_be_new(data, val, pool, said):
    uris = {**data, "folder of val": data["val"].removeprefix("coco:").rpartition("/")[0]}
    config = DataConfig(train=data["train"], val=uris[val], unlabeled=uris.get(pool))
    assert [line.partition(":")[0] for line in open_materials(config, Detections).warnings] == said


def test_measuring_on_a_set_of_which_some_are_labelled(data):
    config = DataConfig(train=data["train"], val=data["train"], labeled_images=2)
    assert [line.partition(":")[0] for line in open_materials(config, Detections).warnings] == [
        "2 of the 5 images of data.val are in data.train too",
        "3 of the 5 images of data.val are in the pool too",
    ]


@pytest.mark.parametrize("missing", ["train", "val"])
def test_a_set_that_is_not_named(data, missing):
    del data[missing]
    assert one_line(open_human, DataConfig(**data), Detections).startswith(
        f"data.{missing}: is missing; pass --data.{missing} coco:"
    )


@pytest.mark.parametrize(
    ("uri", "move"),
    [
        ("train.txt", "write masks:train.txt if this is a list of images with class maps"),
        ("s3://b/VOC/TRAIN.TXT", "write masks:s3://b/VOC/TRAIN.TXT if this is a list of "),
        ("val", "write classes:val if this is a folder of class folders"),
        ("train.csv", "write coco:train.csv if this is a COCO file"),
        ("s3://b/val", "write coco:s3://b/val if this is a COCO file"),  # asks no bucket
    ],
)
def test_a_set_named_by_its_path_alone(data, tmp_path, monkeypatch, uri, move):
    monkeypatch.chdir(tmp_path)  # which holds `train` and `val`, of `data`
    line = one_line(open_human, DataConfig(train=uri, val=data["val"]), Detections)
    assert line.startswith("labels are read from coco:PATH, masks:PATH, classes:PATH or a path")
    assert f"got {uri!r}; {move}" in line


def test_labels_of_another_kind(data):
    line = one_line(open_human, DataConfig(**data), ClassLabel)
    assert line.startswith(
        "data.train: this task learns from ClassLabel, such as classes:DIR, got "
    )
    assert line.endswith("; name such a set or set task")


def test_validation_of_other_classes(data, tmp_path):
    data["val"] = coco(tmp_path / "val2", "val", 2, classes=("dog", "cat"))
    assert one_line(open_human, DataConfig(**data), Detections).startswith(
        "data.val: must have the classes of data.train ['cat', 'dog'], got ['dog', 'cat']; "
    )


@pytest.mark.parametrize("field", ["train", "val", "unlabeled"])
def test_a_file_that_is_not_there(data, tmp_path, field):
    data[field] = f"coco:{tmp_path}/none.json"
    assert f"{tmp_path}/none.json" in one_line(open_materials, DataConfig(**data), Detections)
