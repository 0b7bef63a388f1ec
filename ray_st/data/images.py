"""From a URI to pixels of one size.

In: a URI or compressed bytes. Out: RGB uint8 pixels of shape (h, w, 3), and how they were `Placed`.
A bad image is an `ImageError`, which becomes a FAILURE_ROW.
Next: `augment/scene.py`.
"""

from __future__ import annotations

import io
import math
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ray_st.data import storage
from ray_st.data.parts import MAX_BYTES, is_part, read_part
from ray_st.data.placed import fitted_hw

MAX_PIXELS = 178_000_000  # just under where Pillow itself gives up
PAD_RGB = (124, 116, 104)  # ImageNet's mean colour, so that padding is 0 once normalised

# Named, because Pillow also opens formats that start other programs (EPS) or hold no pixels.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
Image.init()  # a format named before its plugin is loaded is a KeyError
_DRAFTED = ("JPEG", "MPO")  # what a decoder can shrink, and so what is opened before it is decoded
_LARGE = 100_000  # pixels in and out, from which a resize is worth the import of torch
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
_LYING = [_UPRIGHT[tag] for tag in (5, 6, 7, 8)]  # these swap height and width


class ImageError(Exception):
    """One image could not be read: at which stage ("fetch" or "decode"), and why, in one line."""

    def __init__(self, stage: str, reason: str) -> None:
        self.stage = stage
        self.reason = " ".join(reason.split())
        super().__init__(f"{stage}: {self.reason}")

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return type(self), (self.stage, self.reason)


def fetch(uri: str, most_bytes: int | None = None) -> bytes:
    """Read a whole file, or a part of one (`parts.py`). Raises ImageError.

    A file is a local path or any URI that pyarrow.fs knows. One here of more than `most_bytes` is
    not read, nor is what is no file: a device, a pipe.
    """
    try:
        if is_part(uri):
            return read_part(uri)
        if not storage.is_remote(uri):
            return _file(Path(storage.absolute(uri)), most_bytes)
        filesystem, path = storage.locate(uri)
        # compression=None: pyarrow would otherwise guess one from the name.
        with filesystem.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())
    except (OSError, ValueError) as error:
        raise ImageError("fetch", f"{uri}: {error}") from error


def _file(path: Path, most_bytes: int | None) -> bytes:
    found = path.stat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):  # of a folder, open says
        raise ValueError("it is no file, but a device or a pipe")
    if most_bytes is not None and found.st_size > most_bytes:
        raise ValueError(f"it has {found.st_size} bytes, and an image may have {most_bytes}")
    return path.read_bytes()


class Source:
    """An image whose size is known; its pixels are decoded when they are asked for.

    Raises ImageError, here or there, for what is cut off, empty, too big, no image.
    """

    def __init__(self, image_bytes: bytes) -> None:
        with _blamed():
            self._image = _open(image_bytes)
            if self._image.format not in _DRAFTED:
                self._image.load()
            self._turn = _UPRIGHT.get(_orientation(self._image))
        width, height = self._image.size
        is_lying = self._turn in _LYING
        self.size_hw: tuple[int, int] = (width, height) if is_lying else (height, width)

    @classmethod
    def of_pixels(cls, pixels: np.ndarray) -> Source:
        """Take what is decoded already: RGB uint8 (h, w, 3)."""
        made = cls.__new__(cls)
        made._image, made._turn = Image.fromarray(pixels), None
        made.size_hw = (pixels.shape[0], pixels.shape[1])
        return made

    @property
    def kind(self) -> str:
        """Format and mode of the file, such as "JPEG RGB"."""
        return f"{self._image.format} {self._image.mode}"

    def read(self, at_least_px: int | None = None) -> Image.Image:
        """Decode as RGB, upright by EXIF, whatever the file's mode; alpha is dropped, not blended.

        A JPEG is decoded at a half, a quarter or an eighth of its size where its longer side then
        still has `at_least_px`: that takes less time than to shrink it afterwards. It is decoded
        once: asked again, this gives the same.
        """
        with _blamed():
            if at_least_px is not None:
                height, width = fitted_hw(self._image.size[::-1], at_least_px)
                self._image.draft(None, (width, height))
            self._image.load()
            rgb = _to_rgb(self._image)
            return rgb if self._turn is None else rgb.transpose(self._turn)


def decode(image_bytes: bytes) -> np.ndarray:
    """Give RGB uint8 pixels (h, w, 3), of full size; otherwise as `Source`."""
    return np.array(Source(image_bytes).read())


def read_size_hw(uri: str) -> tuple[int, int]:
    """Read an image's upright height and width, from its header where it can. Raises ImageError."""
    with _blamed(f"{uri}: "), _open(fetch(uri, MAX_BYTES)) as image:
        if image.format == "TIFF":
            image.load()  # Pillow turns these itself, some of its versions only now
        is_lying = _UPRIGHT.get(_orientation(image)) in _LYING
        return (image.width, image.height) if is_lying else (image.height, image.width)


def fit(source: Source, size_px: int) -> np.ndarray:
    """Resize so that the long side is `size_px`, put top left, pad to a square with PAD_RGB.

    `Placed.fitting` says the same of boxes.
    """
    pixels = np.asarray(source.read(size_px))
    return pad(resize(pixels, fitted_hw(source.size_hw, size_px)), size_px)


def resize(pixels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize to this height and width: bilinear, over all pixels where it shrinks."""
    old_hw = pixels.shape[:2]
    if old_hw == size_hw:
        return pixels
    if math.prod(old_hw) + math.prod(size_hw) < _LARGE:
        return np.asarray(Image.fromarray(pixels).resize(size_hw[::-1], Image.Resampling.BILINEAR))
    import torch  # the same within 1 of 255, in a third of the time: see docs/design.md

    channels = torch.utils.dlpack.from_dlpack(pixels)[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(channels, size_hw, mode="bilinear", antialias=True)
    return np.asarray(resized.permute(0, 2, 3, 1)[0].numpy())


def pad(pixels: np.ndarray, size_px: int) -> np.ndarray:
    """Fill up right and below with PAD_RGB to a square; `pixels` must not be larger than it."""
    frame = _padding(size_px).copy()
    frame[: pixels.shape[0], : pixels.shape[1]] = pixels
    return frame


@lru_cache(maxsize=8)
def _padding(size_px: int) -> np.ndarray:
    return np.full((size_px, size_px, 3), PAD_RGB, np.uint8)


@contextmanager
def _blamed(where: str = "") -> Iterator[None]:
    """Turn whatever a decoder raises on arbitrary bytes into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        raise ImageError("decode", f"{where}{type(error).__name__}: {error}") from error


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
        high_bytes = np.clip(np.asarray(image) >> 8, 0, 255)  # in their own type: 8 bytes are many
        return Image.fromarray(high_bytes.astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
