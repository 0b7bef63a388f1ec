"""Rows to views: bad images, chunks of Arrow, and views that depend on nothing but their name."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ray_st.data.augment import AugmentConfig
from ray_st.data.images import PAD_RGB
from ray_st.data.labels import IGNORE, KINDS, ClassLabel, Detections, Origin, SegmentationMap
from ray_st.data.rows import IMAGE_ROW, kind_of, pack
from ray_st.data.views import Views, augmented_views, fitted_views

pytestmark = pytest.mark.pure

SIDE = 17  # odd
SIZES_HW = [(20, 30), (51, 7), (1, 1), (17, 17)]
BOXES = [[[2, 3, 12, 13], [0, 0, 30, 20]], [[1, 1, 6, 50]], [], [[0, 0, 17, 17]]]
STRONG = AugmentConfig(flip_probability=0.5, scale_jitter=(0.5, 2.0))


@pytest.fixture
def rows(tmp_path):
    """Four images, then a file that is no image and one that is not there; LABEL_ROWs."""
    return made(tmp_path, of_kind(Detections))


def of_kind(kind):
    """Labels of the six images; the last two have some too, though nobody can read the images."""
    rng = np.random.default_rng(1)
    if kind is Detections:
        return [Detections.of(b, range(len(b))) for b in [*BOXES, [[0, 0, 5, 5]], []]]
    if kind is ClassLabel:
        return [ClassLabel.of([i]) for i in range(6)]
    sizes = [*SIZES_HW, (9, 9), (9, 9)]
    return [SegmentationMap(class_map=rng.integers(0, 5, size, np.uint8)) for size in sizes]


def made(tmp_path, labels):
    rng = np.random.default_rng(0)
    uris = [str(tmp_path / f"{i}.png") for i in range(6)]
    for uri, (height, width) in zip(uris, SIZES_HW, strict=False):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(uri)
    (tmp_path / "4.png").write_bytes(b"no image")
    return pack(
        image_ids=[10, -1, 2**40, 3, 4, 5],
        uris=uris,
        sizes_hw=[*SIZES_HW, (9, 9), (9, 9)],
        labels=labels,
        origin=Origin.HUMAN,
    )


def augmented(rows, *, epoch=0, seed=0):
    return augmented_views(rows, [epoch] * rows.num_rows, SIDE, STRONG, seed)


def assert_same(got, expected):
    for name in ("image_ids", "pixels", "sizes_hw", "is_valid"):
        a, b = getattr(got, name), getattr(expected, name)
        np.testing.assert_array_equal(a, b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert (got.uris, got.stages, got.reasons) == (expected.uris, expected.stages, expected.reasons)
    assert len(got.labels) == len(expected.labels)
    for a, b in zip(got.labels, expected.labels, strict=True):
        assert type(a) is type(b)
        for name, value in vars(b).items():
            np.testing.assert_array_equal(getattr(a, name), value)


@pytest.mark.parametrize("chosen", [[], [2], [4], [0, 1, 2, 3, 4, 5], [5, 4]])
def test_arrow_and_back(rows, chosen):
    views = augmented(rows.take(pa.array(chosen, pa.int64())))
    assert len(views.uris) == len(chosen)
    assert_same(Views.from_table(views.to_table()), views)


def test_slices_and_chunks(rows):
    whole = augmented(rows)
    table = whole.to_table()
    for start, length in ((1, 3), (3, 1), (2, 0), (5, 1)):
        expected = augmented(rows.slice(start, length))
        assert_same(Views.from_table(table.slice(start, length)), expected)
    in_chunks = pa.concat_tables([table.slice(0, 1), table.slice(1, 0), table.slice(1)])
    assert in_chunks.column("pixels").num_chunks > 1
    assert_same(Views.from_table(in_chunks), whole)
    # Slices of chunks, as a batch that spans two blocks.
    assert_same(Views.from_table(in_chunks.slice(2, 3)), augmented(rows.slice(2, 3)))


def test_pixels_in_one_chunk_are_not_copied(rows):
    table = augmented(rows).to_table()
    values = table.column("pixels").chunk(0).flatten().to_numpy()
    assert np.shares_memory(Views.from_table(table).pixels, values)


def test_a_bad_image_is_marked_and_blank(rows):
    for views in (fitted_views(rows, SIDE), augmented(rows)):
        assert views.is_valid.tolist() == [True] * 4 + [False] * 2
        assert views.stages == (None, None, None, None, "decode", "fetch")
        assert views.reasons[:4] == (None,) * 4
        assert "not an image" in views.reasons[4]
        assert "5.png" in views.reasons[5]
        assert not views.pixels[4:].any()
        assert all(views.pixels[i].any() for i in range(4))
        assert views.sizes_hw.tolist() == [*map(list, SIZES_HW), [0, 0], [0, 0]]
        assert views.image_ids.tolist() == [10, -1, 2**40, 3, 4, 5]
    assert len(augmented(rows).labels[4]) == 0  # though its row has a box


def test_fitted_views_show_the_whole_image_and_know_no_labels(rows):
    views = fitted_views(rows.select(IMAGE_ROW.names), SIDE)
    assert views.labels == Views.from_table(views.to_table()).labels == ()
    # 20 x 30 to 17: scale 17 / 30, 11 rows and 17 columns; the rest is padding.
    assert (views.pixels[0, 11:] == PAD_RGB).all()
    assert not (views.pixels[0, 10] == PAD_RGB).all()
    np.testing.assert_array_equal(
        views.pixels[3], np.array(Image.open(rows["uri"][3].as_py()))
    )  # already 17 x 17


def test_a_view_is_a_function_of_seed_id_and_epoch(rows):
    expected = augmented(rows, epoch=3, seed=5)
    assert_same(augmented(rows, epoch=3, seed=5), expected)
    for other in (augmented(rows, epoch=4, seed=5), augmented(rows, epoch=3, seed=6)):
        assert not np.array_equal(other.pixels[0], expected.pixels[0])
        assert not np.array_equal(other.pixels[3], expected.pixels[3])
    # The same picture under another id is another view.
    twin = rows.slice(0, 1).set_column(0, "image_id", pa.array([11]))
    assert not np.array_equal(augmented(twin, epoch=3, seed=5).pixels[0], expected.pixels[0])


def test_a_view_does_not_depend_on_its_batch(rows):
    order = [4, 3, 1, 0, 5, 2, 3]
    epochs = [0, 1, 2, 3, 4, 5, 6]
    together = augmented_views(rows.take(pa.array(order)), epochs, SIDE, STRONG, 0)
    for i, (row, epoch) in enumerate(zip(order, epochs, strict=True)):
        alone = augmented(rows.slice(row, 1), epoch=epoch)
        np.testing.assert_array_equal(together.pixels[i], alone.pixels[0])
        np.testing.assert_array_equal(together.labels[i].boxes_xyxy, alone.labels[0].boxes_xyxy)


def test_unchanging_augmentation_places_the_boxes(rows):
    still = AugmentConfig(flip_probability=0.0, scale_jitter=(1.0, 1.0))
    views = augmented_views(rows, [0] * 6, SIDE, still, 0)
    np.testing.assert_array_equal(views.pixels[:4], fitted_views(rows, SIDE).pixels[:4])
    x, y = 17 / 30, 11 / 20  # as the image came out after rounding
    expected = [[2 * x, 3 * y, 12 * x, 13 * y], [0, 0, 17, 11]]
    np.testing.assert_allclose(views.labels[0].boxes_xyxy, expected, rtol=1e-6)
    assert views.labels[0].class_ids.tolist() == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_labels_goes_through_arrow(tmp_path, kind):
    views = augmented(made(tmp_path, of_kind(kind)), epoch=2)
    table = views.to_table()
    assert kind_of(table.schema) is kind
    assert_same(Views.from_table(table), views)
    parts = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    assert_same(Views.from_table(parts), views)
    assert [labels.amount() > 0 for labels in views.labels[3:]] == [True, False, False]


def test_unchanging_augmentation_places_the_maps(tmp_path):
    still = AugmentConfig(flip_probability=0.0, scale_jitter=(1.0, 1.0))
    labels = of_kind(SegmentationMap)
    views = augmented_views(made(tmp_path, labels), [0] * 6, SIDE, still, 0)
    for labels_in_view in views.labels[:4]:
        assert labels_in_view.class_map.shape == (SIDE, SIDE)
    # 20 x 30 to 17: 11 rows and 17 columns; 51 x 7: 17 rows and 2 columns; 1 x 1: all of it.
    known = [(one.class_map != IGNORE).sum() for one in views.labels[:4]]
    assert known == [11 * 17, 17 * 2, 17 * 17, 17 * 17]
    np.testing.assert_array_equal(views.labels[3].class_map, labels[3].class_map)
    assert (views.labels[2].class_map == labels[2].class_map[0, 0]).all()


def test_unchanging_augmentation_leaves_the_classes(tmp_path):
    views = augmented(made(tmp_path, of_kind(ClassLabel)))
    assert [one.top_class_ids.tolist() for one in views.labels] == [[0], [1], [2], [3], [], []]
