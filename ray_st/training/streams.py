"""The human and the pseudo stream: two Ray datasets a worker, paired in every step.

In joint training there is a third, of classified images.
In: the rows of each origin, and which steps are wanted. Out: `Batch`es in the one true order
of `data.order`. Next: `evaluate.py`.

Each worker executes datasets of just its own share of every step. So there is no barrier between
workers, no remainder, no restart at an epoch's end, and a resumed run starts at any step.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import starmap

from ray_st.data.augment import AugmentConfig
from ray_st.data.batches import Batch, of_views, paired, with_joint
from ray_st.data.feed import Share, TrainingBlocks, in_order
from ray_st.data.labels import Origin
from ray_st.data.order import Rows


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One origin's endless stream of training images."""

    rows: Rows
    origin: Origin
    batch_size: int  # images a step, over all workers
    size_px: int
    augment: AugmentConfig
    order_seed: int  # decides which images a step holds
    view_seed: int  # decides how each is shown
    loaders: int  # most loading tasks at once, a worker; 0: a thread of the worker
    reached: Callable[[int], None] | None = None  # told how many steps are done; never waits
    most_steps: int | None = None  # that are loaded at once

    def batches(
        self, first_step: int, last_step: int, share: Share
    ) -> Generator[Batch, None, None]:
        """One worker's part of the batches of the steps `first_step` to `last_step` - 1."""
        blocks = TrainingBlocks(
            rows=self.rows,
            batch_size=self.batch_size,
            size_px=self.size_px,
            augment=self.augment,
            order_seed=self.order_seed,
            view_seed=self.view_seed,
            share=share,
            first_step=first_step,
            last_step=last_step,
            most_steps=self.most_steps,
        )
        if self.reached is not None:
            self.reached(first_step)  # those of an earlier try
        own = share.of(self.batch_size)
        step = first_step
        with closing(in_order(blocks, batch_size=own, loaders=self.loaders)) as found:
            for views in found:
                yield of_views(views, self.origin)
                step += 1
                if self.reached is not None:
                    self.reached(step)


def paired_batches(
    human: Stream,
    pseudo: Stream | None,
    first_step: int,
    last_step: int,
    share: Share,
    joint: Stream | None = None,
) -> Generator[Batch, None, None]:
    """The batch of each step: the human half, and what there is of the others.

    Closing it ends the loading of all streams.
    """
    with ExitStack() as opened:

        def batches_of(stream: Stream) -> Iterator[Batch]:
            return opened.enter_context(closing(stream.batches(first_step, last_step, share)))

        batches = batches_of(human)
        for other, join in ((pseudo, paired), (joint, with_joint)):
            if other is not None:
                batches = starmap(join, zip(batches, batches_of(other), strict=True))
        yield from batches
