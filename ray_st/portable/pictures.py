"""What a file is checked on: views of noise, and of a user's images.

In: the side of a view, perhaps a folder of images. Out: views (n, side, side, 3). Next: `card.py`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ray_st.config import UserError
from ray_st.data.images import Source, fit
from ray_st.data.sources.folder import list_images
from ray_st.data.views import fitted_views

MOST_IMAGES = 32  # of a folder, the first by name


def noise_views(side_px: int) -> np.ndarray:
    """Fine noise; blobs; blobs of an image that leaves half of its view to the padding."""
    rng = np.random.default_rng(0)
    blob = max(1, side_px // 8)
    sizes_hw = ((side_px, side_px), (blob, blob), (blob, max(1, blob // 2)))
    images = (rng.integers(0, 256, (*size_hw, 3), np.uint8) for size_hw in sizes_hw)
    return np.stack([fit(Source.of_pixels(image), side_px) for image in images])


def image_rows(uri: str | None) -> pa.Table | None:
    """IMAGE_ROWs of the first images of a folder; None without one."""
    if uri is None:
        return None
    try:
        return list_images(uri).slice(0, MOST_IMAGES)
    except UserError as error:
        raise UserError(f"images: {error}") from error


def image_views(rows: pa.Table | None, side_px: int) -> np.ndarray:
    """Fitted views of those that can be read; refuses a folder in which none can."""
    if rows is None:
        return np.zeros((0, side_px, side_px, 3), np.uint8)
    views = fitted_views(rows, side_px)
    if not views.is_valid.any():
        raise UserError(
            f"images: none of the first {len(views)} can be read ({views.reasons[0]}); "
            "pass another folder, or leave it out"
        )
    pixels: np.ndarray = views.pixels[views.is_valid]
    return pixels
