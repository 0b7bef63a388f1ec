"""`ray-st export-model`: files that other programs run, against the models that they came from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from test_cli import dry, refused
from test_folded import lived_in

from ray_st.cli import main
from ray_st.config import UserError
from ray_st.data.images import Source, fit
from ray_st.data.labels import ClassLabel, Detections, SegmentationMap
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.teacher import SavedTeacher
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes
from ray_st.models import ModelConfig, build
from ray_st.models.saved import ModelCard, SavedModel, read_model, save_model
from ray_st.portable.files import require_format
from ray_st.portable.pictures import noise_views
from ray_st.portable.stage import export_model_stage
from ray_st.tasks import make_task
from ray_st.tasks.detection import DetectConfig

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

CLASSES = ("cat", "dog", "fox")
TINY = {
    "backbone": "test_resnet", "levels": (3, 4), "image_size_px": 64, "channels": 16,
    "head_convs": 1,
}  # fmt: skip
SPINENET = {"backbone": "spinenet49s", "pyramid": "none", "levels": (3, 7), "image_size_px": 128}
NASFPN = {"pyramid": "nasfpn", "levels": (3, 7), "image_size_px": 128, "pyramid_repeats": 1}
FEW = DetectConfig(max_detections=20)
PAGE = Path(__file__).parents[1] / "docs" / "model_export.md"
NO_IMAGES = np.zeros((0, 0, 0, 3), np.uint8)


def make(folder, task, **changes):
    """A model folder, with outputs as varied as a trained model's."""
    config = ModelConfig(**{**TINY, **changes})
    torch.manual_seed(0)
    model = lived_in(build(config, task, len(CLASSES)))
    views = torch.from_numpy(noise_views(config.image_size_px)).permute(0, 3, 1, 2)
    with torch.no_grad():
        outputs = model(views)
        if task == "detection":
            model.classes.predict.weight *= 2 / outputs.class_logits.std()
            model.boxes.predict.weight *= 0.3 / outputs.box_codes.std()  # not far from anchors
        else:  # logits of each class around 0, with a deviation of 2
            model.predict.bias -= outputs.transpose(0, 1).flatten(1).mean(dim=1)
            scale = 2 / model(views).std()
            model.predict.weight *= scale
            model.predict.bias *= scale
    card = ModelCard(task=task, classes=CLASSES, model=config, preprocessing={})
    save_model(folder, model, card)
    return str(folder)


def export(folder, form, out, *, outputs="labels", detect=FEW):
    """The stage that the verb runs, without the command line around it."""
    saved = read_model(folder, "model")
    task = make_task(saved.card.task, saved.card.model, len(CLASSES), detect)
    out.mkdir()
    side = saved.card.model.image_size_px
    images = NO_IMAGES.reshape(0, side, side, 3)
    return export_model_stage(saved, task, form, outputs, images, out)


def assert_close(summary):
    """Something was compared, and the differences are those of rounding."""
    checked = summary["checked"]
    assert checked["compared"] > (30 if checked["what"] == "boxes" else 11)
    assert summary["warnings"] == []
    largest = dict(checked["largest"])
    assert largest.pop("boxes_px", 0) < 0.005
    assert largest.pop("boxes", 0) < 0.05
    assert largest
    for value in largest.values():
        assert value < 1e-4


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("detection", {"backbone": "test_efficientnet"}),
        ("detection", {"backbone": "resnet18", **NASFPN}),
        ("detection", SPINENET),
        ("detection", {"image_size_px": 100, "levels": (2, 5)}),  # odd maps: 25, 13, 7, 4
        ("segmentation", {"backbone": "resnet18", "image_size_px": 65, "levels": (2, 5)}),
        ("segmentation", {"backbone": "test_efficientnet", "separable": True, **NASFPN}),
        ("classification", {"backbone": "efficientnet_b0"}),
        ("classification", {"backbone": "tf_mobilenetv2_100"}),
    ],
)
def test_every_architecture_as_torch(tmp_path, task, changes):
    folder = make(tmp_path / "model", task, **changes)
    assert_close(export(folder, "torch", tmp_path / "out"))


@pytest.mark.parametrize(
    ("task", "changes", "outputs"),
    [
        ("segmentation", {"backbone": "test_efficientnet", **NASFPN}, "labels"),
        ("classification", SPINENET, "labels"),
    ],
)
def test_onnx(tmp_path, task, changes, outputs):
    folder = make(tmp_path / "model", task, **changes)
    assert_close(export(folder, "onnx", tmp_path / "out", outputs=outputs))


@pytest.mark.parametrize("settings", [{"nms": "soft"}, {"candidates": "level"}])
def test_other_rules_for_boxes(tmp_path, settings):
    folder = make(tmp_path / "model", "detection")
    detect = DetectConfig(max_detections=20, max_candidates=100, **settings)
    assert_close(export(folder, "torch", tmp_path / "out", detect=detect))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A detector, its graph as the verb leaves it, and images of several shapes."""
    root = tmp_path_factory.mktemp("detector")
    make(root / "model", "detection")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    for i, size_hw in enumerate([(40, 64), (90, 50), (64, 64), (7, 200)]):
        pixels = rng.integers(0, 256, (*size_hw, 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
    (root / "images" / "broken.png").write_bytes(b"no image")
    words = ["export-model", "--model", str(root / "model"), "--format", "onnx"]
    words += ["--images", str(root / "images"), "--out", str(root / "graph")]
    assert main([*words, "--detect.max-detections", "20"]) == 0
    return root


def read(folder, name="export.json"):
    return json.loads((folder / name).read_text())


def views_of(root):
    sources = [Source(path.read_bytes()) for path in sorted((root / "images").glob("?.png"))]
    return np.stack([fit(each, 64) for each in sources]), np.array([s.size_hw for s in sources])


def teacher(root):
    saved = read_model(root / "model", "model")
    task = make_task("detection", saved.card.model, len(CLASSES), FEW)
    return SavedTeacher(saved=saved, task=task)


def assert_same_boxes(found, expected):
    """One by one; these images have no near ties."""
    assert sum(map(len, expected)) > 30
    for one, wanted in zip(found, expected, strict=True):
        assert one.class_ids.tolist() == wanted.class_ids.tolist()
        np.testing.assert_allclose(one.scores, wanted.scores, atol=1e-5)
        np.testing.assert_allclose(one.boxes_xyxy, wanted.boxes_xyxy, atol=0.02)


def test_what_the_verb_leaves(detector):
    left = {path.name for path in (detector / "graph").iterdir()} - {".lock"}
    assert left == {"recipe.yaml", "model.onnx", "model.txt", "export.json", "summary.json"}
    summary, card = read(detector / "graph", "summary.json"), read(detector / "graph")
    assert_close(summary)
    assert summary["checked"]["images"] == 3 + 4  # noise, and the images that can be read
    assert card["checked"] == summary["checked"]
    assert card["model_sha256"] == read_model(detector / "model", "model").digest
    assert (card["classes"], card["detect"]["max_detections"]) == ([*CLASSES], 20)
    assert (card["view"]["side_px"], card["view"]["pad_rgb"]) == (64, [124, 116, 104])


def test_the_card_says_what_the_graph_takes_and_gives(detector):
    file, card = detector / "graph" / "model.onnx", read(detector / "graph")
    onnx.checker.check_model(onnx.load(file), full_check=True)
    session = onnxruntime.InferenceSession(file)
    types = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}
    for told, found in (
        ([card["input"]], session.get_inputs()),
        (card["outputs"], session.get_outputs()),
    ):
        assert [(one["name"], one["dtype"], one["shape"]) for one in told] == [
            (one.name, types[one.type], one.shape) for one in found
        ]
    content = file.read_bytes()
    assert str(Path(__file__).parents[1]).encode() not in content  # no path of this machine
    assert b"site-packages" not in content


def test_any_number_of_images(detector):
    """Each image's rows are the same alone and among others."""
    session = onnxruntime.InferenceSession(detector / "graph" / "model.onnx")
    pixels = noise_views(64).transpose(0, 3, 1, 2)[[0, 1, 2, 1, 0]]
    together = session.run(None, {"pixels": pixels})
    assert together[3].max() > 5
    for i in range(5):
        alone = session.run(None, {"pixels": pixels[i : i + 1]})
        for many, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(many[i], one[0], atol=1e-3)


def test_an_exported_detector_is_a_teacher(detector, capsys):
    uri = f"onnx:{detector}/graph/model.onnx"
    words = ["label", "--images", str(detector / "images"), "--teacher", uri]
    assert main([*words, "--out", str(detector / "labels"), "--dry-run"]) == 0
    source = open_teacher(uri, Wishes(detect=FEW)).source
    assert (source.classes, source.image_size_px) == (CLASSES, 64)
    pixels, sizes_hw = views_of(detector)
    found = source.load("cpu").predict(pixels, sizes_hw)
    assert_same_boxes(found, teacher(detector).load("cpu").predict(pixels, sizes_hw))


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_exported_logits_are_a_teacher(tmp_path, task):
    folder = make(tmp_path / "model", task)
    export(folder, "onnx", tmp_path / "out", outputs="logits")
    saved = read_model(folder, "model")
    ours = SavedTeacher(saved=saved, task=make_task(task, saved.card.model, len(CLASSES)))
    looks = ours.looks(LabelConfig())
    pixels, sizes_hw = noise_views(64), np.array([[64, 64], [50, 50], [8, 4]])
    source = open_teacher(f"onnx:{tmp_path}/out/model.onnx", Wishes()).source
    both = zip(
        source.load("cpu").predict(pixels, sizes_hw),
        ours.load("cpu", looks).predict(pixels, sizes_hw),
        strict=True,
    )
    for one, wanted in both:
        if isinstance(one, SegmentationMap):
            assert (one.class_map != wanted.class_map).mean() < 0.001
            assert len(np.unique(wanted.class_map)) > 1
        else:
            assert isinstance(one, ClassLabel)
            assert one.top_class_ids.tolist() == wanted.top_class_ids.tolist()
            np.testing.assert_allclose(one.top_scores, wanted.top_scores, atol=1e-5)


def test_the_code_of_the_page(detector, tmp_path, monkeypatch, capsys):
    """The block labels an image as our own teacher does."""
    (code,) = [part.partition("```")[0] for part in PAGE.read_text().split("```python\n")[1:]]
    assert code.count("\n") <= 20
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "detector").symlink_to(detector / "graph")
    (tmp_path / "photo.jpg").symlink_to(detector / "images" / "0.png")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    scope = {}
    exec(compile(code, str(PAGE), "exec"), scope)
    lines = capsys.readouterr().out.splitlines()
    pixels, sizes_hw = views_of(detector)
    (wanted,) = teacher(detector).load("cpu").predict(pixels[:1], sizes_hw[:1])
    assert len(lines) == len(wanted) > 5
    for line, k, score, box in zip(
        lines, wanted.class_ids, wanted.scores, wanted.boxes_xyxy, strict=True
    ):
        name, said, *sides = line.split()
        assert name == CLASSES[k]
        assert float(said) == pytest.approx(score, abs=0.002)
        assert [float(side) for side in sides] == pytest.approx(box.tolist(), abs=0.1)


ALONE = """
import sys
import numpy, torch
program = torch.export.load(sys.argv[1]).module()
named = program(torch.from_numpy(numpy.load(sys.argv[2])))
numpy.savez(sys.argv[3], **{name: value.numpy() for name, value in named.items()})
assert not {"ray_st", "torchvision", "timm", "ray"} & {*sys.modules}
"""


def test_torch_alone_runs_a_torch_file(tmp_path):
    folder = make(tmp_path / "model", "detection")
    export(folder, "torch", tmp_path / "out")
    pixels = np.ascontiguousarray(noise_views(64).transpose(0, 3, 1, 2))
    np.save(tmp_path / "pixels.npy", pixels)
    files = ["out/model.pt2", "pixels.npy", "results.npz"]
    words = [sys.executable, "-c", ALONE, *(str(tmp_path / name) for name in files)]
    here = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(words, env=here, cwd=tmp_path, check=True)
    got, sizes_hw = np.load(tmp_path / "results.npz"), np.full((3, 2), 64)
    assert [one["name"] for one in read(tmp_path / "out")["outputs"]] == [*got]
    wanted = teacher(tmp_path).load("cpu").predict(noise_views(64), sizes_hw)
    rows = [slice(int(n)) for n in got["count"]]
    found = [
        Detections.of(got["boxes"][i, n], got["labels"][i, n], scores=got["scores"][i, n])
        for i, n in enumerate(rows)
    ]
    assert_same_boxes(found, wanted)


class Shaky(SavedModel):
    """A model that is another one each time it is loaded."""

    def load(self, device="cpu"):
        model = super().load(device)
        with torch.no_grad():
            model.predict.bias += torch.randn(len(CLASSES))
        return model


def test_a_file_that_differs_is_not_kept(tmp_path):
    saved = read_model(make(tmp_path / "model", "classification"), "model")
    shaky = Shaky(weights=saved.weights, card=saved.card)
    task = make_task("classification", saved.card.model, len(CLASSES))
    (tmp_path / "out").mkdir()
    images = NO_IMAGES.reshape(0, 64, 64, 3)
    line = (
        r"format: the torch file gave other results than the model \(.*differs by .*\), so it was"
    )
    with pytest.raises(UserError, match=line) as caught:
        export_model_stage(shaky, task, "torch", "labels", images, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [*(tmp_path / "out").iterdir()] == []


def test_a_model_that_finds_nothing_says_that_boxes_were_not_compared(tmp_path):
    folder = make(tmp_path / "model", "detection")
    sure = DetectConfig(score_floor=0.9999999)
    (warning,) = export(folder, "torch", tmp_path / "out", detect=sure)["warnings"]
    assert warning.startswith("the model found no box on the images of the check")


def test_mistakes(detector, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["export-model", "--model", str(detector / "model"), "--format", "onnx"]
    (tmp_path / "bad").mkdir()
    assert refused(capsys, [*words, "--images", "bad"], detector).startswith("images: bad")
    (tmp_path / "bad" / "1.jpg").write_bytes(b"no image")
    line = refused(capsys, [*words, "--images", "bad"], detector)
    assert line.startswith("images: none of the first 1 can be read (not an image")
    assert refused(capsys, [*words, "--format", "tensorrt"], detector).startswith("format: ")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    line = refused(capsys, words, detector)
    assert line.startswith("format: onnx needs the package onnxscript ")
    assert "pip install onnx onnxscript onnxruntime`" in line
    dry(capsys, [*words, "--format", "torch"], detector)


def test_two_gigabytes_are_too_much_for_one_graph():
    class Long(bytes):
        def __len__(self):
            return 2**31

    card = ModelCard(task="detection", classes=CLASSES, model=ModelConfig(), preprocessing={})
    with pytest.raises(
        UserError, match=r"format: one file of onnx holds 2 GiB, this model has 2\.0"
    ):
        require_format("onnx", SavedModel(weights=Long(), card=card))


def test_class_names_that_do_not_fit_a_line_each(tmp_path, capsys):
    from ray_st.portable.stage import _name_classes

    (warning,) = _name_classes(["cat", "a\nb"], "onnx", tmp_path)
    assert warning == "class names do not all fit a line each: model.txt was left out"
    assert _name_classes(["cat", " "], "onnx", tmp_path) == [warning]
    assert [*tmp_path.iterdir()] == []
    assert _name_classes(["żuk", "a & b"], "onnx", tmp_path) == []
    assert (tmp_path / "model.txt").read_text("utf-8") == "żuk\na & b\n"
