"""Object detectors of transformers as teachers, against their own processors by hand."""

import json
import sys

import numpy as np
import pytest
import torch
from ray import cloudpickle
from transformers import ViTConfig, ViTForImageClassification, YolosConfig, YolosForObjectDetection
from transformers import YolosImageProcessor as Processor

from ray_st.config import UserError
from ray_st.data.images import Source, fit
from ray_st.data.labels import Detections
from ray_st.data.placed import fitted_hw
from ray_st.labeling.teacher import PredictionError
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes
from ray_st.tasks.detection import DetectConfig

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES = [(40, 64), (90, 50), (20, 80)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("yolos")
    torch.manual_seed(0)
    names = {0: "N/A", 1: "cat", 2: "dog"}
    config = YolosConfig(
        **SMALL, intermediate_size=16, image_size=[64, 64], patch_size=16, num_detection_tokens=6,
        id2label=names, label2id={name: k for k, name in names.items()},
    )  # fmt: skip
    model = YolosForObjectDetection(config)
    for parameter in model.parameters():  # else every answer is the same
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(path)
    Processor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(path)
    return path


@torch.inference_mode()
def test_boxes_are_those_of_its_own_processor(folder):
    wishes = Wishes(image_size_px=64, detect=DetectConfig(score_floor=0.1, max_detections=4))
    source = open_teacher(f"hf:{folder}", wishes).source
    assert source.classes == ("cat", "dog")
    assert (source.task.name, source.image_size_px) == ("detection", 64)
    teacher = cloudpickle.loads(cloudpickle.dumps(source)).load("cpu")  # as it does to an actor
    assert teacher.kind is Detections
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    pixels = np.stack([fit(Source.of_pixels(image), 64) for image in images])
    model = YolosForObjectDetection.from_pretrained(folder).eval()
    processor, seen = Processor.from_pretrained(folder), 0
    for i, found in enumerate(teacher.predict(pixels, np.array(SIZES))):
        size = height, width = fitted_hw(SIZES[i], 64)
        view = pixels[i, :height, :width]
        inputs = processor(images=view, return_tensors="pt", input_data_format="channels_last")
        (raw,) = processor.post_process_object_detection(
            model(**inputs), threshold=0.1, target_sizes=[size]
        )
        order = raw["scores"].argsort(descending=True)
        order = order[raw["labels"][order] > 0][:4]
        scale = np.tile([SIZES[i][1] / width, SIZES[i][0] / height], 2)
        limits = np.tile([SIZES[i][1], SIZES[i][0]], 2)
        boxes = (raw["boxes"][order].numpy() * scale).clip(0, limits)
        np.testing.assert_allclose(found.scores, raw["scores"][order], atol=1e-5)
        np.testing.assert_allclose(found.boxes_xyxy, boxes, atol=1e-2)
        assert found.class_ids.tolist() == (raw["labels"][order] - 1).tolist()
        seen += len(order)
    assert seen > 0


def test_an_image_that_its_processor_cannot_take_is_named(folder):
    teacher = open_teacher(f"hf:{folder}", Wishes(image_size_px=64)).source.load("cpu")
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    with pytest.raises(PredictionError, match=r"could not label 1 x 64 pixels \(Size must"):
        teacher.predict(pixels, np.array([(40, 64), (3, 300)]))
    assert len(teacher.predict(pixels[:1], np.array([(40, 64)]))) == 1


def test_a_digest_is_of_weights_and_pixels_and_not_of_the_place(folder, tmp_path):
    def copied(name, change=lambda _: None):
        path = tmp_path / name
        path.mkdir()
        for file in folder.iterdir():
            (path / file.name).write_bytes(file.read_bytes())
        change(path)
        return open_teacher(f"hf:{path}", Wishes()).source.digest

    def other_pixels(path):
        file = path / "preprocessor_config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps({**config, "image_mean": [0.5, 0.5, 0.5]}))

    own = open_teacher(f"hf:{folder}", Wishes()).source.digest
    assert copied("same") == own
    assert copied("other", other_pixels) != own
    assert open_teacher(f"hf:{folder}", Wishes(image_size_px=96)).source.digest != own


def test_its_classes_can_be_mapped(folder):
    opened = open_teacher(f"hf:{folder}", Wishes(), None, {"cat": "pet", "dog": "pet"})
    assert opened.source.classes == ("pet",)
    assert opened.is_foreign


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("no/such/folder", "teacher: hf:no/such/folder is no folder; check the path"),
        ("empty", "teacher: hf:empty cannot be read as an object detector "),
        ("damaged", "teacher: hf:damaged cannot be read as an object detector "),
        ("classifier", "teacher: hf:classifier cannot be read as an object detector "),
        ("lacking", "teacher: hf:lacking lacks 1 tensors of its model .class_labels_classifier"),
        ("silent", "teacher: hf:silent cannot be read as an object detector "),
    ],
)
def test_what_is_no_detector_is_one_line(folder, tmp_path, monkeypatch, name, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for made in ("empty", "damaged", "lacking", "silent"):
        (tmp_path / made).mkdir()
        for file in () if made == "empty" else folder.iterdir():
            (tmp_path / made / file.name).write_bytes(file.read_bytes())
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"{")
    (tmp_path / "silent" / "preprocessor_config.json").unlink()
    model = YolosForObjectDetection.from_pretrained(folder)
    state = {k: v for k, v in model.state_dict().items() if "labels_classifier.layers.2.b" not in k}
    model.save_pretrained(tmp_path / "lacking", state_dict=state)
    config = ViTConfig(**SMALL, intermediate_size=16, image_size=32, patch_size=16)
    ViTForImageClassification(config).save_pretrained(tmp_path / "classifier")
    with pytest.raises(UserError, match=line) as caught:
        open_teacher(f"hf:{name}", Wishes())
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_one_line(monkeypatch):
    for package, uri in (("transformers", "hf:x"), ("onnxruntime", "onnx:x")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=f"teacher: {uri[:-1]} needs the package {package} .*; "
                                            f"run `pip install {package}`$"):  # fmt: skip
            open_teacher(uri, Wishes())
