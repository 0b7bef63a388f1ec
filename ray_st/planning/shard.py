"""Where the blocks of one shard are, while it is labelled.

In: images. Out: `Shard`. Next: `simulation.py`.
"""

from __future__ import annotations

from collections import deque


class Shard:
    """Each block is in one place at a time."""

    def __init__(self, images: int, block_images: int) -> None:
        self.images = images
        self.blocks = -(-images // block_images)
        self.block_images = block_images
        self.fresh = 0  # the first block that was never read
        self.again: list[int] = []  # to be read once more
        self.waiting: deque[tuple[int, int]] = deque()  # read, and the node it lies on
        self.labelled: deque[tuple[int, int]] = deque()  # and not yet being written
        self.reading = self.writing = self.whole = 0  # blocks
        self.written = bytearray(self.blocks)

    def size(self, block: int) -> int:
        """Images of a block: all alike, but the last."""
        if block < self.blocks - 1:
            return self.block_images
        return self.images - self.block_images * (self.blocks - 1)
