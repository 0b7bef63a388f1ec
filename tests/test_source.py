"""Images that are decoded when asked for, JPEGs smaller where that suffices; and resizing."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ray_st.data.images import ImageError, Source, decode, fit, read_size_hw, resize
from ray_st.data.placed import fitted_hw

pytestmark = pytest.mark.pure

SIZES_HW = [(1, 1), (1, 900), (900, 1), (7, 5), (37, 64), (333, 500), (480, 640), (641, 333)]
ORIENTATION = 0x0112


def encoded(image, kind="JPEG", orientation=None, **options):
    buffer = io.BytesIO()
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][ORIENTATION] = orientation
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def waves(height, width):
    """A picture without edges: what a smaller decoding shows is what is there."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [np.sin(x / 40), np.cos(y / 37), np.sin((x + y) / 50)]
    return Image.fromarray((128 + 100 * np.stack(planes, axis=2)).astype(np.uint8))


@pytest.mark.parametrize("size_hw", SIZES_HW)
@pytest.mark.parametrize("at_least_px", [1, 10, 64, 128, 333, 2000])
def test_a_jpeg_is_read_as_small_as_suffices(size_hw, at_least_px):
    source = Source(encoded(waves(*size_hw)))
    assert source.size_hw == size_hw
    image = source.read(at_least_px)
    assert source.size_hw == size_hw  # of the source, whatever was read
    assert image.mode == "RGB"
    found, wanted = (image.height, image.width), fitted_hw(size_hw, at_least_px)
    by = [n for n in (1, 2, 4, 8) if found == tuple(math.ceil(side / n) for side in size_hw)]
    assert by  # a whole fraction, rounded up
    if at_least_px < max(size_hw):
        assert max(found) >= at_least_px
        assert min(found) >= min(wanted)
        # The next smaller one would not do.
        smaller = [side / (2 * by[0]) for side in size_hw]
        assert by[-1] == 8 or any(s < w for s, w in zip(smaller, wanted, strict=True))
    else:
        assert found == size_hw


def test_it_is_decoded_once():
    source = Source(encoded(waves(480, 640)))
    first = source.read(100)
    for at_least_px in (None, 10, 640):
        np.testing.assert_array_equal(np.array(source.read(at_least_px)), np.array(first))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_other_files_are_read_whole(kind):
    source = Source(encoded(waves(90, 120), kind))
    assert source.size_hw == (90, 120)
    assert source.read(10).size == (120, 90)


def test_pixels_are_a_source_too():
    pixels = np.array(waves(90, 120))
    source = Source.of_pixels(pixels)
    assert source.size_hw == (90, 120)
    for at_least_px in (None, 10, 1000):
        np.testing.assert_array_equal(np.array(source.read(at_least_px)), pixels)


TRANSPOSITIONS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # by their numbers in Pillow


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "MPO"])
@pytest.mark.parametrize("orientation", [None, *range(9), 77])
def test_sizes_and_pixels_are_upright(tmp_path, orientation, kind):
    options = {"save_all": True, "append_images": [waves(9, 9)]} if kind == "MPO" else {}
    data = encoded(waves(120, 200), kind, orientation, **options)
    (tmp_path / "a").write_bytes(data)
    whole = Image.open(io.BytesIO(encoded(waves(120, 200), kind, **options)))
    if orientation in TRANSPOSITIONS:
        whole = whole.transpose(Image.Transpose(TRANSPOSITIONS[orientation]))
    source = Source(data)
    assert source.size_hw == (whole.height, whole.width) == read_size_hw(str(tmp_path / "a"))
    assert source.size_hw == ((200, 120) if orientation in (5, 6, 7, 8) else (120, 200))
    np.testing.assert_array_equal(np.array(source.read()), np.array(whole))
    small, is_jpeg = Source(data).read(100), kind in ("JPEG", "MPO")
    assert small.size == ((whole.width // 2, whole.height // 2) if is_jpeg else whole.size)
    expected = np.array(whole.resize(small.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.array(small) - expected).max() <= 8  # JPEG's own rounding is a few levels


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_small_decoding_shows_the_same_whatever_the_file(mode, options):
    data = encoded(waves(240, 320).convert(mode), **options)
    whole = Source(data).read()
    small = Source(data).read(80)
    assert (whole.size, small.size) == ((320, 240), (80, 60))
    expected = np.array(whole.resize(small.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.array(small) - expected).max() <= 8


@pytest.mark.parametrize("size_hw", [(333, 500), (480, 640), (1000, 30), (1, 900)])
def test_a_fitted_view_is_that_of_the_whole_image(size_hw):
    data = encoded(waves(*size_hw), quality=95)
    whole = fit(Source.of_pixels(decode(data)), 64).astype(int)
    assert np.abs(fit(Source(data), 64) - whole).max() <= 8


@pytest.mark.parametrize("cut", [0.0, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_is_cut_off_is_refused_when_opened_or_when_read(kind, cut):
    data = encoded(waves(120, 160), kind)
    for at_least_px in (None, 20):
        with pytest.raises(ImageError, match=r"^decode: ") as caught:
            Source(data[: int(cut * len(data))]).read(at_least_px)
        assert caught.value.stage == "decode"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_before_they_are_decoded():
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    data[18:26] = np.array([13_370, 13_370], "<i4").tobytes()  # width and height of its header
    with pytest.raises(ImageError, match="13370x13370 is over 178000000"):
        Source(bytes(data))


@settings(max_examples=40, deadline=None)
@given(
    old=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    new=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    seed=st.integers(0, 2**32),
)
def test_a_small_resize_is_torchs_within_one(old, new, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (*old, 3), np.uint8)
    found = resize(pixels, new).astype(int)
    channels = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    other = torch.nn.functional.interpolate(channels, new, mode="bilinear", antialias=True)
    assert found.shape == (*new, 3)
    assert np.abs(found - other[0].permute(1, 2, 0).numpy()).max() <= 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((300, 400), (299, 401)),
        ((480, 640), (96, 128)),
        ((200, 300), (512, 768)),
        ((1, 150_000), (1, 60_000)),
        ((420, 500), (1, 1)),
    ],
)
def test_a_large_resize_is_pillows_within_one(old, new):
    pixels = np.random.default_rng(0).integers(0, 256, (*old, 3), np.uint8)
    given = pixels.copy()
    found = resize(pixels, new)
    expected = np.array(Image.fromarray(pixels).resize(new[::-1], Image.Resampling.BILINEAR))
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.abs(found.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(pixels, given)
