"""Work ahead in threads, results in order, few of them held.

In: a function and what to call it with, of any number. Out: its results, in the order of the calls.
Next: `patterns.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")


def ahead(function: Callable[[S], T], items: Iterable[S], threads: int) -> Iterator[T]:
    """Map in threads; at most 2 * threads results wait. Raises what the function raises."""
    waiting: deque[Future[T]] = deque()
    with workers(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing more once the block is left, by an error too."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
