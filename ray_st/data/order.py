"""Which image stands where: the one true order of a stream.

In: a position in an endless stream. Out: which image, and in which epoch. A pure function of the
seed, so that any worker, and any restart, finds the same answer. Next: `batches.py`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from ray_st.data.labels import Origin


def stream_seed(seed: int, origin: Origin) -> int:
    """Seed of the order and the views of a stream: human and pseudo images never share one."""
    return 2 * seed + int(origin)


@lru_cache(maxsize=4)  # a block of positions spans two epochs at most, unless the set is tiny
def _shuffled(num_images: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_images)


def images_at(
    positions: Int64[np.ndarray, " n"], *, num_images: int, seed: int
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Indices (0..num_images-1) and epochs at positions 0, 1, 2, ... of the stream.

    Every epoch is its own permutation: each image comes once before any comes again.
    """
    epochs, places = np.divmod(positions, num_images)
    indices = np.empty_like(positions)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        indices[chosen] = _shuffled(num_images, seed, int(epoch))[places[chosen]]
    return indices, epochs


def positions_of(
    *, first_step: int, num_steps: int, batch_size: int, worker: int, num_workers: int
) -> Int64[np.ndarray, "steps share"]:
    """Positions that one worker takes in each of some steps, `batch_size` being the global one.

    Step s holds positions s * batch_size and on; workers take equal neighbouring shares of it.
    """
    share = batch_size // num_workers
    steps = np.arange(first_step, first_step + num_steps, dtype=np.int64)
    return steps[:, None] * batch_size + worker * share + np.arange(share, dtype=np.int64)
