"""From a row to a view: fetch, decode, then place or augment; a bad image is marked, never raised.

In: IMAGE_ROWs or LABEL_ROWs. Out: a table of views: uint8 pixels of one size, the source's size,
labels in view pixels, and why an image has none. Pixels live in it for one hop. Next: `order.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, Int64, UInt8

from ray_st.data.augment import AugmentConfig, view
from ray_st.data.images import ImageError, Source, fetch, fit
from ray_st.data.labels import Labels, Origin
from ray_st.data.parts import MAX_BYTES
from ray_st.data.rows import kind_of, pack, unpack


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Views of one size; entry i of every field belongs to image i."""

    image_ids: Int64[np.ndarray, " n"]
    uris: tuple[str, ...]
    pixels: UInt8[np.ndarray, "n s s 3"]  # blank where the image could not be read
    sizes_hw: Int32[np.ndarray, "n 2"]  # of the source image, pixels
    labels: tuple[Labels, ...]  # in view pixels, of one kind; none at all in views to predict on
    stages: tuple[str | None, ...]  # where reading failed: fetch, decode; None: it did not
    reasons: tuple[str | None, ...]

    @property
    def is_valid(self) -> Bool[np.ndarray, " n"]:
        """Whether each image could be read."""
        return np.array([stage is None for stage in self.stages], bool)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, chosen: slice) -> Views:
        """Choose some images, in all fields at once."""
        return Views(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def rows(
        self, labels: Sequence[Labels], *, origin: Origin, kind: type[Labels] | None = None
    ) -> pa.Table:
        """LABEL_ROWs of these images with other labels; `kind` as in `pack`."""
        return pack(
            image_ids=self.image_ids.tolist(),
            uris=self.uris,
            sizes_hw=[(int(h), int(w)) for h, w in self.sizes_hw],
            labels=labels,
            origin=origin,
            kind=kind,
        )

    def to_table(self) -> pa.Table:
        """Arrow form, for the object store."""
        # Views know no origin: their stream does.
        table = self.rows(self.labels, origin=Origin.HUMAN)
        width = int(np.prod(self.pixels.shape[1:]))
        pixels = pa.FixedSizeListArray.from_arrays(pa.array(self.pixels.reshape(-1)), width)
        table = table.append_column("pixels", pixels)
        table = table.append_column("stage", pa.array(self.stages, pa.string()))
        return table.append_column("reason", pa.array(self.reasons, pa.string()))

    @classmethod
    def from_table(cls, table: pa.Table) -> Views:
        """Read the Arrow form back; pixels are not copied where they lie in one chunk."""
        pixels = table.column("pixels")
        # combine_chunks copies even a single chunk.
        pixels = pixels.chunk(0) if pixels.num_chunks == 1 else pixels.combine_chunks()
        side = int(np.sqrt(pixels.type.list_size // 3))
        sizes = [table.column(name).to_numpy() for name in ("height_px", "width_px")]
        return cls(
            image_ids=table.column("image_id").to_numpy(),
            uris=tuple(table.column("uri").to_pylist()),
            pixels=pixels.flatten().to_numpy().reshape(-1, side, side, 3),
            sizes_hw=np.stack(sizes, axis=1),
            labels=tuple(unpack(table)) if kind_of(table.schema) else (),
            stages=tuple(table.column("stage").to_pylist()),
            reasons=tuple(table.column("reason").to_pylist()),
        )


_Transform = Callable[[int, Source], np.ndarray]


def _read(rows: pa.Table, size_px: int, transform: _Transform) -> Views:
    """Fetch each row's image and let `transform(row, image)` make the view."""
    uris = rows.column("uri").to_pylist()
    pixels = np.zeros((len(uris), size_px, size_px, 3), np.uint8)
    sizes_hw = np.zeros((len(uris), 2), np.int32)
    errors: list[ImageError | None] = [None] * len(uris)
    for i, uri in enumerate(uris):
        try:
            source = Source(fetch(uri, MAX_BYTES))
            pixels[i] = transform(i, source)
        except ImageError as error:
            errors[i] = error
            continue
        sizes_hw[i] = source.size_hw
    return Views(
        image_ids=rows.column("image_id").to_numpy(),
        uris=tuple(uris),
        pixels=pixels,
        sizes_hw=sizes_hw,
        labels=(),
        stages=tuple(None if error is None else error.stage for error in errors),
        reasons=tuple(None if error is None else error.reason for error in errors),
    )


def fitted_views(rows: pa.Table, size_px: int) -> Views:
    """Views for prediction: the whole image, as large as it fits, without labels."""
    return _read(rows, size_px, lambda _, source: fit(source, size_px))


def augmented_views(
    rows: pa.Table, epochs: Sequence[int], size_px: int, config: AugmentConfig, seed: int
) -> Views:
    """Views for training: each is a pure function of (seed, image id, epoch)."""
    image_ids = rows.column("image_id").to_pylist()
    given: list[Labels] = unpack(rows)
    found = [one.unknown() for one in given]  # of images that turn out to be unreadable

    def transform(i: int, source: Source) -> np.ndarray:
        # SeedSequence takes no negative numbers; an image id may be one.
        rng = np.random.default_rng([seed, image_ids[i] % 2**64, int(epochs[i])])
        shown, found[i] = view(source, given[i], size_px, rng, config)
        return shown

    return replace(_read(rows, size_px, transform), labels=tuple(found))
