"""Rows in the object store become views, in order: by Ray Data tasks, or beside the caller.

In: the rows of a set, and which of them are wanted, block by block. Out: tables of views in exactly
that order. Next: `batches.py`.

What Ray sends to a task is imported there. So this file, and all that it names, stays clear of
torch: a loading process is up in a second and a half and not in three. (A large image is resized by
torch all the same: `images.py` imports it then.)
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import ray
import ray.data

from ray_st.data.augment import AugmentConfig
from ray_st.data.order import Rows, images_at, positions_of, share_of
from ray_st.data.views import Views, augmented_views, fitted_views

# Enough images that a task's own cost is small beside theirs, few enough to start soon.
BLOCK_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which of the workers this is."""

    worker: int  # from 0
    num_workers: int

    def of(self, batch_size: int) -> int:
        """How many images of a step are this worker's."""
        return share_of(batch_size, self.worker, self.num_workers)


@dataclass(frozen=True, kw_only=True)
class HeldRows:
    """`Rows` in the object store: read once, taken from by everybody."""

    table: Any  # reference to LABEL_ROWs
    num_rows: int

    @classmethod
    def of(cls, rows: pa.Table) -> HeldRows:
        """Put LABEL_ROWs there."""
        return cls(table=ray.put(rows.combine_chunks()), num_rows=rows.num_rows)

    def at(self, positions: np.ndarray, seed: int) -> tuple[pa.Table, np.ndarray]:
        """Every epoch is one permutation of all."""
        indices, epochs = images_at(positions, num_images=self.num_rows, seed=seed)
        return ray.get(self.table).take(pa.array(indices)), epochs


class Blocks(Protocol):
    """A sequence of blocks that any process can load by number."""

    def __len__(self) -> int:
        """How many blocks there are."""

    def __call__(self, block: int) -> Views:
        """Load one of them."""


@dataclass(frozen=True, kw_only=True)
class TrainingBlocks:
    """Augmented views of one worker's share of the steps `first_step` to `last_step` - 1."""

    rows: Rows
    batch_size: int  # images a step, over all workers
    size_px: int
    augment: AugmentConfig
    order_seed: int
    view_seed: int
    share: Share
    first_step: int
    last_step: int
    most_steps: int | None = None  # in a block

    @property
    def steps_per_block(self) -> int:
        """Whole steps, so that a batch never waits for two tasks."""
        steps = max(1, BLOCK_IMAGES * self.share.num_workers // self.batch_size)
        return steps if self.most_steps is None else min(steps, self.most_steps)

    def __len__(self) -> int:
        return -(-(self.last_step - self.first_step) // self.steps_per_block)

    def __call__(self, block: int) -> Views:
        """Load the images of a few steps."""
        first = self.first_step + block * self.steps_per_block
        positions = positions_of(
            first_step=first,
            num_steps=min(self.steps_per_block, self.last_step - first),
            batch_size=self.batch_size,
            worker=self.share.worker,
            num_workers=self.share.num_workers,
        ).ravel()
        rows, epochs = self.rows.at(positions, self.order_seed)
        return augmented_views(rows, epochs.tolist(), self.size_px, self.augment, self.view_seed)


@dataclass(frozen=True, kw_only=True)
class FittedBlocks:
    """Whole images for prediction, each once: one worker's share of a set."""

    rows: Any  # reference to LABEL_ROWs
    num_images: int
    size_px: int
    share: Share

    @property
    def _mine(self) -> np.ndarray:
        return np.arange(self.share.worker, self.num_images, self.share.num_workers)

    def __len__(self) -> int:
        return -(-len(self._mine) // BLOCK_IMAGES)

    def __call__(self, block: int) -> Views:
        """Load some images, in the order of the set."""
        chosen = self._mine[block * BLOCK_IMAGES : (block + 1) * BLOCK_IMAGES]
        return fitted_views(ray.get(self.rows).take(pa.array(chosen)), self.size_px)


def in_order(blocks: Blocks, *, batch_size: int, loaders: int) -> Generator[Views, None, None]:
    """Load blocks side by side, and give their views in order, `batch_size` at a time.

    Each caller executes a dataset of its own: workers never wait for each other here. Without
    loaders the caller's own process loads, and a batch ends where its block does. Who may stop
    before the last one closes it: what still loads ends then, and not when memory is tidied;
    without loaders the block that is being loaded is waited for.
    """
    if len(blocks) == 0:
        return
    if loaders == 0:
        yield from _in_thread(blocks, batch_size)
        return
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    with ray.data.DataContext.current(context):
        dataset = ray.data.range(len(blocks), override_num_blocks=len(blocks)).map_batches(
            lambda table: blocks(table.column("id")[0].as_py()).to_table(),
            batch_format="pyarrow",
            batch_size=None,
            compute=ray.data.TaskPoolStrategy(size=loaders),
        )
    batches = dataset.iter_batches(
        batch_size=batch_size, batch_format="pyarrow", prefetch_batches=2
    )
    with closing(iter(batches)) as tables:
        for table in tables:
            yield Views.from_table(table)


def _in_thread(blocks: Blocks, batch_size: int) -> Generator[Views, None, None]:
    """Load the next block while this one is used."""
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(blocks, 0)
        for block in range(len(blocks)):
            views = upcoming.result()
            if block + 1 < len(blocks):
                upcoming = thread.submit(blocks, block + 1)
            for first in range(0, len(views), batch_size):
                yield views[first : first + batch_size]
