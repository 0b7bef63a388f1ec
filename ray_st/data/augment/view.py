"""One random view of an image: the policy, then the frame, then SimCLR's colours.

In: an image that may not be decoded yet, and its labels in source pixels. Out: a square view and
its labels in view pixels. Next: `../sources/folder.py`.
"""

from __future__ import annotations

import numpy as np

from ray_st.data.augment.config import AugmentConfig
from ray_st.data.augment.framing import Framing
from ray_st.data.augment.jitter import greyed, jittered
from ray_st.data.augment.scene import Scene
from ray_st.data.images import Source, pad
from ray_st.data.labels import Labels


def view(
    source: Source,
    labels: Labels,
    size_px: int,
    rng: np.random.Generator,
    config: AugmentConfig,
) -> tuple[np.ndarray, Labels]:
    """Make one random view: pixels (size_px, size_px, 3) uint8, and what of the labels it shows.

    The same generator state gives the same view. Raises ImageError.
    """
    framing = Framing.draw(source.size_hw, size_px, rng, config)
    scene = Scene(
        image=source.read(framing.target_px),
        # Else a policy would give a box that never was in the image a place in it.
        labels=labels.within(source.size_hw),
        size_hw=source.size_hw,
        unit_px=config.unit_px(source.size_hw),
    )
    shown, seen = framing.frame(config.drawn(scene, rng))
    # Of what is seen, not of padding; and drawn last, so that they move no crop.
    if config.colour_jitter > 0:
        shown = jittered(shown, config.colour_jitter, rng)
    if config.grey_probability > 0:
        shown = greyed(shown, config.grey_probability, rng)
    return pad(shown, size_px), seen
