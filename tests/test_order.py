"""The one true order of a stream."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_st.data.labels import Origin
from ray_st.data.order import images_at, positions_of, share_of, stream_seed, windows_at

pytestmark = pytest.mark.pure

sizes = st.integers(1, 60)
seeds = st.integers(0, 2**40)


@given(st.tuples(seeds, st.sampled_from(Origin)), st.tuples(seeds, st.sampled_from(Origin)))
def test_no_two_streams_share_a_seed(one, other):
    assert (stream_seed(*one) == stream_seed(*other)) == (one == other)


@settings(max_examples=60, deadline=None)
@given(num_images=sizes, seed=seeds, epoch=st.integers(0, 1000))
def test_an_epoch_holds_each_image_once(num_images, seed, epoch):
    positions = epoch * num_images + np.arange(num_images)
    indices, epochs = images_at(positions, num_images=num_images, seed=seed)
    assert sorted(indices) == list(range(num_images))
    assert set(epochs) == {epoch}


@settings(max_examples=60, deadline=None)
@given(num_images=sizes, seed=seeds, data=st.data())
def test_a_position_holds_the_same_image_whoever_asks(num_images, seed, data):
    positions = np.array(data.draw(st.lists(st.integers(0, 500), max_size=20)), np.int64)
    indices, epochs = images_at(positions, num_images=num_images, seed=seed)
    for i, position in enumerate(positions):
        alone = images_at(positions[i : i + 1], num_images=num_images, seed=seed)
        assert (indices[i], epochs[i]) == (alone[0][0], alone[1][0])
        assert epochs[i] == position // num_images


def test_epochs_and_seeds_differ():
    epochs = images_at(np.arange(300), num_images=100, seed=0)[0].reshape(3, 100)
    other = images_at(np.arange(100), num_images=100, seed=1)[0]
    orders = {tuple(order) for order in [*epochs, other, np.arange(100)]}
    assert len(orders) == 5


def test_one_image_comes_in_every_epoch():
    indices, epochs = images_at(np.arange(5), num_images=1, seed=3)
    assert indices.tolist() == [0] * 5
    assert epochs.tolist() == [0, 1, 2, 3, 4]


def test_positions_by_hand():
    # Steps 2 and 3 of 6 images: 12..17 and 18..23; the second of three workers takes 2 of each.
    got = positions_of(first_step=2, num_steps=2, batch_size=6, worker=1, num_workers=3)
    assert got.tolist() == [[14, 15], [20, 21]]


def test_shares_that_differ_by_hand():
    # 7 images of three workers: 0..1, 2..3, 4..6.
    parts = [
        positions_of(first_step=1, num_steps=1, batch_size=7, worker=worker, num_workers=3)
        for worker in range(3)
    ]
    assert [part.tolist() for part in parts] == [[[7, 8]], [[9, 10]], [[11, 12, 13]]]


@settings(max_examples=60, deadline=None)
@given(
    num_workers=st.integers(1, 7),
    batch_size=st.integers(1, 30),
    first_step=st.integers(0, 10**9),
    num_steps=st.integers(0, 5),
)
def test_workers_share_out_each_step(num_workers, batch_size, first_step, num_steps):
    shares = [
        positions_of(
            first_step=first_step,
            num_steps=num_steps,
            batch_size=batch_size,
            worker=worker,
            num_workers=num_workers,
        )
        for worker in range(num_workers)
    ]
    sizes = [share_of(batch_size, worker, num_workers) for worker in range(num_workers)]
    assert [each.shape for each in shares] == [(num_steps, size) for size in sizes]
    assert max(sizes) - min(sizes) <= 1
    together = np.concatenate(shares, axis=1)
    expected = first_step * batch_size + np.arange(num_steps * batch_size)
    np.testing.assert_array_equal(together.ravel(), expected)


@settings(max_examples=60, deadline=None)
@given(
    num_images=sizes,
    steps=st.integers(1, 12),
    data=st.data(),
    num_workers=st.sampled_from([1, 2, 4]),
)
def test_resumed_at_any_step_is_the_tail(num_images, steps, data, num_workers):
    resumed_at = data.draw(st.integers(0, steps))
    worker = data.draw(st.integers(0, num_workers - 1))

    def images(first_step, num_steps):
        positions = positions_of(
            first_step=first_step,
            num_steps=num_steps,
            batch_size=4,
            worker=worker,
            num_workers=num_workers,
        )
        indices, epochs = images_at(positions.ravel(), num_images=num_images, seed=7)
        return list(zip(indices.tolist(), epochs.tolist(), strict=True))

    assert images(0, steps) == images(0, resumed_at) + images(resumed_at, steps - resumed_at)


# Windows: sets in files


def in_files(positions, sizes, seed, window_images):
    """(epoch, file, place in the file) at each position, by reading windows."""
    places = [(file, place) for file, size in enumerate(sizes) for place in range(size)]
    found = [None] * len(positions)
    for window in windows_at(positions, sizes=sizes, seed=seed, window_images=window_images):
        held = [each for each in places if each[0] in set(window.files.tolist())]
        for chosen, index in zip(window.chosen, window.indices, strict=True):
            found[chosen] = (window.epoch, *held[index])
    return found


file_sizes = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any).map(tuple)


@settings(max_examples=100, deadline=None)
@given(sizes=file_sizes, seed=seeds, window=st.integers(1, 40), epoch=st.integers(0, 50))
def test_an_epoch_of_windows_holds_each_image_once(sizes, seed, window, epoch):
    total = sum(sizes)
    found = in_files(epoch * total + np.arange(total), sizes, seed, window)
    every = [(epoch, file, place) for file, size in enumerate(sizes) for place in range(size)]
    assert sorted(found) == every


@settings(max_examples=60, deadline=None)
@given(sizes=file_sizes, seed=seeds, window=st.integers(1, 40), data=st.data())
def test_a_position_in_windows_holds_the_same_image_whoever_asks(sizes, seed, window, data):
    positions = np.array(data.draw(st.lists(st.integers(0, 200), max_size=20)), np.int64)
    together = in_files(positions, sizes, seed, window)
    alone = [in_files(positions[i : i + 1], sizes, seed, window)[0] for i in range(len(positions))]
    assert together == alone


@settings(max_examples=60, deadline=None)
@given(sizes=file_sizes, seed=seeds)
def test_a_set_of_one_window_has_the_order_of_one_that_is_held(sizes, seed):
    positions = np.arange(3 * sum(sizes))
    indices, epochs = images_at(positions, num_images=sum(sizes), seed=seed)
    windows = list(windows_at(positions, sizes=sizes, seed=seed, window_images=10**6))
    assert [window.epoch for window in windows] == [0, 1, 2]
    for window in windows:
        np.testing.assert_array_equal(window.indices, indices[window.chosen])
        np.testing.assert_array_equal(epochs[window.chosen], window.epoch)


def test_windows_are_of_neighbouring_files_and_as_large_as_asked():
    sizes = (10,) * 12
    orders = []
    for epoch in (0, 1):
        positions = 120 * epoch + np.arange(120)
        windows = list(windows_at(positions, sizes=sizes, seed=1, window_images=25))
        # 30 images are the fewest in whole files that are 25 or more.
        assert [len(window.chosen) for window in windows] == [30] * 4
        files = [file for window in windows for file in window.files.tolist()]
        assert sorted(files) == list(range(12))
        orders.append(files)
    assert orders[0] != orders[1] != sorted(orders[1])
