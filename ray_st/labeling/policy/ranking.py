"""The score of the n-th best prediction of each class, of any number of them, exactly.

In: tallies, read once for every ten bits of a key. Out: a key a class. Nothing is sorted or held:
each reading counts one digit of the keys that agree with what is known so far, the highest digit
first. Next: `holdout.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Int64

from ray_st.labeling.policy.tally import Tally

_DIGIT_BITS = 10
_DIGITS = 2**_DIGIT_BITS

Ranks = Callable[[Int64[np.ndarray, " k"]], Int64[np.ndarray, " k"]]


def nth_keys(
    tallies: Callable[[], Iterable[Tally]], ranks: Ranks, num_classes: int, key_bits: int
) -> Int64[np.ndarray, " k"]:
    """Key of the n-th best prediction of each class; -1 where there is no prediction.

    `ranks`: how many predictions each class has -> n for each, from 1 to that number.
    """
    prefix = np.zeros(num_classes, np.int64)
    left = np.zeros(num_classes, np.int64)
    counts: np.ndarray | None = None
    for shift in range((key_bits - 1) // _DIGIT_BITS * _DIGIT_BITS, -1, -_DIGIT_BITS):
        digits = np.zeros((num_classes, _DIGITS), np.int64)
        for tally in tallies():
            digits += _counted(tally, prefix, shift)
        if counts is None:
            counts = digits.sum(axis=1)
            left = ranks(counts)
        # From the highest digit down: the first at which the wanted one has been passed.
        passed = digits[:, ::-1].cumsum(axis=1)
        at = (passed >= left[:, None]).argmax(axis=1)
        digit = _DIGITS - 1 - at
        classes = np.arange(num_classes)
        left -= passed[classes, at] - digits[classes, digit]
        prefix = prefix * _DIGITS + digit
    assert counts is not None, "a key has bits"
    return np.where(counts > 0, prefix, -1)


def _counted(tally: Tally, prefix: np.ndarray, shift: int) -> np.ndarray:
    """Count by class (rows) and digit, among the keys that begin with their class's prefix."""
    begins = tally.keys >> (shift + _DIGIT_BITS) == prefix[tally.class_ids]
    class_ids, keys = tally.class_ids[begins], tally.keys[begins]
    cells = class_ids * _DIGITS + (keys >> shift & (_DIGITS - 1))
    found = np.bincount(cells, weights=tally.counts[begins], minlength=prefix.size * _DIGITS)
    return found.astype(np.int64).reshape(-1, _DIGITS)  # float64 counts exactly to 2**53
