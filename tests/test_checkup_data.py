"""What a checkup says of data: each finding is there when its cause is, and only then."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ray_st.config import UserError
from ray_st.data.labels import ClassLabel, Detections, Labels, Origin, SegmentationMap
from ray_st.data.parts import slice_uri
from ray_st.data.rows import pack, unpack
from ray_st.data.sources import LabeledSet
from ray_st.data.sources.folder import image_rows
from ray_st.models import ModelConfig
from ray_st.selftraining.checkup.classes import Counts, bare_images, label_space, mended
from ray_st.selftraining.checkup.copies import Copies, find_copies
from ray_st.selftraining.checkup.files import (
    Look,
    chosen,
    looks,
    missing,
    other_sizes,
    readable,
    stats,
)
from ray_st.selftraining.checkup.finding import Finding, graded, named, percent
from ray_st.selftraining.checkup.objects import (
    crowded_images,
    fit_anchors,
    unseen_boxes,
    unseen_classes,
    worst_images,
)
from ray_st.selftraining.checkup.pixels import ignored_pixels
from ray_st.selftraining.checkup.sets import Sampling, check_files, check_labels
from ray_st.selftraining.checkup.sizes import image_sizes
from ray_st.selftraining.checkup.twice import across, partly, within

pytestmark = pytest.mark.pure

CLASSES = ("cat", "dog", "owl")


def rows_of(
    labels: Sequence[Labels],
    uris: Sequence[str] | None = None,
    size_hw: tuple[int, int] = (60, 80),
    kind: type[Labels] | None = None,
) -> pa.Table:
    return pack(
        image_ids=range(len(labels)),
        uris=uris or [f"/{i}.jpg" for i in range(len(labels))],
        sizes_hw=[size_hw] * len(labels),
        labels=labels,
        origin=Origin.HUMAN,
        kind=kind,
    )


def boxes(*class_ids: int) -> Detections:
    return Detections.of([[i, 1, i + 9, 9] for i in range(len(class_ids))], class_ids)


def told(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """Severity, field and words; each is one line, and what is not fine has a next move."""
    for each in findings:
        assert "\n" not in each.line
        assert each.line.startswith(each.severity)
        assert each.severity == "fine" or each.move
    return [(each.severity, each.where, each.what) for each in findings]


def photo(path: Path, seed: int = 0, size_wh: tuple[int, int] = (80, 60)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size_wh[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")
    return str(path)


# A finding


def test_a_refusal_is_a_finding_with_the_same_words() -> None:
    finding = Finding.refusal(UserError("train.lr: must be above 0, got 0; raise it"))
    assert finding.line == "fail  train.lr: must be above 0, got 0; raise it"
    assert (finding.where, finding.move) == ("train.lr", "raise it")
    finding = Finding.refusal(UserError("a set starts with coco:PATH, got 'x'; write coco:x"))
    assert finding.line == "fail  recipe: a set starts with coco:PATH, got 'x'; write coco:x"
    assert Finding.refusal(UserError("data.val: is bad")).line == "fail  data.val: is bad"


def test_words_and_grades() -> None:
    assert [graded(x, warn=1, fail=2) for x in (1.0, 1.1, 2.0, 2.1)] == [
        "fine", "warn", "warn", "fail",
    ]  # fmt: skip
    assert graded(1e9, warn=1) == "warn"
    assert named(["a"]) == "a"
    assert named([*"abcdefg"]) == "a, b, c, d, e and 2 more"
    assert [percent(x) for x in (0, 0.001, 0.5, 0.999, 1)] == ["0%", "<1%", "50%", ">99%", "100%"]


# Files


@pytest.mark.parametrize(
    ("count", "most", "places"),
    [
        (0, 5, []),
        (3, 3, [0, 1, 2]),
        (3, None, [0, 1, 2]),
        (10, 4, [0, 3, 6, 9]),
        (10, 1, [0]),
    ],
)
def test_a_sample_is_spread_over_the_set(count: int, most: int | None, places: list[int]) -> None:
    assert chosen(count, most) == places


@pytest.fixture
def dirt(tmp_path: Path) -> list[str]:
    """Six sound images of many kinds, then six files that are none."""
    upright = io.BytesIO()
    Image.new("RGB", (80, 60)).save(upright, "JPEG")
    sound = [photo(tmp_path / name, i) for i, name in enumerate(("a #1=ü.JPG", "b c.jpeg"))]
    for name, mode in (("rgba.jpg", "RGBA"), ("palette.jpg", "P"), ("grey.png", "L")):
        Image.new(mode, (80, 60)).save(tmp_path / name, "PNG")
        sound.append(str(tmp_path / name))
    Image.new("I;16", (80, 60)).save(tmp_path / "deep.png")
    sound.append(str(tmp_path / "deep.png"))
    whole = Path(sound[0]).read_bytes()
    bad = {
        "cut.jpg": whole[:-1000],  # inside the coded pixels
        "empty.jpg": b"",
        "text.jpg": b"no image",
        "half.png": (tmp_path / "grey.png").read_bytes()[:60],
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    return [*sound, *(str(tmp_path / name) for name in bad), str(tmp_path / "gone.jpg")]


def test_what_is_there_and_what_can_be_read(dirt: list[str]) -> None:
    found = stats(dirt)
    assert [uri for uri, stat in found.items() if not stat.is_there] == [dirt[-1]]
    assert [stat.size_bytes for stat in found.values()][:-1] == [
        Path(uri).stat().st_size for uri in dirt[:-1]
    ]
    assert told(missing("data.train", found)) == [
        # one of eleven
        ("warn", "data.train", f"1 of 11 image files are not there, such as {dirt[-1]}"),
    ]
    (severity, _, _), *_ = told(missing("pool", dict([*found.items()][-2:])))
    assert severity == "fail"  # one of two
    assert missing("data.train", dict([*found.items()][:-1])) == []

    seen = looks(dirt, 32)
    assert [look.error is None for look in seen] == [True] * 6 + [False] * 5
    assert [look.kind for look in seen[:6]] == [
        "JPEG RGB", "JPEG RGB", "PNG RGBA", "PNG P", "PNG L", "PNG I;16",
    ]  # fmt: skip
    assert {look.size_hw for look in seen[:6]} == {(60, 80)}
    (bad,) = readable("data.train", seen, 11)
    assert told([bad])[0][:2] == ("fail", "data.train")
    assert bad.what.startswith("5 of the images tried (11) cannot be read, such as cut.jpg: decode")
    assert readable("pool", seen, 11, most=0.5)[0].severity == "warn"  # 5 of 11
    (fine,) = readable("data.val", seen[:6], 600)
    assert told([fine]) == [
        (
            "fine", "data.val",
            "all images tried (6 of 600) can be read: 2 JPEG RGB, 1 PNG RGBA, 1 PNG P, 1 PNG L",
        )
    ]  # fmt: skip
    assert fine.numbers["kinds"]["PNG I;16"] == 1


def test_parts_of_files_are_there_for_all_that_is_asked(dirt: list[str]) -> None:
    part = slice_uri(0, Path(dirt[0]).stat().st_size, dirt[0])
    assert stats([part])[part].is_there
    assert stats([part])[part].size_bytes is None
    assert looks([part], 32)[0].size_hw == (60, 80)


def test_boxes_for_images_of_another_size(tmp_path: Path) -> None:
    def look(size_hw: tuple[int, int] | None) -> Look:
        return Look(uri="/x/a.jpg", size_hw=size_hw, error=None if size_hw else "decode: bad")

    right = [look((60, 80))] * 20
    listed = [(60, 80)] * 20
    assert other_sizes("data.train", right, listed) == []
    assert other_sizes("data.train", [look(None)], [(60, 80)]) == []  # said elsewhere
    assert other_sizes("data.train", [look((60, 80))], [(0, 0)]) == []  # none is listed
    (one,) = other_sizes("data.train", [*right[1:], look((120, 160))], listed)
    assert told([one]) == [
        (
            "warn", "data.train",
            "1 of 20 images (5%) are of another size than is listed, such as a.jpg: 160x120, "
            "listed 80x60, and so their boxes lie elsewhere",
        )
    ]  # fmt: skip
    (lying,) = other_sizes("data.train", [*right[3:], *[look((80, 60))] * 3], listed)
    assert lying.severity == "fail"  # 3 of 20
    assert ", 3 of them with height and width swapped, " in lying.what
    assert "EXIF" in lying.move


def test_an_image_that_its_exif_turns_is_seen_as_swapped(tmp_path: Path) -> None:
    path = photo(tmp_path / "lying.jpg")
    for tag, is_swapped in ((6, True), (0, False), (9, False), (3, False)):
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0112] = tag
            image.save(tmp_path / "tagged.jpg", exif=exif)
        found = other_sizes("data.train", looks([str(tmp_path / "tagged.jpg")], 32), [(60, 80)])
        assert [each.numbers["swapped"] for each in found] == ([1] if is_swapped else [])


# Copies


@pytest.fixture
def twins(tmp_path: Path) -> dict[str, list[str]]:
    """Train holds a copy of its own, val a copy and an image of train, the pool one of val."""
    train = [photo(tmp_path / "train" / f"{i}.jpg", i) for i in range(4)]
    val = [photo(tmp_path / "val" / f"{i}.jpg", 10 + i) for i in range(3)]
    pool = [photo(tmp_path / "pool" / f"{i}.jpg", 20 + i) for i in range(2)]
    for original, copy in (
        (train[0], train[3]), (train[1], val[0]), (val[2], pool[1]),
    ):  # fmt: skip
        shutil.copy(original, copy)
    return {"data.val": [*val, train[2]], "data.train": train, "data.unlabeled": pool}


def test_copies_under_other_names(twins: dict[str, list[str]]) -> None:
    val, train, pool = twins.values()
    copies = find_copies(twins, stats([*val, *train, *pool]))
    pairs = {frozenset(uri for uri in copies.same if copies.same[uri] == first)
             for first in copies.same.values()}  # fmt: skip
    expected = ({train[0], train[3]}, {train[1], val[0]}, {val[2], pool[1]})
    assert pairs == {*map(frozenset, expected)}
    found = across(twins, copies)
    assert [
        (each.severity, each.numbers["same_uri"], each.numbers["copies"]) for each in found
    ] == [
        ("warn", 1, 1),  # data.val, data.train: 2 of 4 are no more than half
        ("warn", 0, 1),  # data.val, data.unlabeled
    ]
    assert found[0].what == (
        f"2 of its 4 images are in data.train too, 1 as copies under other names such as {val[0]} "
        f"= {train[1]}"
    )
    told(found)


def test_more_than_half_of_val_in_train_is_a_failure() -> None:
    none = Copies(same={}, candidates=0, compared=0)
    sets = {"data.val": ["/a", "/b", "/c"], "data.train": ["/a", "/b", *map(str, range(9))]}
    (leak,) = across(sets, none)
    assert told([leak]) == [
        ("fail", "data.val", "2 of its 3 images are in data.train too, such as /a")
    ]
    (pooled,) = across({"data.val": ["/a"], "data.unlabeled": ["/a", "/b"]}, none)
    assert pooled.severity == "warn"  # its labels are not used
    few = {"data.train": ["/a"], "data.unlabeled": ["/a", *map(str, range(9))]}
    assert [each.severity for each in across(few, none)] == ["fine"]  # one of ten
    few["data.unlabeled"] = few["data.unlabeled"][:9]
    assert [each.severity for each in across(few, none)] == ["warn"]  # one of nine
    assert across({"data.val": ["/a"], "data.train": ["/b"]}, none) == []


@pytest.mark.parametrize("pool", ["data.unlabeled", "data.labeled_images"])
def test_pseudo_labels_are_of_the_images_of_their_pool(pool: str) -> None:
    none = Copies(same={}, candidates=0, compared=0)
    images = ["/a", "/b", "/c"]
    sets = {"data.val": ["/v", "/a"], "data.train": ["/t", "/b"], pool: images, "pseudo": images}
    assert [(each.where, each.numbers["with"]) for each in across(sets, none)] == [
        ("data.val", pool), ("data.val", "pseudo"), ("data.train", pool), ("data.train", "pseudo")
    ]  # fmt: skip


def test_files_alike_at_first_and_later_not_are_no_copies(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.bin" for i in range(3)]
    for path, end in zip(paths, (b"a", b"b", b"a"), strict=True):
        path.write_bytes(b"x" * 10_000 + end)
    uris = [*map(str, paths)]
    copies = find_copies({"pool": uris}, stats(uris))
    assert copies.same == {uris[0]: uris[0], uris[2]: uris[0]}
    paths[2].unlink()  # gone since it was asked for
    assert find_copies({"pool": uris}, stats(uris)).same == {}


def test_no_more_files_are_compared_than_allowed_and_val_comes_first(tmp_path: Path) -> None:
    train = [photo(tmp_path / f"{i}.jpg", i) for i in range(4)]
    shutil.copy(train[0], train[1])
    val = str(tmp_path / "val.jpg")
    shutil.copy(train[2], val)
    sets = {"data.val": [val], "data.train": train[:3]}
    found = stats([val, *train[:3]])
    sizes = {train[0]: 100, train[1]: 100, train[2]: 200, val: 200}
    found = {uri: replace(stat, size_bytes=sizes[uri]) for uri, stat in found.items()}
    for most, same in ((3, {train[2], val}), (4, {*train[:3], val}), (None, {*train[:3], val})):
        copies = find_copies(sets, found, most)
        assert copies.same.keys() == same
        assert copies.candidates == 4
        assert copies.compared == len(same)
        assert len(partly("data", copies)) == (1 if most == 3 else 0)
    assert partly("data", find_copies(sets, found, 3))[0].what.startswith("2 of 4 files that ")
    assert find_copies(sets, {}, None).same == {}  # nothing was asked for


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (boxes(0, 1), boxes(0, 1), 0),
        (boxes(0, 1), boxes(0, 1)[::-1], 0),  # in another order
        (boxes(0, 1), boxes(1, 1), 1),
        (boxes(0), boxes(), 1),
        (ClassLabel.of([1]), ClassLabel.of([1]), 0),
        (ClassLabel.of([1]), ClassLabel.of([2]), 1),
        (*[SegmentationMap(class_map=np.ones((2, 3), np.uint8))] * 2, 0),
        (SegmentationMap.unknown(), SegmentationMap(class_map=np.ones((2, 3), np.uint8)), 1),
    ],
)
def test_copies_that_are_labelled_in_two_ways(one: Labels, other: Labels, apart: int) -> None:
    copies = Copies(same={"/a": "/a", "/b": "/a"}, candidates=2, compared=2)
    rows = rows_of([one, other, one], ["/a", "/b", "/c"])
    (found,) = within("data.train", rows, copies)
    assert (found.severity, found.numbers["copies"]) == ("warn", 1)
    assert found.numbers["contradicting"] == apart
    assert ("labelled in two ways" in found.what) == bool(apart)
    told([found])
    assert within("data.train", rows.slice(1), copies) == []


def test_a_pool_has_copies_without_labels() -> None:
    copies = Copies(same={"/a": "/a", "/b": "/a"}, candidates=2, compared=2)
    (found,) = within("data.unlabeled", image_rows([0, 1, 2, 3], ["/a", "/b", "/a", "/c"]), copies)
    assert found.what == "2 of 4 images are copies of others, such as a, b, a"


# Classes


def counts(*labels: Labels, kind: type[Labels] = Detections) -> Counts:
    return Counts.of(rows_of(labels, kind=kind), kind, CLASSES)


def test_counts_of_each_kind() -> None:
    found = counts(boxes(0, 0, 2), boxes())
    assert (found.by_class(), found.unit) == ({"cat": 2, "dog": 0, "owl": 1}, "boxes")
    assert found.amounts.tolist() == [3, 0]
    one = SegmentationMap(class_map=np.array([[0, 1, 255], [1, 1, 2]], np.uint8))
    found = counts(one, kind=SegmentationMap)
    assert (found.by_class(), found.unit) == ({"cat": 1, "dog": 3, "owl": 1}, "pixels")
    assert found.amounts.tolist() == [5 / 6]
    found = counts(ClassLabel.of([1]), ClassLabel.unknown(), kind=ClassLabel)
    assert (found.by_class(), found.unit) == ({"cat": 0, "dog": 1, "owl": 0}, "images")
    assert counts().by_class() == dict.fromkeys(CLASSES, 0)


def test_classes_that_cannot_be_learned_or_measured() -> None:
    enough = boxes(*[0, 1, 2] * 10)
    assert told(label_space(counts(enough), counts(enough, boxes(0)))) == [
        ("fine", "data.train", "1 images, 30 boxes of 3 classes, most cat (10), fewest owl (10)"),
        ("fine", "data.val", "2 images, 31 boxes of 3 classes, most cat (11), fewest owl (10)"),
    ]
    found = label_space(counts(boxes(*[0] * 12, *[1] * 9)), counts(boxes(*[1] * 12, *[2] * 10)))
    assert told(found) == [
        (
            "warn", "data.train",
            "1 images, 21 boxes of 3 classes, most cat (12), fewest dog (9); 1 classes have fewer "
            "than 10 boxes: dog",
        ),
        ("fine", "data.val", "1 images, 22 boxes of 3 classes, most dog (12), fewest owl (10)"),
        (
            "warn", "data.train",
            "1 of 3 classes have no label in train, and some in val: their figures will be 0: owl",
        ),
        (
            "warn", "data.val",
            "1 of 3 classes have no label in val: nothing says how well they are learned: cat",
        ),
    ]  # fmt: skip
    many = boxes(*[0, 1] * 10)
    assert told(label_space(counts(many), counts(many)))[2:] == [
        ("warn", "data.train", "1 of 3 classes have no label anywhere: owl"),
    ]


def test_few_pixels_are_no_few_labels() -> None:
    one = SegmentationMap(class_map=np.array([[0, 1, 2]], np.uint8))
    found = [counts(one, kind=SegmentationMap)] * 2
    assert [each.severity for each in label_space(*found)] == ["fine", "fine"]


def test_images_without_a_label() -> None:
    assert bare_images("data.val", counts(boxes(0))) == []
    assert bare_images("data.val", counts()) == []
    (found,) = bare_images("data.train", counts(*[boxes(0)] * 9, boxes()))
    assert told([found]) == [("fine", "data.train", "1 of 10 images (10%) have no label")]
    (found,) = bare_images("data.train", counts(*[boxes(0)] * 8, boxes()))
    assert found.severity == "warn"
    assert "background" in found.move
    unknown = [ClassLabel.unknown(), ClassLabel.of([0])]
    (found,) = bare_images("data.train", counts(*unknown, kind=ClassLabel))
    assert "count for nothing" in found.move


def test_what_the_reader_mended() -> None:
    clean = LabeledSet(rows_of([boxes(0)]), CLASSES, "x", {})
    assert mended("data.train", clean, 1) == []
    dirty = replace(clean, findings={"zero_area_boxes_dropped": 2, "boxes_clipped": 1})
    said = "found in reading: 2 zero area boxes dropped, 1 boxes clipped"
    assert told(mended("data.train", dirty, 200)) == [("fine", "data.train", said)]  # 1%
    assert told(mended("data.train", dirty, 199)) == [("warn", "data.train", said)]


# Sizes


def sizes(*sizes_wh: tuple[int, int]) -> np.ndarray:
    return np.array(sizes_wh).reshape(-1, 2)[:, ::-1]


def test_sizes_and_what_a_view_makes_of_them() -> None:
    assert image_sizes("data.train", sizes(), 64) == []
    assert told(image_sizes("data.val", sizes((80, 60), (80, 60)), 80)) == [
        (
            "fine", "data.val",
            "images are all 80x60; a view of 80 px shows them 1.00 times as large, "
            "25% of it is padding",  # 60 of 80 rows are used
        )
    ]  # fmt: skip
    (one,) = image_sizes("data.val", sizes((80, 60), (60, 80)), 80)
    assert "images are 80x60 to 60x80, in between 60x80" in one.what
    found = image_sizes("data.train", sizes((20, 20)), 64)
    said = "half of the images are shown 3.2 times as large as they are"
    assert told(found)[1] == ("warn", "model.image_size_px", said)
    assert found[1].move == "20 would show as much, in steps of 10% of the work"  # (20 / 64) ** 2
    found = image_sizes("data.train", sizes((100, 40), (100, 50)), 100)  # 60% and 50%
    assert told(found)[1][2].startswith("55% of each view is padding")
    assert len(image_sizes("data.train", sizes((100, 50)), 200)) == 1


# Boxes and anchors

MODEL = ModelConfig(backbone="test_resnet", image_size_px=64, levels=(3, 4), channels=16)


def fitted(*boxes_xyxy: list[float], size_hw: tuple[int, int] = (64, 64)) -> Any:
    labels = [Detections.of([box], [0]) for box in boxes_xyxy]
    return fit_anchors(rows_of(labels, size_hw=size_hw, kind=Detections), MODEL)


def test_boxes_that_no_anchor_fits() -> None:
    # Anchors have sides of 4 * 8 = 32 and more; a box of 16 has a fourth of the area of the least.
    small, right = [8.0, 8, 24, 24], [4.0, 4, 36, 36]
    found = fitted(small, right)
    assert found.iou[0] == pytest.approx(0.25)
    assert found.iou[1] == pytest.approx(1.0)  # centre 20, 20: 8 * 2 + 4
    (finding,) = unseen_boxes(found, MODEL)
    assert finding.severity == "warn"  # a half, and not more
    assert finding.what.startswith("50% of the boxes have IoU below 0.5 with their best anchor: ")
    assert finding.numbers["unseen_small"] == 1
    assert "model.image_size_px" in finding.move
    assert unseen_boxes(fitted(small, small, right), MODEL)[0].severity == "fail"
    assert unseen_boxes(fitted(right), MODEL)[0].severity == "fine"
    # 128 x 16, of the area of a square of 45: the best anchor has a ratio of 2.
    wide = replace(MODEL, image_size_px=128)
    rows = rows_of([Detections.of([[0, 56, 128, 72]], [0])], size_hw=(128, 128))
    numbers = unseen_boxes(fit_anchors(rows, wide), wide)[0].numbers
    assert [numbers[f"unseen_{cause}"] for cause in ("small", "large", "narrow")] == [0, 0, 1]


def test_a_class_that_no_anchor_fits_is_told_though_others_are_more() -> None:
    small, right = [8.0, 8, 24, 24], [4.0, 4, 36, 36]
    one = Detections.of([right, right, right, small, small, right], [0, 0, 0, 1, 1, 1])
    crowd = Detections.of([small] * 9, [2] * 9, is_crowd=[True] * 9)
    rows = rows_of([Detections.of(), one, crowd, Detections.of([small], [0])], size_hw=(64, 64))
    found = fit_anchors(rows, MODEL)
    assert told(unseen_classes(found, CLASSES)) == [
        ("warn", "data.train", "no anchor fits most boxes of 1 of 3 classes: dog 67%")
    ]
    assert unseen_classes(fitted(right), ["cat"]) == []
    worst = worst_images(rows, found, 8)
    assert worst["image_id"].to_pylist() == [1, 3]  # two, one
    assert [each.class_ids.tolist() for each in unpack(worst)] == [[1, 1], [0]]
    assert [each.boxes_xyxy.tolist() for each in unpack(worst)][1] == [small]
    assert worst_images(rows, found, 1)["image_id"].to_pylist() == [1]
    right_only = rows_of([Detections.of([right], [0])], size_hw=(64, 64))
    assert worst_images(right_only, fit_anchors(right_only, MODEL), 8).num_rows == 0


def test_boxes_are_taken_as_a_view_shows_them() -> None:
    # An image of 128 x 64 is halved to fit: 64 px of it are 32.
    found = fitted([8.0, 8, 72, 72], size_hw=(128, 64))
    assert found.sides_px.tolist() == [[32, 32]]
    assert found.iou[0] == pytest.approx(1.0)
    (finding,) = unseen_boxes(fitted([8.0, 8, 9, 40], size_hw=(128, 64)), MODEL)
    assert ", 1 of them less than a pixel wide or high and so dropped: " in finding.what


def test_crowds_and_sets_without_boxes_are_no_boxes_to_fit() -> None:
    crowd = Detections.of([[0, 0, 5, 5]], [0], is_crowd=[True])
    found = fit_anchors(rows_of([crowd, Detections.of()]), MODEL)
    assert len(found.iou) == 0
    assert unseen_boxes(found, MODEL) == []


def test_more_objects_than_can_be_found() -> None:
    few, many = counts(boxes(0, 1), boxes()), counts(boxes(0, 1, 1), boxes(0))
    assert told(crowded_images("data.val", few, 2)) == [
        ("fine", "data.val", "1.0 boxes an image, 2 at most")
    ]
    assert told(crowded_images("data.val", many, 2)) == [
        (
            "warn", "detect.max_detections",
            "1 images of data.val have more than 2 boxes (2.0 boxes an image, 3 at most): 1 of "
            "their boxes can never be found",
        )
    ]  # fmt: skip
    assert crowded_images("data.val", counts(), 2) == []


# Pixels


def test_pixels_that_count_for_nothing() -> None:
    half = SegmentationMap(class_map=np.array([[0, 255]], np.uint8))
    none = SegmentationMap.unknown()
    assert told(ignored_pixels("data.val", counts(half, kind=SegmentationMap), 1)) == [
        ("fine", "data.val", "50% of the pixels count for nothing (maps read: 1)")
    ]
    assert told(ignored_pixels("data.val", counts(half, none, kind=SegmentationMap), 9)) == [
        ("warn", "data.val", "75% of the pixels count for nothing (maps read: 2 of 9)")
    ]
    assert ignored_pixels("data.val", counts(kind=SegmentationMap), 0) == []


# Sets


def test_a_sample_of_maps_is_counted_and_all_boxes_are() -> None:
    maps = [SegmentationMap(class_map=np.array([[i % 3]], np.uint8)) for i in range(9)]
    one = LabeledSet(rows_of(maps), CLASSES, "x", {})
    for sampling, said in (
        (Sampling(images=4, is_all=False), "maps read: 4 of 9"),
        (Sampling(images=4, is_all=True), "maps read: 9"),
    ):
        found = [*check_labels(one, one, SegmentationMap, sampling)]
        assert sum(said in each.what for each in found) == 2
    one = LabeledSet(rows_of([boxes(0)] * 9), CLASSES, "x", {})
    few = Sampling(images=4, is_all=False)
    assert next(iter(check_labels(one, one, Detections, few))).numbers["boxes"]["cat"] == 9


def check(sets: Mapping[str, pa.Table], images: int = 200) -> list[tuple[str, str]]:
    found = [
        *check_files(
            sets, dict.fromkeys(sets, 32), Sampling(images=images, is_all=False), {"pool": 0.5}
        )
    ]
    told(found)
    return [(each.severity, each.where) for each in found]


def test_the_files_of_all_sets(tmp_path: Path, dirt: list[str]) -> None:
    val = [photo(tmp_path / "val" / f"{i}.jpg", 50 + i) for i in range(2)]
    pool = image_rows(range(len(dirt)), dirt)
    sets = {"data.val": rows_of([boxes(0)] * 2, val), "pool": pool}
    assert check(sets) == [
        ("fine", "data.val"), ("fine", "data.val"),  # read; sizes
        ("warn", "pool"), ("warn", "pool"), ("fine", "pool"),  # one is not there, four are bad
    ]  # fmt: skip
    shutil.copy(val[0], dirt[0])
    assert ("warn", "data.val") in check(sets)
    assert check({"pool": pool.slice(len(dirt) - 1)}) == [("fail", "pool")]  # all that there is
    assert check({"pool": pool.slice(0, 0)}) == []


def test_sizes_come_from_the_rows_or_else_from_what_was_read(tmp_path: Path) -> None:
    uris = [photo(tmp_path / f"{i}.jpg", i) for i in range(3)]
    labels = [ClassLabel.of([0])] * 3
    for size_hw in ((0, 0), (60, 80)):
        sets = {"data.train": rows_of(labels, uris, size_hw)}
        found = [*check_files(sets, dict.fromkeys(sets, 80), Sampling(images=2, is_all=False), {})]
        assert "images are all 80x60" in found[1].what
