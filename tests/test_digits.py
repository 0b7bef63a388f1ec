import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ray_st.config import UserError
from ray_st.data import boxes
from ray_st.data.images import decode, fetch
from ray_st.data.rows import unpack
from ray_st.data.sources import open_images, open_labeled
from ray_st.data.sources.digits import DigitsConfig, split_digits, write_digits

pytestmark = pytest.mark.pure

SMALL = DigitsConfig(labeled_scenes=12, val_scenes=5, pool_scenes=8)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_digits(folder, SMALL)
    return folder


def test_files_and_counts(world):
    for split, count in (("train", 12), ("val", 5), ("pool", 8)):
        labeled = open_labeled(str(world / f"instances_{split}.json"))
        assert labeled.rows.num_rows == count
        assert labeled.classes == tuple("0123456789")
        assert labeled.findings == {}
        listed = open_images(str(world / "images" / split))
        assert listed.column("uri").equals(labeled.rows.column("uri"))


def test_scenes_and_boxes_are_within_their_limits(world):
    labeled = open_labeled(str(world / "instances_train.json"))
    for uri, labels in zip(
        labeled.rows.column("uri").to_pylist(), unpack(labeled.rows), strict=True
    ):
        pixels = decode(fetch(uri))
        assert pixels.shape == (96, 96, 3)
        assert pixels.std() > 5
        assert 1 <= len(labels) <= 4
        sides = labels.boxes_xyxy[:, 2:] - labels.boxes_xyxy[:, :2]
        assert (sides.max(axis=1) >= 10).all()
        assert (sides <= 36 * 1.25).all()
        overlap = boxes.iou(labels.boxes_xyxy, labels.boxes_xyxy)
        assert (overlap - np.eye(len(labels))).max() <= 0.1


def test_boxes_frame_the_digits(tmp_path):
    # Ink has edges and the smooth ground has few, so edges must lie in the boxes.
    write_digits(tmp_path, DigitsConfig(labeled_scenes=30, val_scenes=1, pool_scenes=1, noise=0))
    labeled = open_labeled(str(tmp_path / "instances_train.json"))
    inside, outside = [], []
    for uri, labels in zip(
        labeled.rows.column("uri").to_pylist(), unpack(labeled.rows), strict=True
    ):
        edges = np.abs(np.diff(decode(fetch(uri)).astype(float).mean(axis=2), axis=1))
        is_inside = np.zeros(edges.shape, bool)
        for left, top, right, bottom in labels.boxes_xyxy.astype(int):
            is_inside[top:bottom, left:right] = True
        inside.append(edges[is_inside].mean())
        outside.append(edges[~is_inside].mean())
    assert np.mean(inside) > 2 * np.mean(outside)


def test_no_digit_stands_in_two_splits():
    parts = [{cell.tobytes() for cell in cells} for cells, _ in split_digits(DigitsConfig())]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert len(parts[a] & parts[b]) <= 1  # the source itself holds few equal scans
    cells, class_ids = split_digits(DigitsConfig())[0]
    assert len(cells) == 150
    assert np.bincount(class_ids).tolist() == [15] * 10


def test_the_seed_decides_every_byte(world, tmp_path):
    write_digits(tmp_path / "again", SMALL)
    assert digest(tmp_path / "again") == digest(world)
    write_digits(
        tmp_path / "again", DigitsConfig(labeled_scenes=3, val_scenes=2, pool_scenes=2, seed=1)
    )
    other = digest(tmp_path / "again")
    assert len(other) == 3 + 2 + 2 + 3  # no scene of the larger world is left
    assert other["images/train/000000.jpg"] != digest(world)["images/train/000000.jpg"]


def test_fewer_classes_are_counted_from_zero(tmp_path):
    config = DigitsConfig(
        labeled_scenes=3, val_scenes=1, pool_scenes=1, classes=(3, 8), labeled_digits=2, scene_px=48
    )
    write_digits(tmp_path, config)
    document = json.loads((tmp_path / "instances_train.json").read_text())
    assert [one["name"] for one in document["categories"]] == ["3", "8"]
    assert {one["category_id"] for one in document["annotations"]} <= {1, 2}
    assert document["images"][0]["width"] == 48


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labeled_scenes", 0),
        ("labeled_digits", 5),
        ("digits_per_scene", (3, 2)),
        ("digit_px", (20, 90)),
        ("classes", (1, 1)),
        ("classes", ()),
        ("noise", 2.0),
        ("seed", -1),
    ],
)
def test_wrong_settings_name_their_field(field, value):
    with pytest.raises(UserError, match=rf"digits\.{field}"):
        DigitsConfig(**{field: value})


def test_more_digits_than_there_are(tmp_path):
    with pytest.raises(UserError, match=r"digits\.labeled_digits.*898"):
        write_digits(tmp_path, DigitsConfig(labeled_digits=1000))
