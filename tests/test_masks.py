"""Class maps beside images: layouts, values, and the dirt of real sets."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.images import decode, fetch
from ray_st.data.labels import IGNORE, Origin, SegmentationMap
from ray_st.data.rows import IMAGE_ROW, label_row, unpack
from ray_st.data.sources import DataConfig, open_images, open_labeled
from ray_st.data.sources.mask_lists import VOC_CLASSES
from ray_st.selftraining.materials import open_human

pytestmark = pytest.mark.pure

HEIGHT, WIDTH = 6, 8
MAP = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3
CLASSES = {"classes": ["sky", "road", "car"], "ignore_index": 11}


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def grey(values):
    return png(Image.fromarray(np.asarray(values, np.uint8)))


def jpeg(size_hw=(HEIGHT, WIDTH), orientation=None):
    buffer, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", size_hw[::-1], (90, 120, 150)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def put(root, files):
    for name, content in files.items():
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = content.encode() if isinstance(content, str) else content
        path.write_bytes(content)


def one(root, *, image=None, labels=None, classes=CLASSES, **more):
    """A set of one image, `a`; `labels` are the bytes of its map."""
    files = {
        "train.txt": "a\n",
        "images/a.jpg": jpeg() if image is None else image,
        "labels/a.png": grey(MAP) if labels is None else labels,
        "classes.json": json.dumps(classes),
    }
    put(root, {**files, **more})
    return f"masks:{root / 'train.txt'}"


def opened(root, **files):
    """The map of a set of one image, and what was mended."""
    labeled = open_labeled(one(root, **files))
    (labels,) = unpack(labeled.rows)
    return labels.class_map, labeled.findings


def refused(uri, **options):
    with pytest.raises(UserError) as caught:
        open_labeled(uri, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


# Layouts


@pytest.mark.parametrize("folder", ["labels", "masks"])
def test_images_and_maps_beside_the_list(tmp_path, folder):
    names = ["b", "a", "c"]
    put(tmp_path, {f"images/{name}.jpg": jpeg() for name in [*names, "unlisted"]})
    put(tmp_path, {f"{folder}/{name}.png": grey((MAP + i) % 3) for i, name in enumerate(names)})
    put(tmp_path, {"train.txt": "b\na\nc", "classes.json": json.dumps(CLASSES)})
    labeled = open_labeled(f"masks:{tmp_path / 'train.txt'}")
    assert labeled.classes == ("sky", "road", "car")
    assert labeled.findings == {}
    assert labeled.rows.schema.equals(label_row(SegmentationMap), check_metadata=True)
    plain = labeled.rows.select(["image_id", "uri", "height_px", "width_px", "origin"])
    assert plain.to_pylist() == [
        {
            "image_id": i,
            "uri": str(tmp_path / f"images/{name}.jpg"),
            "height_px": HEIGHT,
            "width_px": WIDTH,
            "origin": int(Origin.HUMAN),
        }
        for i, name in enumerate(names)  # the list's order, not the folder's
    ]
    for i, labels in enumerate(unpack(labeled.rows)):
        np.testing.assert_array_equal(labels.class_map, (MAP + i) % 3)
        assert labels.confidence is None
    images = open_images(f"masks:{tmp_path / 'train.txt'}")
    assert images.equals(labeled.rows.select(IMAGE_ROW.names))


def test_pascal_voc_as_it_is_unpacked(tmp_path):
    root = tmp_path / "VOCdevkit/VOC2012"
    values = np.where(MAP == 2, 255, MAP * 20).astype(np.uint8)  # background, tvmonitor, rims
    palette = Image.fromarray(values)
    palette.putpalette([(i * 37) % 256 for i in range(768)])
    assert palette.mode == "P"
    files = {
        "ImageSets/Segmentation/train.txt": "2007_000032\r\n2007_000039\r\n",
        "ImageSets/Segmentation/val.txt": "2007_000039\n",
        **{f"JPEGImages/2007_0000{n}.jpg": jpeg() for n in (32, 39)},
        **{f"SegmentationClass/2007_0000{n}.png": png(palette) for n in (32, 39)},
        **{f"SegmentationObject/2007_0000{n}.png": grey(MAP) for n in (32, 39)},
    }
    put(root, files)
    labeled = open_labeled(f"masks:{root / 'ImageSets/Segmentation/train.txt'}")
    assert labeled.classes == VOC_CLASSES
    assert (len(VOC_CLASSES), VOC_CLASSES[20]) == (21, "tvmonitor")
    assert labeled.findings == {}
    for labels in unpack(labeled.rows):
        np.testing.assert_array_equal(labels.class_map, values)  # 255 is IGNORE itself
    val = open_labeled(f"masks:{root / 'ImageSets/Segmentation/val.txt'}")
    assert val.rows.column("uri").to_pylist() == [str(root / "JPEGImages/2007_000039.jpg")]


@pytest.mark.parametrize("place", ["", "lists/", "lists/deep/"])
@pytest.mark.parametrize("classes_at", ["", "lists/", "lists/deep/"])
def test_folders_and_classes_at_or_above_the_list(tmp_path, place, classes_at):
    put(tmp_path, {"images/a.jpg": jpeg(), "labels/a.png": grey(MAP), f"{place}train.txt": "a"})
    put(tmp_path, {f"{classes_at}classes.json": json.dumps(CLASSES)})
    uri = f"masks:{tmp_path / place / 'train.txt'}"
    if len(classes_at) > len(place):  # below the list
        assert "classes.json must stand beside or above it" in refused(uri)
    else:
        assert open_labeled(uri).classes == ("sky", "road", "car")


def test_the_nearest_classes_count(tmp_path):
    put(tmp_path, {"images/a.jpg": jpeg(), "labels/a.png": grey(MAP), "sub/train.txt": "a"})
    put(tmp_path, {"classes.json": json.dumps({"classes": ["x", "y", "z"]})})
    put(tmp_path, {"sub/classes.json": json.dumps(CLASSES)})
    assert open_labeled(f"masks:{tmp_path / 'sub/train.txt'}").classes == ("sky", "road", "car")


def test_images_elsewhere(tmp_path):
    elsewhere = tmp_path / "disk 2"
    put(tmp_path, {"set/train.txt": "a", "set/labels/a.png": grey(MAP)})
    put(tmp_path, {"set/classes.json": json.dumps(CLASSES), "disk 2/a.JPG": jpeg()})
    uri = f"masks:{tmp_path / 'set/train.txt'}"
    assert "must stand at or above the list" in refused(uri)
    labeled = open_labeled(uri, images=str(elsewhere))
    assert labeled.rows.column("uri").to_pylist() == [str(elsewhere / "a.JPG")]
    assert unpack(labeled.rows)[0].amount() == 1
    # Before the folder beside the list, too.
    put(tmp_path, {"set/images/a.jpg": jpeg((3, 4))})
    again = open_labeled(uri, images=str(elsewhere))
    assert again.rows.column("height_px").to_pylist() == [HEIGHT]


def test_names_with_folders_dots_spaces_and_signs(tmp_path):
    names = ["city/0 1", "a#1=b%20", "v1.2", "ä日", "city/0"]
    put(tmp_path, {f"images/{name}.jpeg": jpeg() for name in names})
    put(tmp_path, {f"labels/{name}.PNG": grey((MAP + i) % 3) for i, name in enumerate(names)})
    text = "\ufeff  \n" + "\r\n".join(f" {name}\t" for name in names) + "\r\n\r\n"
    put(tmp_path, {"train.txt": text, "classes.json": json.dumps(CLASSES)})
    labeled = open_labeled(f"masks:{tmp_path / 'train.txt'}")
    assert labeled.findings == {}
    for i, (uri, labels) in enumerate(
        zip(labeled.rows.column("uri").to_pylist(), unpack(labeled.rows), strict=True)
    ):
        assert uri == str(tmp_path / f"images/{names[i]}.jpeg")
        assert decode(fetch(uri)).shape == (HEIGHT, WIDTH, 3)
        np.testing.assert_array_equal(labels.class_map, (MAP + i) % 3)


def put_remote(files):
    for uri, content in files.items():
        filesystem, path = storage.locate(uri)
        filesystem.create_dir(path.rpartition("/")[0])
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)


@pytest.mark.parametrize(
    ("root", "lists"),
    [
        ("mock://shallow", "mock://shallow"),
        ("mock://deep/set", "mock://deep/set"),
        ("mock://deeper/set", "mock://deeper/set/ImageSets/Segmentation"),
        ("mock://between", "mock://between/lists"),
    ],
)
def test_a_list_in_a_bucket(root, lists):
    put_remote(
        {
            f"{lists}/train.txt": b"a b#\n",
            f"{root}/images/a b#.jpg": jpeg(),
            f"{root}/labels/a b#.png": grey(MAP),
            f"{root}/classes.json": json.dumps(CLASSES).encode(),
        }
    )
    labeled = open_labeled(f"masks:{lists}/train.txt")
    assert labeled.rows.column("uri").to_pylist() == [f"{root}/images/a b#.jpg"]
    np.testing.assert_array_equal(unpack(labeled.rows)[0].class_map, MAP)


def test_a_list_in_a_bucket_of_nothing_else():
    put_remote({"mock://bare/train.txt": b"a\n"})
    assert "must stand at or above the list" in refused("masks:mock://bare/train.txt")


# Values


def test_the_ignore_value_and_255_count_for_nothing(tmp_path):
    values = np.array([[0, 1, 2, 11], [255, 2, 1, 0]])
    class_map, findings = opened(tmp_path, image=jpeg((2, 4)), labels=grey(values))
    assert class_map.tolist() == [[0, 1, 2, IGNORE], [IGNORE, 2, 1, 0]]
    assert class_map.dtype == np.uint8
    assert findings == {}


def test_an_ignore_value_among_the_classes_hides_that_class(tmp_path):
    classes = {"classes": ["void", "road", "car"], "ignore_index": 0}
    class_map, findings = opened(
        tmp_path, image=jpeg((1, 3)), labels=grey([[0, 1, 2]]), classes=classes
    )
    assert class_map.tolist() == [[IGNORE, 1, 2]]
    assert findings == {}


@pytest.mark.parametrize("ignore", [-1, 255, 300, 70000])
def test_ignore_values_that_a_byte_does_not_hold(tmp_path, ignore):
    classes = {"classes": ["a", "b", "c"], "ignore_index": ignore}
    class_map, findings = opened(tmp_path, classes=classes)
    np.testing.assert_array_equal(class_map, MAP)
    assert findings == {}


def test_without_an_ignore_value_it_is_255(tmp_path):
    class_map, findings = opened(
        tmp_path, image=jpeg((1, 3)), labels=grey([[0, 1, 255]]), classes={"classes": ["a", "b"]}
    )
    assert class_map.tolist() == [[0, 1, IGNORE]]
    assert findings == {}


def test_values_past_the_classes_are_ignored_and_counted(tmp_path):
    class_map, findings = opened(tmp_path, image=jpeg((1, 4)), labels=grey([[0, 3, 200, 2]]))
    assert class_map.tolist() == [[0, IGNORE, IGNORE, 2]]
    assert findings == {"maps_with_values_past_the_classes": 1}


def test_sixteen_bits_are_read_whole(tmp_path):
    # 256 would be class 0 if its low byte alone were read, and 11 is the ignore value.
    values = np.array([[0, 1, 2, 11, 256, 257, 65535]], np.uint16)
    image = Image.fromarray(values)
    assert image.mode.startswith("I")
    class_map, findings = opened(tmp_path, image=jpeg((1, 7)), labels=png(image))
    assert class_map.tolist() == [[0, 1, 2, *[IGNORE] * 4]]
    assert findings == {"maps_with_values_past_the_classes": 1}


def test_one_bit_a_pixel_is_class_0_and_1(tmp_path):
    image = Image.fromarray(np.array([[False, True, True]]))
    assert image.mode == "1"
    class_map, findings = opened(tmp_path, image=jpeg((1, 3)), labels=png(image))
    assert class_map.tolist() == [[0, 1, 1]]
    assert findings == {}


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_gives_its_indices_at_any_depth(tmp_path, bits):
    values = MAP % min(3, 2**bits)
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette([i % 251 for i in range(3 * 2**bits)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=bits)
    assert buffer.getvalue()[24:26] == bytes([bits, 3])  # depth, palette
    class_map, findings = opened(tmp_path, labels=buffer.getvalue())
    np.testing.assert_array_equal(class_map, values)
    assert findings == {}


# Maps that are none


def cut(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("labels", "finding"),
    [
        (png(Image.new("RGB", (WIDTH, HEIGHT))), "maps_unreadable"),
        (png(Image.new("RGBA", (WIDTH, HEIGHT))), "maps_unreadable"),
        (png(Image.new("LA", (WIDTH, HEIGHT))), "maps_unreadable"),
        (cut(grey(np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH)))), "maps_unreadable"),
        (b"", "maps_unreadable"),
        (b"no image", "maps_unreadable"),
        (jpeg(), "maps_unreadable"),  # named .png: its values are no classes
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n", "maps_unreadable"),
        (grey(np.zeros((WIDTH, HEIGHT))), "maps_of_another_shape"),
        (grey(np.zeros((1, 1))), "maps_of_another_shape"),
    ],
)
def test_a_map_that_is_none_leaves_the_image_unlabelled(tmp_path, labels, finding):
    class_map, findings = opened(tmp_path, labels=labels)
    assert class_map.shape == (0, 0)
    assert findings == {finding: 1}


def test_a_missing_map_leaves_the_image_unlabelled(tmp_path):
    uri = one(tmp_path)
    put(tmp_path, {"train.txt": "a\nb", "images/b.jpg": jpeg()})
    labeled = open_labeled(uri)
    assert [labels.amount() for labels in unpack(labeled.rows)] == [1, 0]
    assert labeled.findings == {"maps_missing": 1}
    (tmp_path / "labels/a.png").unlink()
    labeled = open_labeled(uri)
    assert labeled.findings == {"maps_missing": 2}
    assert not SegmentationMap.any_in(labeled.rows)
    assert labeled.rows.column("height_px").to_pylist() == [HEIGHT] * 2


@pytest.mark.parametrize("field", ["train", "val"])
def test_a_set_of_which_no_pixel_counts_is_refused(tmp_path, field):
    good, blank = one(tmp_path / "good"), one(tmp_path / "blank", labels=grey(MAP * 0 + IGNORE))
    data = DataConfig(**{"train": good, "val": good, field: blank})
    with pytest.raises(UserError, match=rf"^data\.{field}: .*/train\.txt has no label; name a set"):
        open_human(data, SegmentationMap)


def test_a_map_of_another_size_and_the_same_shape_is_resized(tmp_path):
    labels = grey(np.kron(MAP, np.ones((2, 2))))  # each pixel four times
    class_map, findings = opened(tmp_path, labels=labels)
    np.testing.assert_array_equal(class_map, MAP)
    assert findings == {"maps_resized": 1}
    class_map, findings = opened(tmp_path, image=jpeg((HEIGHT * 3, WIDTH * 3)))
    np.testing.assert_array_equal(class_map, np.kron(MAP, np.ones((3, 3))))
    assert findings == {"maps_resized": 1}


@pytest.mark.parametrize(("width", "is_same"), [(99, True), (97, False), (101, True), (103, False)])
def test_shapes_are_the_same_within_two_percent(tmp_path, width, is_same):
    labels = grey(np.zeros((100, width)))
    class_map, findings = opened(tmp_path, image=jpeg((200, 200)), labels=labels)
    assert findings == {"maps_resized" if is_same else "maps_of_another_shape": 1}
    assert class_map.shape == ((200, 200) if is_same else (0, 0))


def test_one_map_may_be_mended_twice(tmp_path):
    _, findings = opened(tmp_path, labels=grey(np.full((HEIGHT * 2, WIDTH * 2), 99)))
    assert findings == {"maps_resized": 1, "maps_with_values_past_the_classes": 1}


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_map_follows_the_upright_image(tmp_path, orientation):
    turned = jpeg((WIDTH, HEIGHT), orientation)  # stored on its side, shown upright
    assert decode(turned).shape == (HEIGHT, WIDTH, 3)
    class_map, findings = opened(tmp_path, image=turned)
    np.testing.assert_array_equal(class_map, MAP)
    assert findings == {}
    # A map drawn on the stored pixels lies another way: which one, nobody can know.
    class_map, findings = opened(tmp_path, image=turned, labels=grey(MAP.T))
    assert class_map.shape == (0, 0)
    assert findings == {"maps_of_another_shape": 1}


@pytest.mark.parametrize("orientation", [0, 1, 3, 65535])
def test_other_orientations_keep_the_size(tmp_path, orientation):
    class_map, findings = opened(tmp_path, image=jpeg(orientation=orientation))
    np.testing.assert_array_equal(class_map, MAP)
    assert findings == {}


@pytest.mark.parametrize("image", [b"", b"no image"])
def test_an_image_that_cannot_be_read_keeps_its_map_and_fails_later(tmp_path, image):
    labeled = open_labeled(one(tmp_path, image=image))
    (labels,) = unpack(labeled.rows)
    np.testing.assert_array_equal(labels.class_map, MAP)
    assert labeled.rows.column("width_px").to_pylist() == [WIDTH]
    assert labeled.findings == {}


def test_neither_image_nor_map(tmp_path):
    labeled = open_labeled(one(tmp_path, image=b"", labels=b""))
    assert unpack(labeled.rows)[0].class_map.size == 0
    assert labeled.rows.column("height_px").to_pylist() == [0]
    assert labeled.findings == {"maps_unreadable": 1}


# What cannot be meant


@pytest.mark.parametrize("text", ["", "\n \r\n", "\ufeff"])
def test_an_empty_list(tmp_path, text):
    line = refused(one(tmp_path, **{"train.txt": text}))
    assert line.endswith("train.txt: must name images, one a line, got none; check the path")


def test_a_list_that_is_not_there_or_no_text(tmp_path):
    assert "must be readable" in refused(f"masks:{tmp_path / 'none.txt'}")
    assert "must be readable" in refused(one(tmp_path, **{"train.txt": b"\xff\xfea\x00"}))


def test_a_name_that_stands_twice(tmp_path):
    line = refused(one(tmp_path, **{"train.txt": "b\na\n a \n"}))
    assert line.endswith("each name must stand once, got 'a' twice; remove one")


def test_an_image_that_is_not_there(tmp_path):
    uri = one(tmp_path, **{"train.txt": "a\nb\nc"})
    assert "got no 'b' (2 of 3 missing); correct the list" in refused(uri)
    line = refused(uri, images=str(tmp_path / "images"), images_field="data.images")
    assert line.endswith("correct the list or set data.images")


def test_names_may_have_the_suffix_of_an_image(tmp_path):
    more = {"images/b.c.jpg": jpeg(), "labels/b.c.png": grey(MAP), "images/.png.jpg": jpeg()}
    uri = one(tmp_path, **{"train.txt": "a.PNG\nb.c\n.png", **more})  # b.c: a name with a dot
    labeled = open_labeled(uri)
    names = [Path(uri).name for uri in labeled.rows.column("uri").to_pylist()]
    assert names == ["a.jpg", "b.c.jpg", ".png.jpg"]
    assert labeled.findings == {"maps_missing": 1}
    put(tmp_path, {"train.txt": "b.c.jpg\na.jpeg\na.jpg"})
    assert refused(uri).endswith("each name must stand once, got 'a' twice; remove one")
    put(tmp_path, {"train.txt": "d.jpg"})
    assert "under the names listed, got no 'd' (1 of 1 missing); correct the list" in refused(uri)


@pytest.mark.parametrize(
    ("again", "named"), [("images/a.png", "a.jpg and a.png"), ("labels/a.PNG", "a.PNG and a.png")]
)
def test_a_name_that_two_files_have(tmp_path, again, named):
    uri = one(tmp_path, **{again: grey(MAP), "images/b.jpg": jpeg(), "images/b.png": b""})
    assert named in refused(uri)  # b is not listed: its two files do not matter


def test_no_layout(tmp_path):
    put(tmp_path, {"train.txt": "a", "images/a.jpg": jpeg(), "annotations/a.png": grey(MAP)})
    line = refused(f"masks:{tmp_path / 'train.txt'}")
    for pair in ("images/ and labels/", "JPEGImages/ and SegmentationClass/", "images/ and masks/"):
        assert pair in line


@pytest.mark.parametrize(
    "document",
    [
        "",
        "no json",
        "[" * 100_000,
        '["sky"]',
        "null",
        "{}",
        '{"classes": "sky"}',
        '{"classes": []}',
        '{"classes": {"sky": 0}}',
        '{"classes": ["sky", "sky"]}',
        '{"classes": ["sky", 3]}',
        '{"classes": [["sky"]]}',
        '{"classes": ["sky"], "ignore_index": "11"}',
        '{"classes": ["sky"], "ignore_index": true}',
        '{"classes": ["sky"], "ignore_index": 1.5}',
        '{"classes": ["sky"], "ignore_index": null}',
        json.dumps({"classes": [str(i) for i in range(255)]}),
    ],
)
def test_classes_that_are_none(tmp_path, document):
    line = refused(one(tmp_path, **{"classes.json": document}))
    assert line.startswith(f"{tmp_path / 'classes.json'}: must ")
    assert line.endswith("; correct it")
    assert len(line) < 400


def test_as_many_classes_as_a_byte_can_tell_apart(tmp_path):
    classes = {"classes": [str(i) for i in range(254)]}
    class_map, findings = opened(
        tmp_path, image=jpeg((1, 3)), labels=grey([[0, 253, 254]]), classes=classes
    )
    assert class_map.tolist() == [[0, 253, IGNORE]]
    assert findings == {"maps_with_values_past_the_classes": 1}


# Real data


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101), ("test", 233)])
def test_camvid(shared_data, split, count):
    root = shared_data / "camvid"
    if not root.is_dir():
        pytest.skip(f"the CamVid set does not stand in {shared_data}")
    labeled = open_labeled(f"masks:{root / split}.txt")
    assert labeled.rows.num_rows == count
    assert len(labeled.classes) == 11
    assert labeled.findings == {}
    assert set(labeled.rows.column("height_px").to_pylist()) == {180}
    values = np.stack([labels.class_map for labels in unpack(labeled.rows)])
    assert values.shape == (count, 180, 240)
    assert set(np.unique(values)) == {*range(11), IGNORE}  # 11 in the files is not labelled
    assert 0.9 < (values != IGNORE).mean() < 1
    name = (root / f"{split}.txt").read_text().split()[7]
    stored = np.array(Image.open(root / "labels" / f"{name}.png"))
    np.testing.assert_array_equal(values[7], np.where(stored == 11, IGNORE, stored))
