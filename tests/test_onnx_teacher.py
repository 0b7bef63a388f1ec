"""ONNX graphs as teachers: every accepted form, against onnxruntime by hand; all others refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from ray import cloudpickle

from ray_st.config import UserError
from ray_st.data.images import Source, fit
from ray_st.data.labels import ClassLabel, Detections, SegmentationMap
from ray_st.data.placed import fitted_hw
from ray_st.labeling.teacher import PredictionError
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

UINT8, FLOAT, INT64 = TensorProto.UINT8, TensorProto.FLOAT, TensorProto.INT64
SIZES = [(40, 64), (90, 50)]
NCHW, NHWC = ["n", 3, "h", "w"], ["n", "h", "w", 3]


def write(path, nodes, given, outputs, constants=(), names="a\nb\nc\n"):
    """A graph of one input `image`, and class names beside it."""
    image = helper.make_tensor_value_info("image", *given)
    made = [helper.make_tensor_value_info(*each) for each in outputs]
    graph = helper.make_graph(nodes, "g", [image], made, initializer=list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    if names is not None:
        path.with_suffix(".txt").write_text(names)
    return f"onnx:{path}"


def constant(name, values, kind=FLOAT):
    array = np.array(values)
    return helper.make_tensor(name, kind, array.shape, array.ravel().tolist())


def node(op, given, out, **extra):
    return helper.make_node(op, given.split(), out.split(), **extra)


def segmenter(path, kind=FLOAT, shape=NCHW, **extra):
    """Colours are logits: red is class a, green b, blue c."""
    logits = [shape[0], 3, *[each for each in shape[1:] if each != 3]]
    nodes = [node("Cast", "image", "cast", to=FLOAT)]
    order = [0, 1, 2, 3] if shape[1] == 3 else [0, 3, 1, 2]
    nodes.append(node("Transpose", "cast", "logits", perm=order))
    return write(path, nodes, (kind, shape), [("logits", FLOAT, logits)], **extra)


def classifier(path, shape=NCHW, **extra):
    nodes = [
        node("ReduceMean", "image", "mean", axes=[2, 3], keepdims=0),
        node("Mul", "mean ten", "logits"),
    ]
    out = [("logits", FLOAT, [shape[0], 3])]
    return write(path, nodes, (FLOAT, shape), out, [constant("ten", [10.0])], **extra)


def detector(path, *, labels=(2, 0), scores=(0.3, 0.9), shape=(1, 3, "h", "w"), batch=False,
             boxes=((1, 2, 9, 8), (4, 4, 12, 10)), names="a\nN/A\nc\n"):  # fmt: skip
    """Two boxes, whatever the image; its mean is added to the scores, 0 times."""
    lead = [[*each] for each in (boxes, scores, labels)]
    values = [np.array([each]) if batch else np.array(each) for each in lead]
    constants = [
        constant("k_boxes", values[0].astype(np.float32)),
        constant("k_scores", values[1].astype(np.float32)),
        constant("k_labels", values[2], INT64),
        constant("zero", [0.0]),
    ]
    nodes = [
        node("ReduceMean", "image", "mean", keepdims=0),
        node("Mul", "mean zero", "none"),
        node("Add", "k_boxes none", "boxes"),
        node("Add", "k_scores none", "scores"),
        node("Identity", "k_labels", "labels"),
    ]
    outputs = [
        (name, kind, [*value.shape])
        for name, kind, value in zip(
            ("boxes", "scores", "labels"), (FLOAT, FLOAT, INT64), values, strict=True
        )
    ]
    return write(path, nodes, (FLOAT, [*shape]), outputs, constants, names=names)


def views(side):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    return np.stack([fit(Source.of_pixels(image), side) for image in images]), np.array(SIZES)


@pytest.mark.parametrize("kind", [UINT8, FLOAT])
@pytest.mark.parametrize("shape", [NCHW, NHWC, [1, 3, 64, 64], ["n", 64, 64, 3], [1, "h", "w", 3]])
def test_every_form_of_input(tmp_path, kind, shape):
    source = open_teacher(segmenter(tmp_path / "g.onnx", kind, shape), Wishes()).source
    assert source.image_size_px == (64 if 64 in shape else 640)
    source = open_teacher(f"onnx:{tmp_path}/g.onnx", Wishes(image_size_px=64)).source
    pixels, sizes_hw = views(64)
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx")
    for i, one in enumerate(source.load("cpu").predict(pixels, sizes_hw)):
        height, width = (64, 64) if 64 in shape else fitted_hw(SIZES[i], 64)
        view = pixels[i : i + 1, :height, :width]
        view = view if kind == UINT8 else view.astype(np.float32) / 255
        view = view if shape[3] == 3 else view.transpose(0, 3, 1, 2)
        (logits,) = session.run(None, {"image": np.ascontiguousarray(view)})
        assert isinstance(one, SegmentationMap)
        assert one.class_map.shape == SIZES[i]
        if i == 0:  # which fits its view without scaling
            np.testing.assert_array_equal(one.class_map, logits[0].argmax(0)[:40, :64])
            shares = torch.from_numpy(logits).softmax(1)[0].max(0).values.numpy()[:40, :64]
            np.testing.assert_allclose(one.confidence / 255, shares, atol=1.5 / 255)


def test_a_classifier(tmp_path):
    opened = open_teacher(classifier(tmp_path / "g.onnx"), Wishes(image_size_px=32))
    merged = open_teacher(f"onnx:{tmp_path}/g.onnx", Wishes(image_size_px=32), None, ["a=x", "c=x"])
    assert opened.source.task.name == "classification"
    assert merged.source.classes == ("x", "b")
    assert merged.source.digest != opened.source.digest
    pixels, sizes_hw = views(32)
    both = merged.source.load("cpu").predict(pixels, sizes_hw)
    travelled = cloudpickle.loads(cloudpickle.dumps(opened.source))  # as it does to an actor
    for i, one in enumerate(travelled.load("cpu").predict(pixels, sizes_hw)):
        assert isinstance(one, ClassLabel)
        height, width = fitted_hw(SIZES[i], 32)
        mean = pixels[i, :height, :width].reshape(-1, 3).mean(0) / 255 * 10
        shares = np.exp(mean) / np.exp(mean).sum()
        order = np.argsort(-shares)
        assert one.top_class_ids.tolist() == order.tolist()
        np.testing.assert_allclose(one.top_scores, shares[order], rtol=1e-4)
        of_x = both[i].top_scores[both[i].top_class_ids.tolist().index(0)]
        assert of_x == pytest.approx(shares[0] + shares[2], rel=1e-4)


@pytest.mark.parametrize(("batch", "shape"), [(False, (1, 3, "h", "w")), (True, (1, "h", "w", 3))])
def test_a_detector(tmp_path, batch, shape):
    source = open_teacher(detector(tmp_path / "g.onnx", shape=shape, batch=batch), Wishes()).source
    assert source.classes == ("a", "c")
    pixels, sizes_hw = views(32)
    for i, one in enumerate(source.load("cpu").predict(pixels, sizes_hw)):
        assert isinstance(one, Detections)
        assert one.class_ids.tolist() == [0, 1]
        assert one.scores.tolist() == pytest.approx([0.9, 0.3])
        height, width = fitted_hw(SIZES[i], 32)
        scale = np.tile([SIZES[i][1] / width, SIZES[i][0] / height], 2)
        wanted = np.array([[4, 4, 12, 10], [1, 2, 9, 8]]) * scale
        np.testing.assert_allclose(one.boxes_xyxy, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"labels": (2, 3)}, "labels must be 0..2, got 3"),
        ({"labels": (-1, 0)}, "labels must be 0..2, got -1"),
        ({"scores": (0.3, float("nan"))}, "boxes and scores must be finite numbers, got NaN"),
        ({"boxes": ((1, 2, 9, 8),) * 3}, r"must be \(n, m, 4\), \(n, m\), \(n, m\), got \(1, 3, 4"),
        ({"boxes": ((1, 2, 9),) * 2}, r"got \(1, 2, 3\), \(1, 2\), \(1, 2\) for 1 images"),
    ],
)
def test_answers_that_are_no_labels(tmp_path, changes, line):
    source = open_teacher(detector(tmp_path / "g.onnx", **changes), Wishes()).source
    with pytest.raises(PredictionError, match=line):
        source.load("cpu").predict(*views(32))


def test_logits_that_are_no_numbers(tmp_path):
    nodes = [node("ReduceMean", "image", "mean", axes=[2, 3], keepdims=0)]
    nodes.append(node("Add", "mean nan", "logits"))
    values, outputs = [constant("nan", [float("nan")])], [("logits", FLOAT, ["n", 3])]
    uri = write(tmp_path / "g.onnx", nodes, (FLOAT, NCHW), outputs, values)
    with pytest.raises(PredictionError, match="logits must be numbers, got NaN"):
        open_teacher(uri, Wishes()).source.load("cpu").predict(*views(32))


def test_a_graph_that_fails_on_an_image(tmp_path):
    nodes = [node("Reshape", "image shape", "logits")]
    values = [constant("shape", [1, 3, 7, 11], INT64)]
    outputs = [("logits", FLOAT, [1, 3, 7, 11])]
    uri = write(tmp_path / "g.onnx", nodes, (FLOAT, [1, 3, "h", "w"]), outputs, values)
    with pytest.raises(PredictionError, match=r"the graph cannot be run \(.*Reshape"):
        open_teacher(uri, Wishes()).source.load("cpu").predict(*views(32))


def test_padding_behind_the_boxes_may_bear_any_label(tmp_path):
    source = open_teacher(detector(tmp_path / "g.onnx", labels=(-1, 2), scores=(0, 0.9)), Wishes())
    found = source.source.load("cpu").predict(*views(32))
    assert [one.class_ids.tolist() for one in found] == [[1], [1]]


_DOUBLE = TensorProto.DOUBLE
_FOUND = r"must have one input of .*; found input image tensor\({}\) \[.*\], output {}"


@pytest.mark.parametrize(
    ("given", "outputs", "line"),
    [
        ((_DOUBLE, NCHW), "logits", _FOUND.format("double", r"logits tensor\(double\)")),
        ((FLOAT, ["n", 4, "h", "w"]), "logits", _FOUND.format("float", "logits")),
        ((FLOAT, ["n", 3, "w"]), "logits", _FOUND.format("float", "logits")),
        ((FLOAT, [8, 3, "h", "w"]), "logits", _FOUND.format("float", "logits")),
        ((FLOAT, ["n", 3, 64, 32]), "logits", _FOUND.format("float", "logits")),
        ((FLOAT, ["n", 3, 64, "w"]), "logits", _FOUND.format("float", "logits")),
        ((FLOAT, NCHW), "scores", _FOUND.format("float", r"scores tensor\(float\)")),
    ],
)
def test_other_graphs_are_refused_by_what_was_found(tmp_path, given, outputs, line):
    nodes = [node("Identity", "image", outputs)]
    uri = write(tmp_path / "g.onnx", nodes, given, [(outputs, *given)])
    with pytest.raises(UserError, match=line) as caught:
        open_teacher(uri, Wishes())
    assert "\n" not in str(caught.value)


def test_files_that_are_no_teacher(tmp_path):
    path = tmp_path / "g.onnx"
    with pytest.raises(UserError, match=r"teacher: .*g\.onnx is no file; check the path"):
        open_teacher(f"onnx:{path}", Wishes())
    classifier(path, names=None)
    with pytest.raises(UserError, match=r"names no classes; write them to .*g\.txt, a line each"):
        open_teacher(f"onnx:{path}", Wishes())
    path.with_suffix(".txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"has logits of 3 classes, .*g\.txt names 2; write one"):
        open_teacher(f"onnx:{path}", Wishes())
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"g\.onnx cannot be read "):
        open_teacher(f"onnx:{path}", Wishes())
    fixed = segmenter(tmp_path / "f.onnx", shape=["n", 3, 64, 64])
    with pytest.raises(UserError, match=r"image_size_px: must be 64 or left out, .* got 96"):
        open_teacher(fixed, Wishes(image_size_px=96))
