"""One number says which images were learned from, whoever held them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import on_ranks

from ray_st.training.trail import Trail, fingerprint

ids = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=12)


def of(step, image_ids, origins=None):
    origins = [0] * len(image_ids) if origins is None else origins
    return fingerprint(step, np.array(image_ids, np.int64), np.array(origins, np.int64))


@pytest.mark.pure
@settings(deadline=None)
@given(image_ids=ids, cut=st.integers(0, 12), step=st.integers(0, 2**40))
def test_a_split_and_another_order_change_nothing(image_ids, cut, step):
    whole = of(step, image_ids)
    assert whole == of(step, image_ids[::-1])
    assert whole == (of(step, image_ids[:cut]) + of(step, image_ids[cut:])) % 2**64


@pytest.mark.pure
def test_what_differs_is_told_apart():
    found = {
        of(1, [1, 2]), of(1, [1, 3]), of(1, [1]), of(1, [1, 1]), of(2, [1, 2]),
        of(1, [1, 2], [0, 1]), of(1, [1, 2], [1, 0]), of(1, [1, 2], [1, 1]), of(1, [-1, 2]),
        of(1, [1, 2], [0, 2]), of(1, [1, 2], [2, 0]),
    }  # fmt: skip
    assert len(found) == 11
    # Two images that change places between steps.
    assert (of(1, [5]) + of(2, [6])) % 2**64 != (of(1, [6]) + of(2, [5])) % 2**64
    assert of(1, []) == 0


def trail_of(steps, share):
    trail = Trail()
    for step in steps:
        image_ids = torch.arange(8 * step, 8 * step + 8)[share]
        trail.add(step, image_ids, torch.ones(len(image_ids), dtype=torch.int64))
    return trail


def two_ranks(rank):
    trail = trail_of(range(5), slice(0, 3) if rank == 0 else slice(3, 8))
    first = trail.joined()
    trail.add(5, torch.tensor([rank]), torch.tensor([0]))
    return [first, trail.joined(), trail.joined()]


@pytest.mark.ranks
def test_two_workers_come_to_the_number_of_one():
    alone = trail_of(range(5), slice(None))
    first = alone.joined()
    alone.add(5, torch.tensor([0, 1]), torch.tensor([0, 0]))
    second = alone.joined()
    assert first != second
    assert on_ranks(two_ranks, 2) == [[first, second, second]] * 2
