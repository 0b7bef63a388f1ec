"""Views to batches: order, origin, and where the pixels lie in memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ray_st.data.batches import collate, in_parts, paired
from ray_st.data.labels import ClassLabel, Detections, Origin, SegmentationMap

pytestmark = pytest.mark.pure

SIDE = 5  # odd


def views(count, *, first_id, origin):
    rng = np.random.default_rng(first_id)
    pixels = rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    labels = [Detections.of([[0, 0, 1 + i, 2]] * i, range(i)) for i in range(count)]
    batch = collate(
        pixels,
        labels,
        origin=origin,
        is_valid=np.arange(count) % 2 == 0,
        image_ids=first_id + np.arange(count),
    )
    return pixels, batch


@pytest.mark.parametrize("count", [0, 1, 3])
def test_collate_keeps_order_and_does_not_move_pixels(count):
    pixels, batch = views(count, first_id=40, origin=Origin.PSEUDO)
    assert len(batch) == count
    assert batch.pixels.shape == (count, 3, SIDE, SIDE)
    assert batch.pixels.dtype == torch.uint8
    assert count == 0 or batch.pixels.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(batch.pixels.permute(0, 2, 3, 1).numpy(), pixels)
    assert count == 0 or np.shares_memory(batch.pixels.numpy(), pixels)
    assert batch.image_ids.tolist() == [40 + i for i in range(count)]
    assert batch.origins.tolist() == [int(Origin.PSEUDO)] * count
    assert batch.origins.dtype == batch.image_ids.dtype == torch.int64
    assert batch.is_valid.tolist() == [True, False, True][:count]
    assert [len(one) for one in batch.labels] == list(range(count))


@pytest.mark.parametrize(("num_human", "num_pseudo"), [(2, 3), (1, 1), (0, 2), (2, 0)])
def test_paired_puts_the_human_half_first(num_human, num_pseudo):
    human_pixels, human = views(num_human, first_id=10, origin=Origin.HUMAN)
    pseudo_pixels, pseudo = views(num_pseudo, first_id=90, origin=Origin.PSEUDO)
    batch = paired(human, pseudo)
    assert len(batch) == num_human + num_pseudo
    expected = np.concatenate([human_pixels, pseudo_pixels])
    np.testing.assert_array_equal(batch.pixels.permute(0, 2, 3, 1).numpy(), expected)
    assert batch.pixels.is_contiguous(memory_format=torch.channels_last)
    assert batch.origins.tolist() == [0] * num_human + [1] * num_pseudo
    assert batch.image_ids.tolist() == [
        *(10 + i for i in range(num_human)),
        *(90 + i for i in range(num_pseudo)),
    ]
    assert [len(one) for one in batch.labels] == [*range(num_human), *range(num_pseudo)]
    assert batch.is_valid.tolist() == [i % 2 == 0 for i in [*range(num_human), *range(num_pseudo)]]


@pytest.mark.parametrize(
    ("num_human", "num_pseudo", "count"), [(4, 2, 2), (3, 6, 3), (2, 0, 2), (0, 4, 2), (1, 2, 1)]
)
def test_a_part_has_its_share_of_either_origin(num_human, num_pseudo, count):
    batch = paired(
        views(num_human, first_id=10, origin=Origin.HUMAN)[1],
        views(num_pseudo, first_id=90, origin=Origin.PSEUDO)[1],
    )
    parts = in_parts(batch, count)
    human, pseudo = num_human // count, num_pseudo // count
    assert [part.origins.tolist() for part in parts] == [[0] * human + [1] * pseudo] * count
    assert [part.image_ids.tolist() for part in parts] == [
        [
            *range(10 + k * human, 10 + (k + 1) * human),
            *range(90 + k * pseudo, 90 + (k + 1) * pseudo),
        ]
        for k in range(count)
    ]
    place = {image: i for i, image in enumerate(batch.image_ids.tolist())}
    for part in parts:
        assert part.pixels.is_contiguous(memory_format=torch.channels_last)
        for i, image in enumerate(part.image_ids.tolist()):
            assert part.pixels[i].equal(batch.pixels[place[image]])
            assert part.labels[i] is batch.labels[place[image]]
            assert part.is_valid[i] == batch.is_valid[place[image]]


def test_parts_are_as_equal_as_can_be():
    batch = paired(
        views(5, first_id=10, origin=Origin.HUMAN)[1],
        views(3, first_id=90, origin=Origin.PSEUDO)[1],
    )
    parts = [part.image_ids.tolist() for part in in_parts(batch, 3)]
    assert parts == [[10, 11, 90], [12, 13, 91], [14, 92]]


def test_a_part_of_mixed_images_keeps_their_order():
    _, human = views(4, first_id=10, origin=Origin.HUMAN)
    mixed = replace(human, origins=torch.tensor([1, 0, 0, 1]))
    assert [part.image_ids.tolist() for part in in_parts(mixed, 2)] == [[11, 10], [12, 13]]


@pytest.mark.parametrize(
    "labels", [SegmentationMap(class_map=np.zeros((SIDE, SIDE), np.uint8)), ClassLabel.of([1])]
)
def test_labels_of_every_kind_are_carried_as_they_are(labels):
    halves = [
        collate(
            np.zeros((2, SIDE, SIDE, 3), np.uint8),
            [labels, labels.unknown()],
            origin=origin,
            is_valid=np.ones(2, bool),
            image_ids=np.arange(2),
        )
        for origin in (Origin.HUMAN, Origin.PSEUDO)
    ]
    batch = paired(*halves).to(torch.device("cpu"))
    assert [one.amount() for one in batch.labels] == [1, 0, 1, 0]
    assert batch.labels[0] is batch.labels[2] is labels


@pytest.mark.filterwarnings("error")
def test_pixels_of_arrow_are_taken_without_a_warning():
    pixels = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    pixels.flags.writeable = False  # as Arrow gives them
    batch = collate(
        pixels,
        [Detections.of()] * 2,
        origin=Origin.HUMAN,
        is_valid=np.ones(2, bool),
        image_ids=np.arange(2),
    )
    assert batch.pixels.shape == (2, 3, SIDE, SIDE)


def test_moving_changes_nothing_but_the_device():
    _, batch = views(3, first_id=0, origin=Origin.HUMAN)
    moved = batch.to(torch.device("meta"))
    assert {moved.pixels.device.type, moved.origins.device.type, moved.is_valid.device.type} == {
        "meta"
    }
    assert moved.labels is batch.labels
    assert moved.pixels.is_contiguous(memory_format=torch.channels_last)
