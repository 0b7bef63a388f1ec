"""How large images are, and what that means for views of one size.

In: sizes, and the side of a view. Out: findings. Next: `objects.py`.
"""

from __future__ import annotations

import numpy as np

from ray_st.selftraining.checkup.files import wide
from ray_st.selftraining.checkup.finding import Finding, percent

_MUCH_ENLARGED = 2.0  # twice: three quarters of all pixels of a view are made up
_MUCH_PADDING = 0.5  # of a view


def image_sizes(where: str, sizes_hw: np.ndarray, size_px: int) -> list[Finding]:
    """Say how large images (n, 2) are, and how views of `size_px` show them at scale 1."""
    if not len(sizes_hw):
        return []
    long_px, short_px = sizes_hw.max(axis=1), sizes_hw.min(axis=1)
    scale = float(np.median(size_px / long_px))
    padding = float((1 - short_px / long_px).mean())
    smallest, middle, largest = (
        _size(sizes_hw[np.argsort(long_px, kind="stable")[place]])
        for place in (0, len(sizes_hw) // 2, -1)
    )
    is_one = (sizes_hw == sizes_hw[0]).all()
    said = f"all {middle}" if is_one else f"{smallest} to {largest}, in between {middle}"
    finding = Finding(
        severity="fine",
        where=where,
        what=f"images are {said}; a view of {size_px} px shows them {scale:.2f} times as large, "
        f"{percent(padding)} of it is padding",
        numbers={
            "long_side_px": [int(x) for x in np.quantile(long_px, (0, 0.5, 1))],
            "aspect": [round(float(x), 3) for x in np.quantile(long_px / short_px, (0, 0.5, 1))],
            "scale": scale,
            "padding_share": padding,
        },
    )
    return [finding, *_concerns(scale, padding, int(np.median(long_px)))]


def _concerns(scale: float, padding: float, long_px: int) -> list[Finding]:
    found = []
    if scale > _MUCH_ENLARGED:
        found.append(
            Finding(
                severity="warn",
                where="model.image_size_px",
                what=f"half of the images are shown {scale:.1f} times as large as they are",
                move=f"{long_px} would show as much, in steps of {1 / scale**2:.0%} of the work",
                numbers={"scale": scale},
            )
        )
    if padding > _MUCH_PADDING:
        found.append(
            Finding(
                severity="warn",
                where="model.image_size_px",
                what=f"{percent(padding)} of each view is padding, for the images are so narrow",
                move="cut them into squarer ones",
                numbers={"padding_share": padding},
            )
        )
    return found


def _size(size_hw: np.ndarray) -> str:
    return wide((int(size_hw[0]), int(size_hw[1])))
