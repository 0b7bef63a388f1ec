"""Each kind of labels: at rest, above a threshold, and as it follows its pixels."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_st.data.labels import (
    IGNORE,
    KINDS,
    ClassLabel,
    Detections,
    Labels,
    Origin,
    SegmentationMap,
)
from ray_st.data.placed import Placed
from ray_st.data.rows import kind_of, label_row, pack, unpack

pytestmark = pytest.mark.pure

SIZES_HW = st.tuples(st.integers(1, 40), st.integers(1, 40))
SEEDS = st.integers(0, 2**32)


def made(kind: type[Labels], seed: int, size_hw: tuple[int, int] = (9, 7)) -> Labels:
    """Labels of any content, with scores; some of them know nothing."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.1:
        return kind.unknown()
    count = int(rng.integers(0, 6))
    if kind is Detections:
        corners = np.sort(rng.uniform(0, 1, (count, 2, 2)) * size_hw[::-1], axis=1)
        return Detections.of(
            corners.reshape(-1, 4), rng.integers(0, 9, count), scores=rng.random(count)
        )
    if kind is SegmentationMap:
        scored = rng.random() < 0.7
        return SegmentationMap(
            class_map=rng.choice(np.array([0, 1, 7, 254, IGNORE], np.uint8), size_hw),
            confidence=rng.integers(0, 256, size_hw, np.uint8) if scored else None,
        )
    return ClassLabel.of(rng.permutation(9)[:count], np.sort(rng.random(count))[::-1])


def fields(labels: Labels) -> dict[str, np.ndarray | None]:
    return vars(labels)


def assert_same(got: Labels, expected: Labels) -> None:
    assert type(got) is type(expected)
    for name, value in fields(expected).items():
        if value is None:
            assert getattr(got, name) is None
        else:
            np.testing.assert_array_equal(getattr(got, name), value)
            assert getattr(got, name).dtype == value.dtype
            assert getattr(got, name).shape == value.shape


def packed(kind: type[Labels], labels: list[Labels]) -> pa.Table:
    return pack(
        image_ids=range(len(labels)),
        uris=["a.png"] * len(labels),
        sizes_hw=[(9, 7)] * len(labels),
        labels=labels,
        origin=Origin.PSEUDO,
        kind=kind,
    )


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


# All kinds alike


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), seeds=st.lists(SEEDS, max_size=6), start=st.integers(0, 6))
def test_columns_give_the_labels_back_in_slices_and_chunks(kind, seeds, start):
    labels = [made(kind, seed) for seed in seeds]
    table = packed(kind, labels)
    assert table.schema.equals(label_row(kind), check_metadata=True)
    assert kind_of(table.schema) is kind
    twice = pa.concat_tables([table.slice(start), table])
    for got, expected in zip(unpack(twice), [*labels[start:], *labels], strict=True):
        assert_same(got, expected)


def test_parquet_gives_the_labels_and_the_schema_back(kind, tmp_path):
    labels = [made(kind, seed) for seed in range(30)]
    pq.write_table(packed(kind, labels), tmp_path / "a.parquet", compression="zstd")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.metadata == label_row(kind).metadata
    assert kind_of(table.schema) is kind
    table = table.cast(label_row(kind))  # Parquet calls the items of a list by another name
    for got, expected in zip(unpack(table), labels, strict=True):
        assert_same(got, expected)


def test_unknown_labels_are_nothing_and_stay_nothing(kind):
    unknown = kind.unknown()
    placed = Placed.fitting((9, 7), 16)
    assert unknown.amount() == 0
    assert_same(unpack(packed(kind, [unknown]))[0], unknown)
    for other in (
        unknown.above(0.0),
        unknown.above(1.0),
        unknown.mirrored(7),
        unknown.in_source(placed),
        unknown.in_view(placed, placed.resized_hw, 16),
    ):
        assert other.amount() == 0
    assert not kind.any_in(packed(kind, []))
    assert kind.any_in(packed(kind, [unknown])) is False
    assert kind.any_in(packed(kind, [unknown, known(kind)])) is True


def known(kind: type[Labels]) -> Labels:
    return next(one for seed in range(99) if (one := made(kind, seed)).amount() > 0)


def test_rows_without_labels_are_of_no_kind():
    schema = label_row(None)
    assert kind_of(schema) is None
    assert set(schema.names) < set(label_row(ClassLabel).names)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=SEEDS, size_hw=SIZES_HW)
def test_mirrored_twice_is_as_it_was(kind, seed, size_hw):
    labels = made(kind, seed, size_hw)
    twice = labels.mirrored(size_hw[1]).mirrored(size_hw[1])
    if kind is Detections:  # a difference of floats is not undone to the last bit
        np.testing.assert_allclose(twice.boxes_xyxy, labels.boxes_xyxy, atol=1e-4)
        twice = twice.with_boxes(labels.boxes_xyxy)
    assert_same(twice, labels)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=SEEDS, low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_higher_threshold_never_keeps_more(kind, seed, low, high):
    labels = made(kind, seed)
    low, high = min(low, high), max(low, high)
    assert labels.above(high).amount() <= labels.above(low).amount() <= labels.amount()


def test_human_labels_pass_every_threshold():
    for labels in (
        Detections.of([[0, 0, 1, 1]], [0]),
        SegmentationMap(class_map=np.array([[0, 1, IGNORE]], np.uint8)),
        ClassLabel.of([3]),
    ):
        assert_same(labels.above(1.0), labels)


# Boxes


def test_boxes_by_hand():
    labels = Detections.of([[1, 2, 4, 6], [0, 0, 3, 1]], [5, 0], scores=[0.25, 0.5])
    assert labels.amount() == 2
    assert labels.areas_px.tolist() == [12, 3]
    assert labels.above(0.25).class_ids.tolist() == [5, 0]
    assert labels.above(0.2500001).class_ids.tolist() == [0]
    mirrored = labels.mirrored(7)
    assert mirrored.boxes_xyxy.tolist() == [[3, 2, 6, 6], [4, 0, 7, 1]]
    assert mirrored.areas_px.tolist() == [12, 3]


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, size_hw=SIZES_HW, size_px=st.integers(1, 60))
def test_boxes_there_and_back(seed, size_hw, size_px):
    labels = made(Detections, seed, size_hw)
    placed = Placed.fitting(size_hw, size_px)
    back = labels.with_boxes(placed.place(labels.boxes_xyxy)).in_source(placed)
    np.testing.assert_allclose(back.boxes_xyxy, labels.boxes_xyxy, atol=1e-4)


# Class maps


def nearest(size, new_size):
    """For each new pixel the one or two old ones nearest to its centre, in exact fractions."""
    centres = [Fraction(2 * i + 1, 2) * size / new_size for i in range(new_size)]
    return [{int(c), int(c) - (c.denominator == 1)} for c in centres]


def assert_resized(got, plane, size_hw):
    assert got.shape == size_hw
    rows, columns = nearest(plane.shape[0], size_hw[0]), nearest(plane.shape[1], size_hw[1])
    for y, x in np.ndindex(size_hw):
        assert got[y, x] in {plane[r, c] for r in rows[y] for c in columns[x]}


@settings(max_examples=120, deadline=None)
@given(
    seed=SEEDS,
    size_hw=SIZES_HW,
    size_px=st.integers(1, 33),
    target_px=st.integers(1, 60),
    crop=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_map_in_view_equals_a_slow_one(seed, size_hw, size_px, target_px, crop):
    rng = np.random.default_rng(seed)
    class_map = rng.integers(0, 255, size_hw, np.uint8)
    fitting = Placed.fitting(size_hw, target_px)
    height, width = fitting.resized_hw
    top, left = int(crop[0] * max(0, height - size_px)), int(crop[1] * max(0, width - size_px))
    shown_hw = (min(size_px, height), min(size_px, width))
    placed = replace(fitting, offset_xy=(float(-left), float(-top)))
    got = SegmentationMap(class_map=class_map).in_view(placed, shown_hw, size_px)
    assert got.confidence is None
    assert got.class_map.dtype == np.uint8
    assert got.class_map.shape == (size_px, size_px)
    rows, columns = nearest(size_hw[0], height), nearest(size_hw[1], width)
    for y, x in np.ndindex(size_px, size_px):
        if y < shown_hw[0] and x < shown_hw[1]:
            sources = {class_map[r, c] for r in rows[top + y] for c in columns[left + x]}
        else:
            sources = {IGNORE}
        assert got.class_map[y, x] in sources


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, size_hw=SIZES_HW, size_px=st.integers(1, 40))
def test_a_map_in_source_equals_a_slow_one(seed, size_hw, size_px):
    rng = np.random.default_rng(seed)
    class_map, confidence = rng.integers(0, 255, (2, size_px, size_px), np.uint8)
    placed = Placed.fitting(size_hw, size_px)
    height, width = placed.resized_hw
    got = SegmentationMap(class_map=class_map, confidence=confidence).in_source(placed)
    for plane, expected in ((got.class_map, class_map), (got.confidence, confidence)):
        assert_resized(plane, expected[:height, :width], size_hw)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, size_hw=SIZES_HW, times=st.integers(1, 3))
def test_a_map_enlarged_by_a_whole_number_comes_back_whole(seed, size_hw, times):
    labels = made(SegmentationMap, seed, size_hw)
    size_px = times * max(size_hw)
    placed = Placed.fitting(size_hw, size_px)
    view = labels.in_view(placed, placed.resized_hw, size_px)
    expected = labels.class_map if labels.class_map.size else np.full(size_hw, IGNORE, np.uint8)
    np.testing.assert_array_equal(view.in_source(placed).class_map, expected)


def test_a_map_whose_image_has_another_size_fills_its_place():
    # The map of an image that could not be opened: of its own size, half as large here.
    labels = SegmentationMap(class_map=np.array([[1, 2]], np.uint8))
    placed = Placed.fitting((2, 4), 4)
    view = labels.in_view(placed, (2, 4), 4).class_map
    assert view.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [IGNORE] * 4, [IGNORE] * 4]


def test_a_cropped_frame_cannot_be_taken_back():
    placed = Placed(scale_xy=(1.0, 1.0), offset_xy=(-1.0, 0.0), size_hw=(2, 2))
    with pytest.raises(AssertionError, match="cropped"):
        SegmentationMap(class_map=np.zeros((2, 2), np.uint8)).in_source(placed)


def test_a_mirrored_map_by_hand():
    labels = SegmentationMap(
        class_map=np.array([[1, 2, 3]], np.uint8), confidence=np.array([[7, 8, 9]], np.uint8)
    )
    mirrored = labels.mirrored(3)
    assert mirrored.class_map.tolist() == [[3, 2, 1]]
    assert mirrored.confidence.tolist() == [[9, 8, 7]]


@pytest.mark.parametrize("step", range(256))
def test_a_threshold_at_the_edge_of_a_step_keeps_that_step(step):
    confidence = np.arange(256, dtype=np.uint8)[None]
    labels = SegmentationMap(class_map=np.zeros((1, 256), np.uint8), confidence=confidence)
    kept = labels.above(step / 255)
    assert np.flatnonzero(kept.class_map[0] != IGNORE).tolist() == list(range(step, 256))
    assert kept.confidence is None
    assert kept.amount() == pytest.approx((256 - step) / 256)


@pytest.mark.parametrize("hundredths", range(101))
def test_no_pixel_below_the_threshold_is_kept_and_few_above_are_lost(hundredths):
    threshold = Fraction(hundredths, 100)
    confidence = np.arange(256, dtype=np.uint8)[None]
    labels = SegmentationMap(class_map=np.zeros((1, 256), np.uint8), confidence=confidence)
    kept = labels.above(hundredths / 100).class_map[0] != IGNORE
    for step in range(256):
        least, most = Fraction(step, 255), Fraction(step + 1, 255)  # what was rounded down to it
        assert kept[step] == (least >= threshold)
        assert kept[step] or least < threshold
        assert kept[step] or most <= threshold + Fraction(1, 255)


def test_ignored_pixels_stay_ignored_however_sure():
    labels = SegmentationMap(
        class_map=np.array([[IGNORE, 4, 4]], np.uint8),
        confidence=np.array([[255, 255, 0]], np.uint8),
    )
    assert labels.amount() == pytest.approx(2 / 3)
    assert labels.above(0.5).class_map.tolist() == [[IGNORE, 4, IGNORE]]


def test_a_map_of_nothing_but_ignore_holds_no_label():
    blank = SegmentationMap(class_map=np.full((1, 5), IGNORE, np.uint8))
    assert blank.amount() == 0
    assert not SegmentationMap.any_in(packed(SegmentationMap, [blank, blank]))
    dot = SegmentationMap(class_map=np.array([[IGNORE, 0, IGNORE]], np.uint8))
    assert SegmentationMap.any_in(packed(SegmentationMap, [blank, SegmentationMap.unknown(), dot]))
    assert_same(unpack(packed(SegmentationMap, [blank]))[0], blank)


def test_planes_that_are_views_of_others_rest_as_they_look():
    plane = np.arange(48, dtype=np.uint8).reshape(6, 8)
    labels = SegmentationMap(class_map=plane[::2, ::-2], confidence=plane.T[:4, :3].T)
    assert_same(unpack(packed(SegmentationMap, [labels]))[0], labels)


# Classes


def test_only_the_likeliest_class_may_be_kept():
    labels = ClassLabel.of([4, 1, 0], [0.6, 0.3, 0.1])
    assert labels.amount() == 1
    for threshold in (0.0, 0.3, 0.6):
        assert labels.above(threshold).top_class_ids.tolist() == [4]
        assert labels.above(threshold).top_scores.tolist() == [np.float32(0.6)]
    assert labels.above(0.61).top_class_ids.tolist() == []
    assert labels.above(0.61).amount() == 0


@pytest.mark.parametrize("score", [0.1, 0.3, 0.7, 0.9])
def test_a_threshold_that_float32_does_not_hold_still_keeps_its_own_score(score):
    assert ClassLabel.of([0], [score]).above(score).amount() == 1
    assert Detections.of([[0, 0, 1, 1]], [0], scores=[score]).above(score).amount() == 1


def test_a_class_has_no_place():
    labels = ClassLabel.of([2])
    placed = Placed.fitting((3, 5), 4)
    for other in (
        labels.mirrored(5),
        labels.in_view(placed, (2, 4), 4),
        labels.in_source(placed),
    ):
        assert_same(other, labels)
