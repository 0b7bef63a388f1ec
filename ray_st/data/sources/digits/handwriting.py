"""Who wrote what: scikit-learn's digits, dealt out to train, val and pool.

In: `DigitsConfig`. Out: `Digits` for each of the three. Next: `scene.py`.
"""

from __future__ import annotations

import numpy as np

from ray_st.config import require
from ray_st.data.sources.digits.config import DigitsConfig

Digits = tuple[np.ndarray, np.ndarray]
"""Ink (n, 8, 8), 0..1, and class ids (n,), places in `DigitsConfig.classes`."""


def split_digits(config: DigitsConfig) -> tuple[Digits, Digits, Digits]:
    """Deal the digits out to train, val and pool, so that each has all classes alike.

    Raises UserError for more labelled digits than there are to share.
    """
    from sklearn.datasets import load_digits  # a second to load, and for nothing else

    source = load_digits()
    drawn = np.random.default_rng(config.seed).permutation(len(source.target))
    ranked: list[tuple[int, int, int]] = []  # rank within its class, class id, index
    for class_id, digit in enumerate(config.classes):
        of_class = drawn[source.target[drawn] == digit]
        ranked += [(rank, class_id, int(i)) for rank, i in enumerate(of_class)]
    ranked.sort()  # round robin over the classes
    require(
        config.labeled_digits <= len(ranked) // 2,
        "digits.labeled_digits",
        f"at most {len(ranked) // 2}, half of what scikit-learn has of these classes",
        config.labeled_digits,
    )
    num_val = (len(ranked) - config.labeled_digits) // 3
    index = np.array([i for _, _, i in ranked])
    class_ids = np.array([class_id for _, class_id, _ in ranked])
    cuts = np.split(
        np.arange(len(ranked)), [config.labeled_digits, config.labeled_digits + num_val]
    )
    train, val, pool = ((source.images[index[cut]] / 16.0, class_ids[cut]) for cut in cuts)
    return train, val, pool


def by_class(digits: Digits) -> list[Digits]:
    """The digits of each class apart, in the order of class ids."""
    ink, class_ids = digits
    return [(ink[class_ids == k], class_ids[class_ids == k]) for k in np.unique(class_ids)]
