"""`ray-st export` and what slow, obvious readers make of its files; no test here starts Ray."""

import csv
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from test_cli import dry, refused

from ray_st.cli import main
from ray_st.data.labels import ClassLabel, Detections, Origin, SegmentationMap
from ray_st.data.parts import cell_uri, slice_uri
from ray_st.data.rows import label_row, pack, unpack
from ray_st.data.sources import open_labeled
from ray_st.data.sources.folder import image_rows
from ray_st.labeling.export.names import common_prefix, naming
from ray_st.labeling.export.voc import _palette, _pixels
from ray_st.labeling.rows import OK, failed_rows, store_row
from ray_st.labeling.store import Store
from ray_st.selftraining.folder import write_summary

pytestmark = pytest.mark.pure
CLASSES = ["cat & dog", "<fox>", "żuk"]
SHA = "abc"
SIZE_HW = (30, 40)
NAMES = (
    "plain.jpg",
    "with a space.png",
    "a&b <c> 'd' \"e\".jpg",
    "zażółć 写真.jpg",
    "one/1.jpg",
    "two/1.jpg",
    "two/1.png",
    "images/below.jpg",
    "dot./in folder.jpg",
    "twice.jpg.png",
    "line\nbreak.jpg",
)


def write_store(folder, rows, *, failed=(), classes=CLASSES, rows_a_shard=4):
    """What `label` leaves, out of LABEL_ROWs, in shards of a few rows."""
    (kind,) = {type(one) for one in unpack(rows)} if rows.num_rows else {Detections}
    store = Store(str(folder / "raw"))
    store.claim({"teacher_sha256": SHA, "task": "any", "classes": classes, "image_size_px": 64})
    schema = store_row(kind, SHA)
    failures = failed_rows(
        image_rows(list(failed), [f"/gone/{i}.jpg" for i in failed]), "fetch", "gone", schema
    )
    for number, start in enumerate(range(0, rows.num_rows, rows_a_shard)):
        part = rows.slice(start, rows_a_shard)
        for name, text in (("status", OK), ("stage", None), ("reason", None)):
            part = part.append_column(name, pa.array([text] * part.num_rows, pa.string()))
        shard = store.shard(number)
        Path(shard.folder).mkdir(parents=True)
        tables = [part.cast(schema), *([failures] if number == 0 else [])]
        pq.write_table(pa.concat_tables(tables), shard.file("a.parquet"))
        shard.publish()
    summary = {
        "verb": "label",
        "pseudo": {"images": rows.num_rows, "failures": len(failed)},
        "classes": classes,
        "teacher_sha256": SHA,
        "warnings": [],
    }
    write_summary(folder, summary)


def rows_of(uris, labels, ids=None, sizes_hw=None):
    return pack(
        image_ids=[*range(100, 100 + len(uris))] if ids is None else ids,
        uris=uris,
        sizes_hw=[SIZE_HW] * len(uris) if sizes_hw is None else sizes_hw,
        labels=labels,
        origin=Origin.PSEUDO,
        kind=type(labels[0]),
    )


def some_boxes(count, seed=0, size_hw=SIZE_HW):
    """Boxes of uneven corners; of every size down to a sliver, one the whole image, one crowd."""
    rng, (height, width) = np.random.default_rng(seed), size_hw
    found = []
    for n in range(count):
        if n % 4 == 3:
            found.append(Detections.of())
            continue
        low = rng.uniform(0, 0.6, (3, 2)) * (width, height)
        high = low + rng.uniform(0.002, 0.4, (3, 2)) * (width, height)
        corners = np.concatenate([np.concatenate([low, high], 1), [[0, 0, width, height]]])
        scores = rng.uniform(0.5, 1, 4)
        crowd = np.arange(4) == n % 8
        found.append(Detections.of(corners, rng.integers(0, 3, 4), scores=scores, is_crowd=crowd))
    return found


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Images of awkward names, and a store of boxes on them."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "200")
    uris = [str(tmp_path / "photos" / name) for name in NAMES]
    for uri in uris:
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
        with Path(uri).open("wb") as file:
            Image.new("RGB", SIZE_HW[::-1], (9, 90, 200)).save(file, "PNG")
    rows = rows_of(uris, some_boxes(len(uris)))
    write_store(tmp_path / "pseudo", rows, failed=(7, 8))
    return tmp_path, rows


def export(root, form, *flags, out="out", pseudo="pseudo"):
    words = ["export", "--pseudo", str(root / pseudo), "--format", form, "--out", out, *flags]
    assert main(words) == 0
    assert not ray.is_initialized()
    left = {path.name for path in Path(out).iterdir()} - {"recipe.yaml", ".lock"}
    assert not [name for name in left if name.endswith(".part")]
    return json.loads(Path(out, "summary.json").read_text()), left - {"summary.json"}


def by_id(out="out"):
    with Path(out, "by_id.csv").open(newline="", encoding="utf-8") as file:
        return {int(row["image_id"]): (row["name"], row["uri"]) for row in csv.DictReader(file)}


def test_coco_is_read_by_pycocotools_and_by_our_own_source(world, capsys):
    root, rows = world
    summary, left = export(root, "coco")
    assert left == {"instances.json", "by_id.csv"}
    counts = {"images": 11, "boxes": 30, "crowd_regions": 6, "empty": 2}
    assert summary["exported"] == {**counts, "named_by_id": 1, "failures": 2}
    line = "export     11 images, 30 boxes, 2 empty, 1 named by their ids; 2 failures left out\n"
    assert line in capsys.readouterr().out
    assert summary["labels"]["teacher_sha256"] == SHA
    document = json.loads(Path("out/instances.json").read_text("utf-8"))
    assert document["categories"] == [{"id": i + 1, "name": n} for i, n in enumerate(CLASSES)]
    ids = [one["id"] for one in document["annotations"]]
    assert ids == [*range(1, 37)]
    assert {one["iscrowd"] for one in document["annotations"]} == {0, 1}
    expected = {image: f"{name}" for image, name in zip(range(100, 111), NAMES, strict=True)}
    expected[110] = "by_id/110.jpg"
    assert {one["id"]: one["file_name"] for one in document["images"]} == expected
    assert by_id() == {110: ("by_id/110.jpg", rows["uri"][10].as_py())}

    truth = COCO("out/instances.json")
    assert truth.getImgIds() == [*range(100, 111)]
    results = [{**one} for one in document["annotations"] if not one["iscrowd"]]
    judge = COCOeval(truth, truth.loadRes(results), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == 1

    read = open_labeled("coco:out/instances.json", images=str(root / "photos"))
    assert read.classes == tuple(CLASSES)
    assert read.rows["uri"].to_pylist()[:10] == rows["uri"].to_pylist()[:10]
    for mine, theirs in zip(unpack(rows), unpack(read.rows), strict=True):
        assert np.allclose(mine.boxes_xyxy, theirs.boxes_xyxy, atol=2e-3)
        assert np.allclose(mine.areas_px, theirs.areas_px, atol=1e-3)
        assert mine.class_ids.tolist() == theirs.class_ids.tolist()
        assert mine.is_crowd.tolist() == theirs.is_crowd.tolist()
    assert read.findings == {}
    scores = np.concatenate([one.scores for one in unpack(rows)])
    printed = [one["score"] for one in document["annotations"]]
    assert np.allclose(printed, np.float16(scores), atol=1e-6)


def label_path(line, listing):
    """Where Ultralytics looks for an image, and for its label, by its own two rules."""
    assert line.startswith("./")
    image = line.replace("./", f"{listing.parent}/")
    head, tail = image.rsplit("/images/", 1)
    return Path(image), Path(f"{head}/labels/{tail}".rsplit(".", 1)[0] + ".txt")


def test_yolo_is_found_and_read_by_the_rules_of_its_trainer(world, capsys):
    root, rows = world
    summary, left = export(root, "yolo")
    assert left == {"data.yaml", "images.txt", "images", "labels", "by_id.csv"}
    assert summary["warnings"] == [
        "6 regions that are neither label nor background have no form in yolo and count as "
        "background there"
    ]
    assert "warning    6 regions" in capsys.readouterr().out
    about = yaml.safe_load(Path("out/data.yaml").read_text("utf-8"))
    assert about == {
        "path": str(Path("out").absolute()),
        "train": "images.txt",
        "names": dict(enumerate(CLASSES)),
    }
    listing = Path(about["path"], about["train"])
    lines = listing.read_text("utf-8").strip().splitlines()
    found = [label_path(line, listing) for line in lines]
    assert len({label for _, label in found}) == len(NAMES)
    assert {label for _, label in found} == {*Path("out/labels").absolute().rglob("*.txt")}
    for (image, label), uri, one in zip(found, rows["uri"].to_pylist(), unpack(rows), strict=True):
        assert image.resolve() == Path(uri)
        values = np.array([line.split() for line in label.read_text().splitlines()], float)
        values = values.reshape(-1, 5)
        assert ((values[:, 1:] >= 0) & (values[:, 1:] <= 1)).all()
        objects = one[~one.is_crowd]
        assert values[:, 0].tolist() == objects.class_ids.tolist()
        centre, sides = values[:, 1:3] * (40, 30), values[:, 3:] * (40, 30)
        corners = np.concatenate([centre - sides / 2, centre + sides / 2], axis=1)
        assert np.allclose(corners, objects.boxes_xyxy, atol=1e-5)
    # A second file of one stem, a folder `images`, a folder that ends in a dot, a line end.
    assert {*by_id()} == {106, 107, 108, 110}
    assert lines[:2] == ["./images/plain.jpg", "./images/with a space.png"]


def test_voc_boxes_are_whole_pixels_counted_from_one(world):
    root, rows = world
    _, left = export(root, "voc")
    assert left == {"Annotations", "ImageSets", "JPEGImages", "labels.txt", "by_id.csv"}
    assert Path("out/labels.txt").read_text("utf-8").splitlines() == CLASSES
    names = Path("out/ImageSets/Main/pseudo.txt").read_text("utf-8").splitlines()
    assert len(names) == len({*names}) == len(NAMES)
    assert names[:6] == [
        "plain",
        "with a space",
        "a&b <c> 'd' \"e\"",
        "zażółć 写真",
        "one/1",
        "two/1",
    ]
    assert {*by_id()} == {106, 109, 110}
    for name, uri, one in zip(names, rows["uri"].to_pylist(), unpack(rows), strict=True):
        tree = ET.parse(f"out/Annotations/{name}.xml").getroot()
        filename = tree.findtext("filename")
        assert filename.rpartition(".")[0] == name
        assert (Path("out") / tree.findtext("folder") / filename).resolve() == Path(uri)
        assert [tree.findtext(f"size/{side}") for side in ("width", "height")] == ["40", "30"]
        objects = tree.findall("object")
        assert [o.findtext("name") for o in objects] == [CLASSES[i] for i in one.class_ids]
        assert [o.findtext("difficult") == "1" for o in objects] == one.is_crowd.tolist()
        sides = ("xmin", "ymin", "xmax", "ymax")
        pixels = [[int(o.findtext(f"bndbox/{side}")) for side in sides] for o in objects]
        pixels = np.array(pixels, float).reshape(-1, 4)
        assert (pixels >= 1).all()
        assert (pixels <= (40, 30, 40, 30)).all()
        assert (pixels[:, 2:] >= pixels[:, :2]).all()
        edges = pixels - (1, 1, 0, 0)
        least = np.maximum(one.boxes_xyxy[:, 2:] - one.boxes_xyxy[:, :2], 1) > 1
        far = np.abs(edges - one.boxes_xyxy) <= 0.5 + 1e-6
        assert far[least.all(axis=1)].all()
        assert (np.abs(edges - one.boxes_xyxy) < 1).all()


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ([0, 0, 40, 30], [1, 1, 40, 30]),
        ([10.4, 10.6, 20.4, 20.6], [11, 12, 20, 21]),
        ([3.6, 2.2, 3.9, 2.4], [4, 3, 4, 3]),
        ([39.7, 29.9, 40, 30], [40, 30, 40, 30]),
        ([0, 0, 0.1, 0.1], [1, 1, 1, 1]),
        ([0, 0, 0, 0], [1, 1, 1, 1]),
    ],
)
def test_pixels_of_a_box(box, pixels):
    assert _pixels(np.array([box], np.float64)).tolist() == [pixels]


def test_the_palette_is_that_of_voc():
    colours = np.frombuffer(_palette(), np.uint8).reshape(256, 3).tolist()
    assert colours[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colours[20] == [0, 64, 128]  # tvmonitor
    assert colours[255] == [224, 224, 192]  # void
    assert len({tuple(colour) for colour in colours}) == 256


def test_class_maps_are_read_back_by_our_own_source(world):
    root, rows = world
    rng = np.random.default_rng(1)
    maps = [rng.choice([0, 1, 2, 255], SIZE_HW).astype(np.uint8) for _ in NAMES]
    maps[2][:] = 255
    labels = [
        SegmentationMap(class_map=one, confidence=np.full(SIZE_HW, 255, np.uint8)) for one in maps
    ]
    labels[5], maps[5] = SegmentationMap.unknown(), np.full(SIZE_HW, 255, np.uint8)
    write_store(root / "maps", rows_of(rows["uri"].to_pylist(), labels))
    summary, left = export(root, "voc", pseudo="maps")
    assert left == {"SegmentationClass", "ImageSets", "JPEGImages", "classes.json", "by_id.csv"}
    assert summary["exported"] == {"images": 11, "empty": 2, "named_by_id": 3, "failures": 0}
    read = open_labeled("masks:out/ImageSets/Segmentation/pseudo.txt")
    assert read.classes == tuple(CLASSES)
    assert read.findings == {}
    for one, expected in zip(unpack(read.rows), maps, strict=True):
        assert np.array_equal(one.class_map, expected)
    with Image.open("out/SegmentationClass/one/1.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[3:6] == [128, 0, 0]


def test_a_policy_chooses_and_what_it_chose_is_taken_as_it_is(world, capsys):
    root, rows = world
    flags = ["--policy.score-threshold", "0.75", "--policy.ignore-from", "0.6"]
    first, _ = export(root, "coco", *flags, out="first")
    assert main(["policy", "--pseudo", str(root / "pseudo"), "--out", "chosen", *flags]) == 0
    second, _ = export(Path.cwd(), "coco", out="second", pseudo="chosen")
    documents = [Path(out, "instances.json").read_text() for out in ("first", "second")]
    assert documents[0] == documents[1]
    scores = np.concatenate([one.scores[~one.is_crowd] for one in unpack(rows)])
    crowds = sum(int(one.is_crowd.sum()) for one in unpack(rows))
    found = first["exported"]
    assert 0 < found["boxes"] == (scores >= 0.75).sum()
    assert found["crowd_regions"] >= ((scores < 0.75) & (scores >= 0.6)).sum() > 0
    assert found["crowd_regions"] <= ((scores < 0.75) & (scores >= 0.6)).sum() + crowds
    assert first["exported"] == second["exported"]
    assert first["labels"]["policy"] == second["labels"]["policy"]
    words = ["export", "--pseudo", "chosen", "--format", "coco", "--policy.score-threshold", "0.1"]
    assert refused(capsys, words, root).startswith("pseudo: chosen holds what another policy chose")
    words = ["export", "--pseudo", "first", "--format", "coco"]
    assert refused(capsys, words, root).startswith("pseudo: first holds no finished labelling")


def test_the_same_again_prints_the_summary_and_another_recipe_is_refused(world, capsys):
    root, _ = world
    words = ["export", "--pseudo", str(root / "pseudo"), "--format", "yolo", "--out", "out"]
    recipe = yaml.safe_load(dry(capsys, words, root))
    assert recipe["format"] == "yolo"
    assert main(words) == 0
    printed = capsys.readouterr().out
    stamp = Path("out/images.txt").stat().st_mtime_ns
    assert main(words) == 0
    assert capsys.readouterr().out == printed
    assert Path("out/images.txt").stat().st_mtime_ns == stamp
    words[4] = "voc"
    assert refused(capsys, words, root).startswith("out: out holds another run")


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_what_broke_off_is_written_anew(world, form):
    root, _ = world
    export(root, form)

    def stands():
        found = {p: p.read_bytes() for p in Path("out").rglob("*") if p.is_file()}
        del found[Path("out/summary.json")]
        return found

    whole = stands()
    Path("out/summary.json").unlink()
    file = next(path for path in whole if path.suffix in (".json", ".txt", ".xml"))
    file.rename(f"{file}.part")
    (
        Path("out") / {"coco": "instances.json", "yolo": "labels/x.txt", "voc": "labels.txt"}[form]
    ).write_text("half")
    export(root, form)
    assert stands() == whole


def test_images_root_names_images_and_holds_all_of_them(world, capsys):
    root, _ = world
    words = ["export", "--pseudo", str(root / "pseudo"), "--format", "coco"]
    below = str(root / "photos" / "one")
    line = refused(capsys, [*words, "--images-root", below], root)
    assert line == (
        f"images_root: every image must lie below {below}, got {root}/photos/plain.jpg; pass "
        "--images-root with a folder above all of them, or leave it out"
    )
    export(root, "coco", "--images-root", str(root))
    document = json.loads(Path("out/instances.json").read_text())
    assert document["images"][0]["file_name"] == "photos/plain.jpg"


@pytest.mark.parametrize(
    ("uris", "prefix"),
    [
        (["/a/b/x1.jpg", "/a/b/x2.jpg"], "/a/b/"),
        (["/a/b/1.jpg"], "/a/b/"),
        (["/a/1.jpg", "/b/1.jpg"], "/"),
        (["/ab/1.jpg", "/abc/1.jpg"], "/"),
        (["s3://b/x/1.jpg", "s3://b/y/1.jpg"], "s3://b/"),
        (["s3://b/x/1.jpg?region=eu-west-1"], "s3://b/x/"),
        (["s3://b1/x/1.jpg", "s3://b2/x/1.jpg"], ""),
        (["s3://b/x/1.jpg", "/a/1.jpg"], ""),
        (["/a/é/1.jpg", "/a/z/1.jpg", "/a/\U0001f600/1.jpg"], "/a/"),
        ([slice_uri(0, 9, "/other/t.tar"), "/a/1.jpg"], "/a/"),
        ([slice_uri(0, 9, "/other/t.tar")], ""),
        ([], ""),
    ],
)
def test_the_deepest_folder_of_all(uris, prefix):
    for cut in range(len(uris) + 1):  # wherever the parts of a store end
        chunks = [
            pa.chunked_array([pa.array(each, pa.string())]) for each in (uris[:cut], uris[cut:])
        ]
        assert common_prefix(chunks, None) == prefix


@pytest.mark.parametrize(
    ("prefix", "uri", "name"),
    [
        ("/a/", "/a/b c/1.jpg", "b c/1.jpg"),
        ("", "/a/1.jpg", "a/1.jpg"),
        ("", "s3://bucket/x/1.jpg?region=eu-west-1", "bucket/x/1.jpg"),
        ("s3://bucket/", "s3://bucket/x/1.jpg", "x/1.jpg"),
        ("s3://bucket/", "s3://bucket/x/../../1.PNG", "by_id/5.PNG"),
        ("s3://bucket/", "s3://bucket/x//1.jpg", "by_id/5.jpg"),
        ("s3://bucket/", f"s3://bucket/{'x' * 300}.jpg", "by_id/5.jpg"),
        ("/a/", "/a/ 1.jpg", "by_id/5.jpg"),
        ("/a/", "/a/x\x85.webp", "by_id/5.webp"),
        ("/a/", slice_uri(0, 9, "/a/t.tar"), "by_id/5.jpg"),
        ("/a/", cell_uri(0, 1, "image.bytes", "s3://b/t.parquet"), "by_id/5.jpg"),
    ],
)
def test_a_name(tmp_path, prefix, uri, name):
    with naming(prefix, tmp_path) as names:
        assert (names.path(uri) or names.by_id(5, uri)) == name
    listed = by_id(tmp_path) if (tmp_path / "by_id.csv").is_file() else {}
    assert listed == ({5: (name, uri)} if name.startswith("by_id/") else {})


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_parts_of_files_and_buckets_are_named_but_not_linked(world, form):
    root, _ = world
    uris = [slice_uri(0, 9, "/t.tar"), slice_uri(9, 9, "/t.tar"), "s3://b/x/1.jpg", "s3://b/2.jpg"]
    write_store(root / "far", rows_of(uris, some_boxes(4), ids=[1, 2, 3, 2**53 + 1]))
    summary, _ = export(root, form, pseudo="far")
    assert summary["exported"]["images"] == 4
    assert summary["images_root"] == "s3://b/"
    assert by_id() == {1: ("by_id/1.jpg", uris[0]), 2: ("by_id/2.jpg", uris[1])}
    if form == "coco":
        images = json.loads(Path("out/instances.json").read_text())["images"]
        assert [one["id"] for one in images] == [1, 2, 3, 2**53 + 1]
    else:
        assert not Path("out", {"yolo": "images", "voc": "JPEGImages"}[form]).exists()


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_a_store_of_one_empty_image(world, form):
    root, rows = world
    write_store(root / "none", rows_of(rows["uri"].to_pylist()[:1], [Detections.of()]))
    summary, _ = export(root, form, pseudo="none")
    exported = {"images": 1, "boxes": 0, "crowd_regions": 0, "empty": 1}
    assert summary["exported"] == {**exported, "named_by_id": 0, "failures": 0}
    if form == "coco":
        document = json.loads(Path("out/instances.json").read_text())
        assert document["annotations"] == []
        assert len(document["images"]) == 1
    elif form == "yolo":
        assert Path("out/labels/plain.txt").read_bytes() == b""
    else:
        assert ET.parse("out/Annotations/plain.xml").getroot().findall("object") == []


def test_an_image_that_stands_twice_is_refused(world, capsys):
    root, rows = world
    uris = rows["uri"].to_pylist()[:1] * 3
    write_store(root / "thrice", rows_of(uris, [Detections.of()] * 3, ids=[1, 1, 1]))
    words = ["export", "--pseudo", str(root / "thrice"), "--format", "yolo", "--out", "out"]
    assert main(words) == 2
    assert "pseudo: image 1 stands twice; `ray-st verify`" in capsys.readouterr().err
    assert not Path("out/summary.json").exists()


@pytest.mark.parametrize(
    ("label", "form", "said"),
    [
        (SegmentationMap(class_map=np.zeros(SIZE_HW, np.uint8)), "coco", "class maps have no form"),
        (SegmentationMap(class_map=np.zeros(SIZE_HW, np.uint8)), "yolo", "pass --format voc"),
        *((ClassLabel.of([1], [0.9]), form, "labels.parquet") for form in ("coco", "yolo", "voc")),
    ],
)
def test_labels_without_a_form_are_refused(world, capsys, label, form, said):
    root, rows = world
    write_store(root / "other", rows_of(rows["uri"].to_pylist()[:1], [label]))
    line = refused(capsys, ["export", "--pseudo", str(root / "other"), "--format", form], root)
    assert line.startswith("format: ")
    assert said in line


def test_class_names_of_two_lines_are_no_voc(world, capsys):
    root, rows = world
    classes = ["a", "b\nc", "d"]
    write_store(root / "odd", rows, classes=classes)
    words = ["export", "--pseudo", str(root / "odd"), "--format", "voc"]
    assert refused(capsys, words, root).startswith("format: voc holds class names of one line, got")
    export(root, "yolo", pseudo="odd")
    assert yaml.safe_load(Path("out/data.yaml").read_text())["names"] == dict(enumerate(classes))


MEASURED = """
import sys
from pathlib import Path
from ray_st.labeling.export import coco
from ray_st.labeling.export.names import common_prefix, naming
from ray_st.labeling.rows import OK
from ray_st.labeling.store import Store

def peak_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

for name in sys.argv[1:]:
    store, out = Store(name), Path(name, "out")
    prefix = common_prefix((part["uri"] for part in store.parts(OK, 2048, ["uri"])), None)
    with naming(prefix, out) as names:
        counts = coco.write(store.parts(OK, 2048), ["a"], names, out)
    assert not {"ray", "torch"} & {*sys.modules}
    print(counts["images"], counts["boxes"], peak_kb())
"""


def write_large(folder, shards, rows=10_000, boxes=4):
    """Many images of a few boxes."""
    low = np.random.default_rng(0).uniform(0, 200, (rows * boxes, 2))
    found = Detections.of(np.concatenate([low, low + 9], axis=1), np.zeros(rows * boxes))
    columns = found.apart(np.repeat(np.arange(rows), boxes), rows)
    sizes = [pa.array(np.full(rows, 300, np.int32))] * 2
    whole = [pa.array(np.ones(rows, np.int8)), *columns, pa.array([OK] * rows)]
    for number in range(shards):
        ids = pa.array(np.arange(rows) + number * 2**32)
        uris = pa.array([f"/pool/{number}/{i}.jpg" for i in range(rows)])
        none = [pa.nulls(rows, pa.string())] * 2
        table = pa.table([ids, uris, *sizes, *whole, *none], schema=store_row(Detections, SHA))
        shard = Store(str(folder)).shard(number)
        Path(shard.folder).mkdir(parents=True)
        pq.write_table(table, shard.file("a.parquet"))
        shard.publish()


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's account of memory"
)
def test_memory_does_not_grow_with_the_pool(tmp_path):
    """Twenty times the images; held at once they would be over a hundred megabytes of text."""
    write_large(tmp_path / "small", 1)
    write_large(tmp_path / "large", 20)
    words = [sys.executable, "-c", MEASURED, str(tmp_path / "small"), str(tmp_path / "large")]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(words, env=here, capture_output=True, text=True, check=True)
    small, large = ([int(word) for word in line.split()] for line in done.stdout.splitlines())
    assert (small[:2], large[:2]) == ([10_000, 40_000], [200_000, 800_000])
    assert (tmp_path / "large/out/instances.json").stat().st_size > 100e6
    assert large[2] - small[2] < 50_000


def test_a_part_without_rows(tmp_path):
    """As a file of failures alone gives."""
    from ray_st.labeling.export import coco, voc, yolo

    empty = label_row(Detections).empty_table()
    for number, write in enumerate((coco.write, yolo.write, voc.write_boxes)):
        out = tmp_path / str(number)
        with naming("/", out) as names:
            one = rows_of(["/1.jpg"], some_boxes(1))
            counts = write([empty, one, empty], CLASSES, names, out)
        assert (counts["images"], counts["boxes"]) == (1, 3)
    assert len(json.loads((tmp_path / "0" / "instances.json").read_text())["annotations"]) == 4
