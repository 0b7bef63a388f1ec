import io
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ray_st.data import storage
from ray_st.data.images import (
    PAD_RGB,
    ImageError,
    Source,
    decode,
    fetch,
    fit,
    read_size_hw,
)
from ray_st.data.placed import Placed

pytestmark = pytest.mark.pure


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), x * 0], 2).astype(
        np.uint8
    )


def test_error_survives_pickling_and_is_one_line():
    error = pickle.loads(pickle.dumps(ImageError("decode", "cut\n  off")))
    assert (error.stage, error.reason, str(error)) == ("decode", "cut off", "decode: cut off")


NAMES = [
    "a#1.jpg",
    "a=b.jpg",
    "two words.jpg",
    "100%.jpg",
    "a%20b.jpg",
    "Zürich 日本.JPG",
    "a?b=c.png",
]


@pytest.mark.parametrize("name", NAMES)
def test_fetch_reads_awkward_names_as_plain_paths(tmp_path, name):
    (tmp_path / name).write_bytes(name.encode())
    assert fetch(str(tmp_path / name)) == name.encode()


@pytest.mark.parametrize("name", NAMES)
def test_fetch_reads_file_uris(tmp_path, name):
    (tmp_path / name).write_bytes(name.encode())
    assert fetch((tmp_path / name).as_uri()) == name.encode()


def test_fetch_reads_a_remote_filesystem_by_literal_key():
    # Arrow's own in-memory filesystem, kept for the process as any remote one is.
    filesystem, folder = storage.locate("mock://bucket/fetch")
    filesystem.create_dir(folder)
    with filesystem.open_output_stream(f"{folder}/a #%20.jpg.gz", compression=None) as stream:
        stream.write(b"bytes")
    assert fetch("mock://bucket/fetch/a #%20.jpg.gz") == b"bytes"


@pytest.mark.parametrize("uri", ["no/such/file.jpg", "mock://bucket/none.jpg", "nope://a/b.jpg"])
def test_fetch_says_what_is_missing(uri):
    with pytest.raises(ImageError) as caught:
        fetch(uri)
    assert caught.value.stage == "fetch"
    assert uri in caught.value.reason


def test_options_of_a_remote_uri_stay_at_its_end():
    folder = "s3://bucket/train?region=eu-west-1"
    assert storage.join(folder, "a/b.jpg") == "s3://bucket/train/a/b.jpg?region=eu-west-1"
    assert storage.folder_of("s3://bucket/a/b.json?region=x") == "s3://bucket/a?region=x"
    assert storage.join("s3://bucket/a", "../c.jpg") == "s3://bucket/c.jpg"
    # Nothing lies above a bucket.
    assert (
        storage.join("s3://bucket", "..") == storage.join("s3://bucket/a", "../..") == "s3://bucket"
    )
    assert storage.join("s3://bucket/", "../c.jpg?x=1") == "s3://bucket/c.jpg?x=1"
    assert storage.join("hdfs:///a", "b.jpg") == "hdfs:///a/b.jpg"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(mode):
    kind = {"CMYK": "JPEG", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    image = Image.new("L", (7, 5), 255)
    image = Image.new(mode, (7, 5), 65535) if mode.startswith("I") else image.convert(mode)
    pixels = decode(encoded(image, kind))
    assert pixels.shape == (5, 7, 3)
    assert pixels.dtype == np.uint8
    assert pixels.min() >= 254


def test_sixteen_bits_keep_their_greys():
    values = np.array([[0, 256, 32768, 65535]], np.uint16)
    assert decode(encoded(Image.fromarray(values)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_camera_file_of_two_pictures_gives_the_first():
    first, second = Image.new("RGB", (6, 4), "white"), Image.new("RGB", (6, 4))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert decode(data).min() == 255


def test_colours_keep_their_places():
    pixels = gradient(4, 6)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize(
    ("orientation", "turns"), [(0, 0), (1, 0), (3, 2), (6, 3), (8, 1), (65537, 0)]
)
def test_exif_orientation_is_applied_and_a_broken_one_ignored(tmp_path, orientation, turns):
    pixels = gradient(8, 16)
    # By hand, as one 32-bit entry: Pillow itself writes no orientation of 65537.
    entries = struct.pack("<4sIHHHIII", b"II*\0", 8, 1, 0x0112, 4, 1, orientation, 0)
    data = encoded(Image.fromarray(pixels), exif=b"Exif\0\0" + entries)
    upright = np.rot90(pixels, turns)
    np.testing.assert_array_equal(decode(data), upright)
    (tmp_path / "a.png").write_bytes(data)
    assert read_size_hw(str(tmp_path / "a.png")) == upright.shape[:2]


def test_a_broken_exif_block_is_ignored():
    data = encoded(
        Image.fromarray(gradient(8, 16)), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff"
    )
    assert decode(data).shape == (8, 16, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (b"this is a text file named .jpg", "not an image"),
        (encoded(Image.fromarray(gradient(64, 64)), "JPEG")[:-20], "truncated"),
        (encoded(Image.fromarray(gradient(64, 64)))[:60], "truncated"),
        (b"P6 13400 13300 255\n", "178000000 pixels"),
        (b"P6 60000 60000 255\n", "bomb"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_bytes_are_an_image_error(data, words):
    with pytest.raises(ImageError, match=words) as caught:
        decode(data)
    assert caught.value.stage == "decode"
    assert "\n" not in caught.value.reason


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 900), at=st.integers(0, 899), value=st.integers(0, 255))
def test_damaged_jpegs_are_read_or_refused_but_never_crash(cut, at, value):
    data = bytearray(encoded(Image.fromarray(gradient(32, 32)), "JPEG"))
    data[at % len(data)] = value
    try:
        pixels = decode(bytes(data[: max(0, len(data) - cut)]))
    except ImageError:
        return  # any other error fails the test
    assert pixels.shape[2] == 3


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 900), (900, 1), (37, 64), (64, 64), (333, 500)])
def test_fit_keeps_aspect_top_left_and_pads(size_hw):
    pixels = fit(Source.of_pixels(np.full((*size_hw, 3), 7, np.uint8)), 64)
    placed = Placed.fitting(size_hw, 64)
    assert pixels.shape == (64, 64, 3)
    whole = placed.place(np.array([[0, 0, size_hw[1], size_hw[0]]], np.float32))[0]
    assert max(whole) == 64
    right, bottom = int(whole[2]), int(whole[3])
    assert (pixels[:bottom, :right] == 7).all()
    assert (pixels[bottom:] == PAD_RGB).all()
    assert (pixels[:, right:] == PAD_RGB).all()


def test_fit_by_hand():
    # 30 x 50 to 20: scale 0.4, so 12 x 20 and nothing is rounded.
    placed = Placed.fitting((30, 50), 20)
    assert placed == Placed(scale_xy=(0.4, 0.4), offset_xy=(0, 0), size_hw=(30, 50))
    assert placed.place(np.array([[5, 10, 50, 30]])).tolist() == [[2, 4, 20, 12]]
    assert placed.unplace(np.array([[-1, 4, 20, 20]])).tolist() == [[0, 10, 50, 30]]


SIDES = st.integers(1, 700)


@settings(max_examples=100, deadline=None)
@given(
    height=SIDES, width=SIDES, size_px=st.integers(1, 300), shares=st.tuples(*[st.floats(0, 1)] * 4)
)
def test_unplace_undoes_place(height, width, size_px, shares):
    x0, x1 = sorted(shares[:2])
    y0, y1 = sorted(shares[2:])
    boxes = np.array([[x0 * width, y0 * height, x1 * width, y1 * height]], np.float32)
    placed = Placed.fitting((height, width), size_px)
    moved = placed.place(boxes)
    assert moved.min() >= 0
    assert moved.max() <= size_px * (1 + 1e-6)
    np.testing.assert_allclose(placed.unplace(moved), boxes, atol=1e-3)


def test_no_boxes_pass_both_ways():
    placed = Placed.fitting((30, 50), 20)
    empty = np.zeros((0, 4), np.float32)
    assert placed.place(empty).shape == placed.unplace(empty).shape == (0, 4)
