"""Paired measurement: run two things in turn, look at the ratio of each pair.

In: two functions that measure once. Out: a printed table, and the median ratio.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path


def parse_pairs(about: str) -> int:
    """Read `--pairs` from the command line."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--pairs", type=int, default=5, help="pairs to run (default 5)")
    return int(parser.parse_args().pairs)


def machine() -> str:
    """The shape of this machine, without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(tz=UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}"
    )


def compare(what: str, ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> float:
    """Measure both in turn, the order swapped every time; higher is better.

    Prints every pair; returns the median of ours / theirs.
    """
    print(f"\n{what}\n{machine()}")
    ratios = []
    for i in range(pairs):
        if i % 2:
            other, own = theirs(), ours()
        else:
            own, other = ours(), theirs()
        ratios.append(own / other)
        print(f"  pair {i + 1}: ours {own:8.1f}  theirs {other:8.1f}  ratio {own / other:.3f}")
    median = statistics.median(ratios)
    print(f"  median ratio {median:.3f}, spread {min(ratios):.3f} to {max(ratios):.3f}")
    return median


def busy_s() -> float:
    """CPU seconds that the whole machine has worked: Ray's short-lived processes count too."""
    with Path("/proc/stat").open() as stat:
        user, nice, system = (int(word) for word in stat.readline().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")
