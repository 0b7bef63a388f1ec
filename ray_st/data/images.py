"""From a URI to pixels of one size.

In: a URI or compressed bytes. Out: RGB uint8 pixels of shape (h, w, 3), and how they were `Placed`.
A bad image is an `ImageError`, which becomes a FAILURE_ROW.
Next: `augment/colour.py`.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ray_st.data import storage
from ray_st.data.placed import Placed, fitted_hw

MAX_PIXELS = 178_000_000  # just under where Pillow itself gives up
PAD_RGB = (124, 116, 104)  # ImageNet's mean colour, so that padding is 0 once normalised

# Named, because Pillow also opens formats that start other programs (EPS) or hold no pixels.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
Image.init()  # a format named before its plugin is loaded is a KeyError
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(Exception):
    """One image could not be read: at which stage ("fetch" or "decode"), and why, in one line."""

    def __init__(self, stage: str, reason: str) -> None:
        self.stage = stage
        self.reason = " ".join(reason.split())
        super().__init__(f"{stage}: {self.reason}")

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return type(self), (self.stage, self.reason)


def fetch(uri: str) -> bytes:
    """Read a whole file: a local path or any URI that pyarrow.fs knows. Raises ImageError."""
    try:
        if not storage.is_remote(uri):
            return Path(storage.absolute(uri)).read_bytes()
        filesystem, path = storage.locate(uri)
        # compression=None: pyarrow would otherwise guess one from the name.
        with filesystem.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())
    except (OSError, ValueError) as error:
        raise ImageError("fetch", f"{uri}: {error}") from error


def decode(image_bytes: bytes) -> np.ndarray:
    """Give RGB uint8 pixels (h, w, 3), upright by EXIF, whatever the file's mode was.

    Alpha is dropped, not blended. Raises ImageError for what is cut off, empty, too big, no image.
    """
    try:
        with _open(image_bytes) as image:
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
            rgb = _to_rgb(image)
            return np.array(rgb if turn is None else rgb.transpose(turn))
    except ImageError:
        raise
    except Exception as error:  # a decoder fed with arbitrary bytes raises arbitrary errors
        raise ImageError("decode", f"{type(error).__name__}: {error}") from error


def read_size_hw(uri: str) -> tuple[int, int]:
    """Read an image's upright height and width from its header. Raises ImageError."""
    image_bytes = fetch(uri)
    try:
        with _open(image_bytes) as image:
            turned = _orientation(image) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except ImageError:
        raise
    except Exception as error:  # as in decode
        raise ImageError("decode", f"{uri}: {type(error).__name__}: {error}") from error


def fit(pixels: np.ndarray, size_px: int) -> tuple[np.ndarray, Placed]:
    """Resize so that the long side is `size_px`, put top left, pad to a square with PAD_RGB."""
    size_hw = (pixels.shape[0], pixels.shape[1])
    return pad(resize(pixels, size_px), size_px), Placed.fitting(size_hw, size_px)


def resize(pixels: np.ndarray, size_px: int) -> np.ndarray:
    """Make the long side `size_px`: bilinear, aspect kept, no side below 1 px."""
    size_hw = (pixels.shape[0], pixels.shape[1])
    new_hw = fitted_hw(size_hw, size_px)
    if new_hw == size_hw:
        return pixels
    return np.array(Image.fromarray(pixels).resize(new_hw[::-1], Image.Resampling.BILINEAR))


def pad(pixels: np.ndarray, size_px: int) -> np.ndarray:
    """Fill up right and below with PAD_RGB to a square; `pixels` must not be larger than it."""
    frame = np.empty((size_px, size_px, 3), np.uint8)
    frame[:] = PAD_RGB
    frame[: pixels.shape[0], : pixels.shape[1]] = pixels
    return frame


def _open(image_bytes: bytes) -> Image.Image:
    if not image_bytes:
        raise ImageError("decode", "the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(image_bytes), formats=_FORMATS)
    except UnidentifiedImageError as error:  # its own words hold a memory address
        reason = f"not an image of a known format ({', '.join(_FORMATS)})"
        raise ImageError("decode", reason) from error
    if image.width * image.height > MAX_PIXELS:
        raise ImageError("decode", f"{image.width}x{image.height} is over {MAX_PIXELS} pixels")
    return image


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):
        return 1  # a broken EXIF block says nothing about the pixels
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip at 255
        high_bytes = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        return Image.fromarray(high_bytes.astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
