"""Paired measurement: run two things in turn, look at the ratio of each pair.

In: two functions that measure once. Out: a printed table, and the median ratio.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

Measured = TypeVar("Measured")


def parse_pairs(about: str) -> int:
    """Read `--pairs` from the command line."""
    return int(pairs_parser(about).parse_args().pairs)


def pairs_parser(about: str) -> argparse.ArgumentParser:
    """A command line with `--pairs`, for others to be added."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--pairs", type=int, default=5, help="pairs to run (default 5)")
    return parser


def machine() -> str:
    """The shape of this machine, without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(tz=UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}"
    )


def in_turn(
    ours: Callable[[], Measured], theirs: Callable[[], Measured], pairs: int
) -> Iterator[tuple[Measured, Measured]]:
    """Measure both, the order swapped every time."""
    for i in range(pairs):
        if i % 2:
            other, own = theirs(), ours()
        else:
            own, other = ours(), theirs()
        yield own, other


def middle(values: Sequence[float], digits: int = 3) -> str:
    """The median and the spread, in words."""
    median, low, high = (
        f"{each:.{digits}f}" for each in (statistics.median(values), min(values), max(values))
    )
    return f"{median}, spread {low} to {high}"


def compare(what: str, ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> float:
    """Measure both in turn; higher is better.

    Prints every pair; returns the median of ours / theirs.
    """
    print(f"\n{what}\n{machine()}")
    ratios = []
    for own, other in in_turn(ours, theirs, pairs):
        ratios.append(own / other)
        print(
            f"  pair {len(ratios)}: ours {own:8.1f}  theirs {other:8.1f}  ratio {own / other:.3f}"
        )
    print(f"  median ratio {middle(ratios)}")
    return statistics.median(ratios)


def busy_s() -> float:
    """CPU seconds that the whole machine has worked: Ray's short-lived processes count too."""
    with Path("/proc/stat").open() as stat:
        user, nice, system = (int(word) for word in stat.readline().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")
