"""Which image stands where: the one true order of a stream.

In: a position in an endless stream. Out: which image, and in which epoch. A pure function of the
seed, so that any worker, and any restart, finds the same answer. Next: `batches.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from ray_st.data.labels import Origin

WINDOW_IMAGES = 65_536  # shuffled as one: some thousand batches, some hundred megabytes of labels


class Rows(Protocol):
    """LABEL_ROWs of a set, wherever they rest, in the one true order of a seed."""

    @property
    def num_rows(self) -> int:
        """How many images there are."""

    def at(self, positions: np.ndarray, seed: int) -> tuple[pa.Table, np.ndarray]:
        """The rows at some positions of the endless stream, and the epoch of each."""


def stream_seed(seed: int, origin: Origin) -> int:
    """Seed of the order and the views of a stream: human and pseudo images never share one."""
    return 2 * seed + int(origin)


@lru_cache(maxsize=4)  # a block of positions spans two epochs at most, unless the set is tiny
def _shuffled(num_images: int, seed: int, epoch: int, window: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, epoch, window]).permutation(num_images)


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


@dataclass(frozen=True, kw_only=True)
class Window:
    """Positions whose images lie in the same few files, which are read and shuffled together."""

    chosen: Int64[np.ndarray, " m"]  # places in the array of positions that was asked for
    epoch: int
    files: Int64[np.ndarray, " f"]  # which files
    indices: Int64[np.ndarray, " m"]  # of each image among those of the files, by image id


def windows_at(
    positions: Int64[np.ndarray, " n"],
    *,
    sizes: tuple[int, ...],
    seed: int,
    window_images: int = WINDOW_IMAGES,
) -> Iterator[Window]:
    """Where the images at some positions lie, for a set in files too many to be held at once.

    `sizes` are the images of each file. Every epoch shuffles the files, joins neighbours to windows
    of `window_images` or more, and shuffles the images of each: so each image comes once before
    any comes again, and nobody reads a file for one image of it. A set of one window has the order
    of `images_at`.
    """
    epochs, places = np.divmod(positions, sum(sizes))
    for epoch in np.unique(epochs).tolist():
        files, firsts, starts = _layout(sizes, seed, epoch, window_images)
        in_epoch = np.flatnonzero(epochs == epoch)
        numbers = np.searchsorted(starts, places[in_epoch], side="right") - 1
        for number in np.unique(numbers).tolist():
            chosen = in_epoch[numbers == number]
            size, offsets = int(starts[number + 1] - starts[number]), places[chosen]
            order = _shuffled(size, seed, epoch, number)
            yield Window(
                chosen=chosen,
                epoch=epoch,
                files=files[firsts[number] : firsts[number + 1]],
                indices=order[offsets - starts[number]],
            )


@lru_cache(maxsize=4)
def _layout(
    sizes: tuple[int, ...], seed: int, epoch: int, window_images: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Files in their order, the first file of each window, and its first place in the epoch.

    The last two have one entry more than there are windows.
    """
    # No window has this number: an order of files is none of images.
    files = np.random.default_rng([seed, epoch, 0, 1]).permutation(len(sizes))
    ends = np.cumsum(np.array(sizes, np.int64)[files])
    firsts, starts = [0], [0]
    while starts[-1] < ends[-1]:
        last = int(np.searchsorted(ends, min(starts[-1] + window_images, ends[-1])))
        firsts.append(last + 1)
        starts.append(int(ends[last]))
    return files, np.array(firsts), np.array(starts)


def positions_of(
    *, first_step: int, num_steps: int, batch_size: int, worker: int, num_workers: int
) -> Int64[np.ndarray, "steps share"]:
    """Positions that one worker takes in each of some steps, `batch_size` being the global one.

    Step s holds positions s * batch_size and on; workers take neighbouring shares of it, as equal
    as can be.
    """
    first, last = (part * batch_size // num_workers for part in (worker, worker + 1))
    steps = np.arange(first_step, first_step + num_steps, dtype=np.int64)
    return steps[:, None] * batch_size + np.arange(first, last, dtype=np.int64)


def share_of(batch_size: int, worker: int, num_workers: int) -> int:
    """How many of a step's images one worker takes."""
    return (worker + 1) * batch_size // num_workers - worker * batch_size // num_workers
