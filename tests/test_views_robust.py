"""Views of every policy, whatever the image's shape, its file and its labels."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageFilter

from ray_st.data.augment import AugmentConfig, view
from ray_st.data.images import Source
from ray_st.data.labels import IGNORE, ClassLabel, Detections, Origin, SegmentationMap
from ray_st.data.rows import pack
from ray_st.data.views import augmented_views

pytestmark = pytest.mark.pure

SIDE = 48
SIZES_HW = [(1, 1), (1, 40), (40, 1), (2, 3), (37, 64), (333, 500)]
CONFIGS = {
    **{policy: AugmentConfig(policy=policy) for policy in ("S1", "S2", "S3", "S4")},
    **{v: AugmentConfig(policy="S3", autoaugment=v) for v in ("v1", "v2", "v3")},
    "strongest": AugmentConfig(policy="S4", magnitude=30.0, layers=5),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def boxes_past_the_border(size_hw):
    height, width = size_hw
    corners = [
        [-5, -5, width / 2, height + 9],
        [0, 0, width, height],
        [width - 0.5, height / 3, 3 * width, height],
        [-30, -30, -10, -10],
        [width / 4, height / 4, width / 4, height / 2],  # no width
        [width / 4, 0, width, height / 2],
    ]
    return Detections.of(corners, range(6), is_crowd=[False] * 5 + [True])


def views_of(size_hw, labels, config, count):
    pixels = rng(3).integers(0, 256, (*size_hw, 3), np.uint8)
    for seed in range(count):
        given = pixels.copy()
        shown, seen = view(Source.of_pixels(given), labels, SIDE, rng(seed), config)
        assert (shown.shape, shown.dtype) == ((SIDE, SIDE, 3), np.uint8)
        assert type(seen) is type(labels)
        np.testing.assert_array_equal(given, pixels)
        yield shown, seen


@pytest.mark.parametrize("size_hw", SIZES_HW)
@pytest.mark.parametrize("name", CONFIGS)
def test_boxes_lie_in_the_view(name, size_hw):
    labels = boxes_past_the_border(size_hw)
    for _, seen in views_of(size_hw, labels, CONFIGS[name], 6):
        boxes = seen.boxes_xyxy
        assert boxes.dtype == np.float32
        assert np.isfinite(boxes).all()
        assert ((boxes >= 0) & (boxes <= SIDE)).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
        lengths = {len(value) for value in vars(seen).values()}
        assert lengths == {len(boxes)}
        # 3 lies outside of the image, 4 has no width: neither may come in by a warp.
        assert set(seen.class_ids) <= {0, 1, 2, 5}
        np.testing.assert_array_equal(seen.is_crowd, seen.class_ids == 5)
        np.testing.assert_array_equal(seen.areas_px, labels.areas_px[seen.class_ids])
    for _, seen in views_of(size_hw, Detections.unknown(), CONFIGS[name], 3):
        assert len(seen) == 0
        assert seen.boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("size_hw", SIZES_HW)
@pytest.mark.parametrize("name", CONFIGS)
def test_maps_are_of_the_view_and_classes_stay(name, size_hw):
    class_map = rng(1).integers(0, 6, size_hw, np.uint8)
    for _, seen in views_of(size_hw, SegmentationMap(class_map=class_map), CONFIGS[name], 4):
        assert (seen.class_map.shape, seen.class_map.dtype) == ((SIDE, SIDE), np.uint8)
        assert set(np.unique(seen.class_map)) <= {*np.unique(class_map), IGNORE}
        assert seen.confidence is None
    for _, seen in views_of(size_hw, SegmentationMap.unknown(), CONFIGS[name], 2):
        assert seen.class_map.shape == (SIDE, SIDE)
        assert (seen.class_map == IGNORE).all()
    for labels in (ClassLabel.of([4, 2], [0.5, 0.25]), ClassLabel.unknown()):
        for _, seen in views_of(size_hw, labels, CONFIGS[name], 2):
            assert seen.top_class_ids.tolist() == labels.top_class_ids.tolist()
            assert seen.top_scores.tolist() == labels.top_scores.tolist()


@pytest.mark.parametrize("width", [160, 640, 1280])
def test_amounts_in_pixels_are_the_same_share_of_any_image(width):
    config = {"flip_probability": 0, "scale_jitter": (1, 1), "operations": ("TranslateX_BBox",)}
    labels = Detections.of([[0.4 * width, 0, 0.6 * width, width // 2]], [0])
    source = Source.of_pixels(np.zeros((width // 2, width, 3), np.uint8))
    config = AugmentConfig(policy="S4", layers=1, **config)
    _, seen = view(source, labels, 64, rng(), config)
    # 100 of a listing's 640 pixels are 10 of 64.
    assert abs(seen.boxes_xyxy[0, 0] - 0.4 * 64) == pytest.approx(10)
    assert abs(seen.boxes_xyxy[0, 2] - 0.6 * 64) == pytest.approx(10)


# A white square on black, of which every view is bright where its box is. Nothing else is: what
# fills up is 128.
BRIGHT = 190
HEIGHT, WIDTH = 480, 640
SQUARE = (200, 120, 440, 330)
LINES = (
    "Rotate_BBox 1/10 + ShearX_BBox .5/8",
    "TranslateX_BBox 1/2 + Rotate_BBox .5/6",
    "ShearY_BBox 1/10 + TranslateY_BBox .5/1",
)
PLACES = ("Rotate_BBox", "ShearX_BBox", "ShearY_BBox", "TranslateX_BBox", "TranslateY_BBox", "Flip")
OWN = {"autoaugment": "none", "sub_policies": LINES}
MOVING = {
    "S1": AugmentConfig(),
    "S2": AugmentConfig(policy="S2", **OWN),
    "S3": AugmentConfig(policy="S3", **OWN),
    "S4": AugmentConfig(policy="S4", operations=PLACES),
}
FILES = [
    "grey JPEG",
    "JPEG",
    "CMYK JPEG",
    "RGBA PNG",
    "palette PNG",
    "JPEG that lies",
    "PNG that lies",
]


def square_file(folder, kind):
    plane = np.zeros((HEIGHT, WIDTH), np.uint8)
    left, top, right, bottom = SQUARE
    plane[top:bottom, left:right] = 255
    image, options = Image.fromarray(plane), {}
    if "lies" in kind:  # as a camera held upright stores it; its EXIF says to turn it clockwise
        image = image.transpose(Image.Transpose.ROTATE_90)
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
    mode = {"grey": "L", "CMYK": "CMYK", "RGBA": "RGBA", "palette": "P"}.get(kind.split()[0], "RGB")
    path = folder / f"{kind}.{'jpg' if 'JPEG' in kind else 'png'}"
    image.convert(mode).save(path, **options)
    return str(path)


def rows_of(uris, labels):
    return pack(
        image_ids=range(len(uris)),
        uris=uris,
        sizes_hw=[(HEIGHT, WIDTH)] * len(uris),
        labels=labels,
        origin=Origin.HUMAN,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    return [square_file(folder, kind) for kind in FILES]


@pytest.mark.parametrize("size_px", [128, 333])
@pytest.mark.parametrize("policy", MOVING)
def test_the_square_is_under_its_box(files, policy, size_px):
    rows = rows_of(files, [Detections.of([SQUARE], [0])] * len(files))
    for epoch in range(8):
        views = augmented_views(rows, [epoch] * len(files), size_px, MOVING[policy], 0)
        assert views.is_valid.all(), views.reasons
        assert views.sizes_hw.tolist() == [[HEIGHT, WIDTH]] * len(files)
        for kind, shown, seen in zip(FILES, views.pixels, views.labels, strict=True):
            is_bright = (shown > BRIGHT).all(axis=2)
            if not is_bright.any():  # only where the border cuts its box can it be out of sight
                sides = [seen.boxes_xyxy[:, :2] > 1, seen.boxes_xyxy[:, 2:] < size_px - 1]
                assert not np.concatenate(sides, axis=1).all(axis=1).any(), kind
                continue
            (top, left), (bottom, right) = (
                edge(np.argwhere(is_bright), axis=0) for edge in (np.min, np.max)
            )
            found = np.array([left, top, right + 1, bottom + 1])
            if len(seen) == 0:  # less than a pixel of it is left, to the rounding of one
                assert min(found[2:] - found[:2]) <= 2, kind
                continue
            box = seen.boxes_xyxy[0]
            # A pixel of the smaller image is one of the view or less; and one for the blur.
            assert (found[:2] >= box[:2] - 2).all(), kind
            assert (found[2:] <= box[2:] + 2).all(), kind
            if (box[:2] > 1).all() and (box[2:] < size_px - 1).all():
                # Uncut, it is at least half of the hull of a square that is turned by 45 degrees.
                is_cut = (shown == 128).all(axis=2).any()
                assert is_cut or is_bright.sum() > 0.4 * np.prod(box[2:] - box[:2]), kind


def grown(mask, filter_of):
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.array(image.filter(filter_of(5))) > 0


@pytest.mark.parametrize("policy", MOVING)
def test_the_square_is_where_its_map_says(files, policy):
    class_map = np.zeros((HEIGHT, WIDTH), np.uint8)
    left, top, right, bottom = SQUARE
    class_map[top:bottom, left:right] = 1
    rows = rows_of(files, [SegmentationMap(class_map=class_map)] * len(files))
    count = 0
    for epoch in range(8):
        views = augmented_views(rows, [epoch] * len(files), 128, MOVING[policy], 0)
        for kind, shown, seen in zip(FILES, views.pixels, views.labels, strict=True):
            is_bright, is_square = (shown > BRIGHT).all(axis=2), seen.class_map == 1
            assert not (is_bright & ~grown(is_square, ImageFilter.MaxFilter)).any(), kind
            assert not (grown(is_square, ImageFilter.MinFilter) & ~is_bright).any(), kind
            count += is_square.any()
    assert count > 4 * len(FILES)


@pytest.mark.parametrize("kind", [Detections, SegmentationMap, ClassLabel])
@pytest.mark.parametrize("policy", ["S1", "S2", "S3", "S4"])
def test_views_are_the_same_however_they_are_batched(files, policy, kind):
    labels = {
        Detections: Detections.of([SQUARE, (10, 10, 100, 90)], [0, 1]),
        SegmentationMap: SegmentationMap(class_map=np.ones((HEIGHT, WIDTH), np.uint8)),
        ClassLabel: ClassLabel.of([1]),
    }[kind]
    rows, config = rows_of(files, [labels] * len(files)), CONFIGS[policy]
    order = pa.array([3, 0, 6, 1, 0, 5])
    epochs = [0, 1, 2, 3, 4, 5]
    whole = augmented_views(rows.take(order), epochs, 96, config, 7)
    for starts in ([0, 6], [0, 1, 2, 3, 4, 5, 6], [0, 2, 6], [0, 5, 6]):
        for start, end in pairwise(starts):
            part = rows.take(order).slice(start, end - start)
            views = augmented_views(part, epochs[start:end], 96, config, 7)
            np.testing.assert_array_equal(views.pixels, whole.pixels[start:end])
            for one, other in zip(views.labels, whole.labels[start:end], strict=True):
                for name, value in vars(one).items():
                    np.testing.assert_array_equal(value, getattr(other, name))
