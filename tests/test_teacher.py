"""Pixels of views in, boxes of source images out."""

import numpy as np
import pytest
import torch
from tiny import tiny_batch, tiny_model, tiny_task

from ray_st.data.images import Source, fit
from ray_st.data.labels import ClassLabel, Detections, SegmentationMap
from ray_st.data.placed import fitted_hw
from ray_st.labeling.teacher import Teacher

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SIDE = 64


class Means(torch.nn.Module):
    """Each image's mean colour: enough to see which pixels came, and in which order."""

    def forward(self, pixels):
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1:] == (3, SIDE, SIDE)
        assert len(pixels) == 0 or pixels.is_contiguous(memory_format=torch.channels_last)
        assert torch.is_inference_mode_enabled()
        return pixels.float().mean(dim=(2, 3))


class Known:
    """Answers with the boxes given, in view pixels; scores tell which image was seen."""

    def __init__(self, boxes):
        self.boxes = boxes

    def predictions(self, outputs, size_hw):
        assert size_hw == (SIDE, SIDE)
        return [
            Detections.of(boxes, [2] * len(boxes), scores=[float(mean[0]) / 255] * len(boxes))
            for boxes, mean in zip(self.boxes, outputs, strict=True)
        ]


def predicted(boxes, sizes_hw, reds=None):
    pixels = np.zeros((len(sizes_hw), SIDE, SIDE, 3), np.uint8)
    pixels[..., 0] = np.reshape(range(len(sizes_hw)) if reds is None else reds, (-1, 1, 1))
    pixels.flags.writeable = False  # as Arrow gives them
    return Teacher(Means(), Known(boxes)).predict(pixels, np.array(sizes_hw).reshape(-1, 2))


@pytest.mark.parametrize(
    ("size_hw", "view_box", "source_box"),
    [
        ((64, 64), [1, 2, 3, 4], [1, 2, 3, 4]),
        ((128, 128), [1, 2, 3, 4], [2, 4, 6, 8]),
        # 101 high, 37 wide: 64 rows, round(37 * 64 / 101) = 23 columns.
        ((101, 37), [0, 0, 23, 64], [0, 0, 37, 101]),
        ((101, 37), [11.5, 16, 23, 32], [18.5, 25.25, 37, 50.5]),
        ((101, 37), [10, 10, 64, 64], [10 * 37 / 23, 10 * 101 / 64, 37, 101]),  # from the padding
        # 3 high, 500 wide: round(3 * 64 / 500) = 0, so 1 row.
        ((3, 500), [32, 0, 64, 1], [250, 0, 500, 3]),
        ((1, 1), [16, 16, 32, 64], [0.25, 0.25, 0.5, 1]),
    ],
)
def test_boxes_come_back_in_source_pixels(size_hw, view_box, source_box):
    (found,) = predicted([[view_box]], [size_hw])
    np.testing.assert_allclose(found.boxes_xyxy, [source_box], rtol=1e-6)
    assert found.boxes_xyxy.dtype == np.float32
    assert found.class_ids.tolist() == [2]


def test_each_image_gets_its_own_boxes_and_an_empty_one_none():
    boxes = [[[0, 0, 8, 8], [1, 1, 9, 9]], [], [[0, 0, 8, 8]]]
    found = predicted(boxes, [(64, 64), (10, 10), (32, 32)], reds=[51, 0, 102])
    assert [len(one) for one in found] == [2, 0, 1]
    assert found[0].boxes_xyxy.tolist() == boxes[0]
    assert found[2].boxes_xyxy.tolist() == [[0, 0, 4, 4]]
    assert found[0].scores.tolist() == pytest.approx([0.2, 0.2])
    assert found[2].scores.tolist() == pytest.approx([0.4])


class Fixed:
    """Answers with the labels given, whatever it is shown."""

    def __init__(self, labels):
        self.labels, self.kind = labels, type(labels[0])

    def predictions(self, outputs, size_hw):
        assert size_hw == (SIDE, SIDE)
        return self.labels[: len(outputs)]


@pytest.mark.parametrize("size_hw", [(64, 64), (101, 37), (3, 500), (1, 1), (128, 128)])
def test_maps_come_back_at_the_size_of_the_source(size_hw):
    # In the view, class 1 fills the image's own place and class 2 the padding below or beside it.
    height, width = fitted_hw(size_hw, SIDE)
    class_map = np.full((SIDE, SIDE), 2, np.uint8)
    class_map[:height, :width] = 1
    confidence = np.where(class_map == 1, 200, 9).astype(np.uint8)
    task = Fixed([SegmentationMap(class_map=class_map, confidence=confidence)])
    teacher = Teacher(Means(), task)
    pixels = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    (found,) = teacher.predict(pixels, np.array([size_hw]))
    assert teacher.kind is SegmentationMap
    assert found.class_map.shape == found.confidence.shape == size_hw
    assert (found.class_map == 1).all()
    assert (found.confidence == 200).all()


def test_classes_come_back_as_they_are():
    labels = [ClassLabel.of([4, 2], [0.7, 0.2]), ClassLabel.unknown()]
    teacher = Teacher(Means(), Fixed(labels))
    found = teacher.predict(np.zeros((2, SIDE, SIDE, 3), np.uint8), np.array([(9, 5), (5, 9)]))
    assert teacher.kind is ClassLabel
    assert [one.top_class_ids.tolist() for one in found] == [[4, 2], []]
    assert found[0].top_scores.tolist() == labels[0].top_scores.tolist()


def test_no_image():
    assert predicted([], []) == []


def test_a_real_detector_labels_odd_sizes_whatever_stands_beside_them():
    model, task = tiny_model().eval(), tiny_task()
    torch.nn.init.constant_(model.classes.predict.bias, -2.0)  # 0.12 a class: above the floor
    sizes_hw = np.array([(33, 64), (200, 31), (64, 64), (5, 7)])
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes_hw]
    pixels = np.stack([fit(Source.of_pixels(image), SIDE) for image in images])
    together = Teacher(model, task).predict(pixels, sizes_hw)
    for i, (one, (height, width)) in enumerate(zip(together, sizes_hw, strict=True)):
        assert len(one) > 0
        assert one.boxes_xyxy.min() >= 0
        assert (one.boxes_xyxy <= [width, height, width, height]).all()
        assert (one.scores[:-1] >= one.scores[1:]).all()
        (alone,) = Teacher(model, task).predict(pixels[i : i + 1], sizes_hw[i : i + 1])
        assert len(alone) == len(one)
        np.testing.assert_allclose(alone.scores, one.scores, atol=1e-5)


def test_predicting_leaves_the_model_as_it_was():
    model = tiny_model().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pixels = tiny_batch().pixels.permute(0, 2, 3, 1).numpy()
    Teacher(model, tiny_task()).predict(pixels, np.full((4, 2), SIDE))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
