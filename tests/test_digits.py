import hashlib
import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import pytest

from ray_st.config import UserError
from ray_st.data import boxes
from ray_st.data.images import decode, fetch
from ray_st.data.labels import KINDS, ClassLabel, Detections, SegmentationMap
from ray_st.data.rows import kind_of, unpack
from ray_st.data.sources import open_images, open_labeled
from ray_st.data.sources.digits import (
    DigitsConfig,
    check_world,
    classes_of,
    world_data,
    write_world,
)
from ray_st.data.sources.digits.handwriting import by_class, split_digits
from ray_st.data.sources.digits.scene import draw

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
    write_world(folder, SMALL, Detections)
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
    write_world(
        tmp_path, DigitsConfig(labeled_scenes=30, val_scenes=1, pool_scenes=1, noise=0), Detections
    )
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
    write_world(tmp_path / "again", SMALL, Detections)
    assert digest(tmp_path / "again") == digest(world)
    fewer = DigitsConfig(labeled_scenes=3, val_scenes=2, pool_scenes=2, seed=1)
    write_world(tmp_path / "again", fewer, Detections)
    other = digest(tmp_path / "again")
    assert len(other) == 3 + 2 + 2 + 3  # no scene of the larger world is left
    assert other["images/train/000000.jpg"] != digest(world)["images/train/000000.jpg"]


def test_fewer_classes_are_counted_from_zero(tmp_path):
    config = DigitsConfig(
        labeled_scenes=3, val_scenes=1, pool_scenes=1, classes=(3, 8), labeled_digits=2, scene_px=48
    )
    write_world(tmp_path, config, Detections)
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
        ("turn_deg", -1.0),
        ("turn_deg", 45.5),
        ("turn_deg", float("nan")),
        ("contrast", (0.0, 0.5)),
        ("contrast", (0.5, 0.4)),
        ("contrast", (0.5, 1.1)),
        ("noise", 2.0),
        ("seed", -1),
    ],
)
def test_wrong_settings_name_their_field(field, value):
    with pytest.raises(UserError, match=rf"digits\.{field}"):
        DigitsConfig(**{field: value})


def test_more_digits_than_there_are(tmp_path):
    for kind in KINDS:
        for write in (write_world, lambda _, *rest: check_world(*rest)):
            with pytest.raises(UserError, match=r"digits\.labeled_digits.*898"):
                write(tmp_path, DigitsConfig(labeled_digits=1000), kind)
    assert not any(tmp_path.iterdir())


def sha256(folder: Path, pattern: str) -> str:
    whole = hashlib.sha256()
    for path in sorted(folder.rglob(pattern)):
        whole.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return whole.hexdigest()


def test_the_world_of_boxes_is_what_it_always_was(world):
    # What was measured in it stays comparable: a seed gives the scenes that it gave before.
    assert sha256(world, "*.json").startswith("83531d5a3779b866")
    if platform.machine() != "x86_64" or PIL.__version__.split(".")[0] != "13":
        pytest.skip("other arithmetic, or another JPEG encoder: bytes of images may differ")
    assert sha256(world, "*.jpg").startswith("b4b80a0b3d609fb1")


@pytest.mark.parametrize("kind", KINDS)
def test_every_world_is_read_as_it_was_written(tmp_path, kind):
    config = DigitsConfig(
        labeled_scenes=9, val_scenes=4, pool_scenes=7, classes=(8, 3), labeled_digits=4, scene_px=48
    )
    data = write_world(tmp_path / "a #1", config, kind)
    assert data == world_data(tmp_path / "a #1", kind)
    for uri, count in ((data.train, 9), (data.val, 4), (data.unlabeled, 7)):
        labeled = open_labeled(uri)
        assert labeled.rows.num_rows == count
        assert labeled.classes == classes_of(config, kind)
        assert labeled.findings == {}
        assert kind_of(labeled.rows.schema) is kind
        assert all(one.amount() > 0 for one in unpack(labeled.rows))
        for image in labeled.rows.column("uri").to_pylist():
            assert decode(fetch(image)).shape == (48, 48, 3)
        assert open_images(uri).column("uri").equals(labeled.rows.column("uri"))
    expected = digest(tmp_path / "a #1")
    write_world(tmp_path / "b", config, kind)
    assert digest(tmp_path / "b") == expected
    larger = replace(config, labeled_scenes=30, val_scenes=9, pool_scenes=20, classes=(1, 8, 3))
    write_world(tmp_path / "c", larger, kind)
    write_world(tmp_path / "c", config, kind)
    assert digest(tmp_path / "c") == expected  # nothing of the larger world is left


def test_class_maps_are_of_the_scenes_with_boxes(world, tmp_path):
    data = write_world(tmp_path, SMALL, SegmentationMap)
    images, maps = digest(world / "images"), open_labeled(data.train)
    assert digest(tmp_path / "images") == images
    assert maps.classes == ("ground", *"0123456789")
    boxed = unpack(open_labeled(str(world / "instances_train.json")).rows)
    for labels, scene in zip(unpack(maps.rows), boxed, strict=True):
        class_map = labels.class_map
        assert labels.amount() == 1  # every pixel is labelled: ground, or a digit
        assert set(np.unique(class_map)) <= {0, *(scene.class_ids + 1)}
        # All ink of a class lies in the boxes of that class, and reaches the rims of those on top.
        for class_id in set(scene.class_ids.tolist()):
            inside = np.zeros(class_map.shape, bool)
            for left, top, right, bottom in scene.boxes_xyxy[scene.class_ids == class_id].astype(
                int
            ):
                inside[top:bottom, left:right] = True
            assert not (class_map == class_id + 1)[~inside].any()
        left, top, right, bottom = scene.boxes_xyxy[-1].astype(int)  # drawn last: nothing hides it
        own = class_map[top:bottom, left:right] == scene.class_ids[-1] + 1
        for rim in (own[0], own[-1], own[:, 0], own[:, -1]):
            assert rim.any()


def test_later_digits_lie_over_earlier_ones():
    config = DigitsConfig(digits_per_scene=(12, 12), labeled_digits=20)
    digits, overlaps = split_digits(config)[0], 0
    for seed in range(20):
        scene = draw(digits, config, np.random.default_rng(seed))
        class_map = scene.class_map()
        hidden = np.zeros(class_map.shape, bool)
        for one in scene.drawn[::-1]:
            here = np.zeros(class_map.shape, bool)
            here[one.top :, one.left :][: len(one.ink), : len(one.ink[0])] = one.is_ink
            assert (class_map[here & ~hidden] == one.class_id + 1).all()
            overlaps += (here & hidden).sum()
            hidden |= here
        assert (class_map[~hidden] == 0).all()
    assert overlaps > 0


def test_ink_is_where_a_digit_changes_the_picture():
    # Without grain, the same scene in another contrast differs exactly where there is opacity.
    config = DigitsConfig(noise=0.0, digits_per_scene=(1, 1), labeled_digits=20)
    digits = split_digits(config)[0]
    strong = replace(config, contrast=(0.6, 0.6))
    faint = replace(config, contrast=(0.1, 0.1))
    for seed in range(10):
        scenes = [draw(digits, c, np.random.default_rng(seed)) for c in (faint, strong)]
        change = np.abs(scenes[0].pixels.astype(int) - scenes[1].pixels).max(axis=2)
        (one,) = scenes[0].drawn
        opacity = one.on(change)
        assert change.sum() == opacity.sum()  # nothing outside the cell
        assert opacity[one.ink > 0.9].min() > opacity[one.ink < 0.1].max()
        assert (scenes[0].class_map() == scenes[1].class_map()).all()


def test_scenes_to_be_classified_hold_one_digit_of_each_class_alike(tmp_path):
    config = replace(SMALL, labeled_scenes=25, val_scenes=10, pool_scenes=11, classes=(9, 0, 4))
    data = write_world(tmp_path, config, ClassLabel)
    for uri, counts in (
        (data.train, [9, 8, 8]),
        (data.val, [4, 3, 3]),
        (data.unlabeled, [4, 4, 3]),
    ):
        labeled = open_labeled(uri)
        assert labeled.classes == ("0", "4", "9") == classes_of(config, ClassLabel)
        found = [int(one.top_class_ids[0]) for one in unpack(labeled.rows)]
        by_digit = dict(zip(labeled.classes, np.bincount(found), strict=True))
        assert [by_digit[name] for name in ("9", "0", "4")] == counts
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["0", "4", "9"]
    names = [path.name for path in (tmp_path / "train").rglob("*.jpg")]
    assert sorted(names) == [f"{i:06d}.jpg" for i in range(25)]


def test_too_few_scenes_to_show_every_class(tmp_path):
    for field in ("labeled_scenes", "val_scenes", "pool_scenes"):
        config = replace(DigitsConfig(), **{field: 9})
        for kind in (Detections, SegmentationMap):
            check_world(config, kind)
        with pytest.raises(
            UserError, match=rf"^digits\.{field}: must be one a class or more, got 9"
        ):
            write_world(tmp_path, config, ClassLabel)
    assert not any(tmp_path.iterdir())


def test_digits_by_class():
    digits = split_digits(DigitsConfig(classes=(7, 1), labeled_digits=11))[0]
    parts = by_class(digits)
    assert [len(ink) for ink, _ in parts] == [6, 5]
    for k, (ink, class_ids) in enumerate(parts):
        assert class_ids.tolist() == [k] * len(ink)
        np.testing.assert_array_equal(ink, digits[0][digits[1] == k])


@pytest.mark.parametrize(
    ("turn_deg", "digit_px", "scene_px"), [(0, 8, 8), (12, 8, 10), (12, 76, 96), (45, 20, 30)]
)
def test_the_largest_digit_fits_however_it_is_turned(turn_deg, digit_px, scene_px):
    config = DigitsConfig(
        turn_deg=turn_deg, digit_px=(digit_px, digit_px), scene_px=scene_px, labeled_digits=20
    )
    digits = split_digits(config)[0]
    for seed in range(50):
        scene = draw(digits, config, np.random.default_rng(seed))
        assert scene.pixels.shape == (scene_px, scene_px, 3)
        for one in scene.drawn:
            assert one.left + one.ink.shape[1] <= scene_px
            assert one.top + one.ink.shape[0] <= scene_px
    with pytest.raises(UserError, match=r"digits\.digit_px: .* fit into scene_px when turned"):
        replace(config, digit_px=(8, digit_px + 10))


def test_scikit_learn_is_loaded_for_digits_only():
    code = "import sys, ray_st.verbs.demo, ray_st.verbs.run; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
