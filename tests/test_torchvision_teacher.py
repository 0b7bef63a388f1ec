"""torchvision's models as teachers: what they say by hand, in source pixels, and no downloads."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from ray import cloudpickle
from torchvision.models import get_model, get_model_weights

from ray_st.config import UserError
from ray_st.data.images import Source, fit
from ray_st.data.labels import ClassLabel, Detections, SegmentationMap
from ray_st.data.placed import fitted_hw
from ray_st.labeling.teachers import torchvision_model as module
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes
from ray_st.labeling.teachers.torchvision_model import published
from ray_st.tasks.detection import DetectConfig

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SSD, LRASPP, SMALL = (
    "ssdlite320_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
    "mobilenet_v3_small",
)
SIZES = [(40, 64), (90, 50), (80, 128)]


def network_of(name, **extra):
    torch.manual_seed(0)
    if name != SMALL:
        extra["weights_backbone"] = None
    return get_model(name, weights=None, **extra).eval()


def saved(tmp_path, name, **extra):
    network = network_of(name, **extra)
    torch.save(network.state_dict(), tmp_path / f"{name}.pth")
    return network, f"torchvision:{name}:{tmp_path / name}.pth"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where torchvision looks for its downloads: an empty folder."""
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def images_and_views(side):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    return np.stack([fit(Source.of_pixels(image), side) for image in images]), np.array(SIZES)


def alone(pixels, i):
    """The view of image i without its padding, (1, 3, h, w)."""
    height, width = fitted_hw(SIZES[i], pixels.shape[1])
    return torch.from_numpy(pixels[i, :height, :width]).permute(2, 0, 1)[None]


@torch.inference_mode()
def test_a_detector(tmp_path):
    network, uri = saved(tmp_path, SSD)
    wishes = Wishes(image_size_px=96, detect=DetectConfig(score_floor=0.0, max_detections=20))
    source = open_teacher(uri, wishes).source
    names = get_model_weights(SSD).DEFAULT.meta["categories"]
    assert len(names) == 91
    assert len(source.classes) == 80
    assert not {"__background__", "N/A"} & {*source.classes}
    assert source.image_size_px == 96
    teacher = cloudpickle.loads(cloudpickle.dumps(source)).load("cpu")
    assert teacher.kind is Detections
    pixels, sizes_hw = images_and_views(96)
    seen = 0
    for i, found in enumerate(teacher.predict(pixels, sizes_hw)):
        (raw,) = network(list(alone(pixels, i).float() / 255))
        height, width = fitted_hw(SIZES[i], 96)
        scale = np.tile([SIZES[i][1] / width, SIZES[i][0] / height], 2)
        wanted = [
            (float(score), names[k], box.numpy() * scale)
            for score, k, box in zip(raw["scores"], raw["labels"], raw["boxes"], strict=True)
            if names[k] != "N/A"
        ][:20]
        assert len(found) == len(wanted)
        for got, (score, name, box) in zip(range(len(found)), wanted, strict=True):
            assert source.classes[found.class_ids[got]] == name
            assert found.scores[got] == pytest.approx(score, abs=1e-6)
            np.testing.assert_allclose(found.boxes_xyxy[got], box, atol=1e-3)
        seen += len(wanted)
    assert seen > 0


@torch.inference_mode()
def test_a_segmenter(tmp_path):
    network, uri = saved(tmp_path, LRASPP)
    source = open_teacher(uri, Wishes()).source
    assert source.image_size_px == 780  # a 3:2 photo: 520 high, as the transforms want it
    assert source.classes[:2] == ("__background__", "aeroplane")
    source = open_teacher(uri, Wishes(image_size_px=64)).source
    pixels, sizes_hw = images_and_views(64)
    found = source.load("cpu").predict(pixels, sizes_hw)
    transforms = get_model_weights(LRASPP).DEFAULT.transforms()
    for i, one in enumerate(found):
        assert isinstance(one, SegmentationMap)
        assert one.class_map.shape == SIZES[i]
        logits = network(transforms(alone(pixels, i)))["out"]
        size = fitted_hw(SIZES[i], 64)
        full = torch.nn.functional.interpolate(logits, size, mode="bilinear")
        if size == SIZES[i]:
            same = one.class_map == full[0].argmax(0).numpy()
            assert same.mean() > 0.999
            best = full.softmax(1)[0].max(0).values.numpy()
            np.testing.assert_allclose(one.confidence / 255, best, atol=1.5 / 255)


@torch.inference_mode()
def test_a_classifier(tmp_path):
    network, uri = saved(tmp_path, SMALL)
    source = open_teacher(uri, Wishes()).source
    assert source.image_size_px == 384
    assert len(source.classes) == 1000
    pixels, sizes_hw = images_and_views(384)
    transforms = get_model_weights(SMALL).DEFAULT.transforms()
    travelled = cloudpickle.loads(cloudpickle.dumps(source))  # as it does to an actor
    for i, one in enumerate(travelled.load("cpu").predict(pixels, sizes_hw)):
        assert isinstance(one, ClassLabel)
        scores, ids = network(transforms(alone(pixels, i))).softmax(1)[0].topk(5)
        assert one.top_class_ids.tolist() == ids.tolist()
        np.testing.assert_allclose(one.top_scores, scores, rtol=1e-4)


def test_classes_merge_before_the_best_is_chosen(tmp_path):
    _, uri = saved(tmp_path, SMALL, num_classes=3)
    (tmp_path / f"{SMALL}.txt").write_text("car\ntruck\nperson\n")
    plain = open_teacher(uri, Wishes(image_size_px=64)).source
    merged = open_teacher(uri, Wishes(image_size_px=64), None, ["car=v", "truck=v"]).source
    pixels, sizes_hw = images_and_views(64)
    before = plain.load("cpu").predict(pixels, sizes_hw)
    for raw, one in zip(before, merged.load("cpu").predict(pixels, sizes_hw), strict=True):
        shares = dict(zip(raw.top_class_ids.tolist(), raw.top_scores.tolist(), strict=True))
        of_v = one.top_scores[one.top_class_ids.tolist().index(0)]
        assert of_v == pytest.approx(shares[0] + shares[1], abs=1e-5)


def test_a_detector_of_other_classes(tmp_path):
    _, uri = saved(tmp_path, SSD, num_classes=3)
    with pytest.raises(UserError) as caught:
        open_teacher(uri, Wishes())
    line = str(caught.value)
    assert line.startswith(f"teacher: {tmp_path}/{SSD}.pth is not of {SSD} with 91 outputs: ")
    assert line.endswith(
        f"name its outputs in {tmp_path}/{SSD}.txt, a line each, if they are others"
    )
    (tmp_path / f"{SSD}.txt").write_text("__background__\ncat\ndog\n")
    assert open_teacher(uri, Wishes()).source.classes == ("cat", "dog")


def test_the_digest_is_of_what_decides_the_labels(tmp_path):
    network, uri = saved(tmp_path, SMALL, num_classes=2)
    (tmp_path / f"{SMALL}.txt").write_text("a\nb\n")
    state = network.state_dict()
    safetensors.torch.save_file(state, tmp_path / "same.safetensors")
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "wrapped.pt")
    state["classifier.3.bias"] = state["classifier.3.bias"] + 1
    torch.save(state, tmp_path / "other.pth")
    for name in ("same", "wrapped", "other"):
        (tmp_path / f"{name}.txt").write_text("a\nb\n")

    def digest(file, **extra):
        return open_teacher(f"torchvision:{SMALL}:{tmp_path}/{file}", Wishes(**extra)).source.digest

    own = open_teacher(uri, Wishes()).source.digest
    assert digest("same.safetensors") == digest("wrapped.pt") == own
    assert digest("other.pth") != own
    assert digest("same.safetensors", image_size_px=96) != own
    (tmp_path / "same.txt").write_text("b\na\n")
    assert digest("same.safetensors") != own


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("googlenet", {"init_weights": False}),
        ("deeplabv3_mobilenet_v3_large", {"weights_backbone": None, "aux_loss": True}),
    ],
)
def test_heads_that_only_train_are_left_out(tmp_path, name, extra):
    state = get_model(name, weights=None, **extra).state_dict()
    assert [key for key in state if key.startswith("aux")]
    torch.save(state, tmp_path / "x.pth")
    source = open_teacher(f"torchvision:{name}:{tmp_path}/x.pth", Wishes()).source
    assert not [key for key in source.network.state_dict() if key.startswith("aux")]


def test_torchvisions_own_files_are_known_by_their_urls():
    kinds = get_model_weights("resnet50")
    for each in kinds:
        sha256 = each.url.rpartition("-")[2].removesuffix(".pth") + 56 * "0"
        assert published(kinds, sha256) is each
    assert published(kinds, 64 * "f") is None


def test_torchvisions_own_files_are_built_by_its_own_builder(cache, tmp_path, monkeypatch):
    own = get_model_weights("resnet50").IMAGENET1K_V1
    monkeypatch.setattr(module, "published", lambda kinds, sha256: own)
    torch.manual_seed(0)
    network = get_model("resnet50", weights=None)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    source = open_teacher(f"torchvision:resnet50:{tmp_path}/mine.pth", Wishes()).source
    assert source.prepare.resize_size == own.transforms().resize_size == [256]
    assert get_model_weights("resnet50").DEFAULT.transforms().resize_size == [232]
    assert source.network.fc.weight.equal(network.fc.weight)
    assert Path(torch.hub.get_dir()) == cache.parent
    assert [*cache.iterdir()] == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("resnet51", "teacher: torchvision has no detector, segmenter or classifier 'resnet51'; "
         "did you mean torchvision:resnet50?"),
        ("raft_small", "teacher: torchvision has no detector, .* 'raft_small'; "),
        ("", "teacher: torchvision has no detector, .* ''; "),
        (f"{SMALL}:none.pth", "teacher: none.pth must be a file that ends in .*; check the path"),
        (f"{SMALL}:damaged.pth", "teacher: damaged.pth cannot be read "),
        (f"{SMALL}:damaged.safetensors", "teacher: damaged.safetensors cannot be read "),
        (f"{SMALL}:code.pth", "teacher: code.pth cannot be read "),
        (f"{SMALL}:other.pth", "teacher: other.pth is not of mobilenet_v3_small with 1000 outputs"),
        (f"{SMALL}:nan.pth", "teacher: nan.pth holds NaN or infinity in x;"),
    ],
)  # fmt: skip
def test_what_is_no_teacher_is_one_line(tmp_path, monkeypatch, name, line):
    monkeypatch.chdir(tmp_path)
    for file in ("damaged.pth", "damaged.safetensors"):
        (tmp_path / file).write_bytes(b"PK\x03\x04 and no more")
    torch.save(torch.nn.Linear(1, 1), "code.pth")
    torch.save({"x": torch.zeros(1)}, "other.pth")
    torch.save({"x": torch.tensor([float("nan")])}, "nan.pth")
    with pytest.raises(UserError, match=line) as caught:
        open_teacher(f"torchvision:{name}", Wishes())
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_downloaded(cache):
    url = get_model_weights(SMALL).DEFAULT.url
    torch.save(torch.nn.Linear(1, 1), cache / url.rpartition("/")[2])  # code, where tensors belong
    with pytest.raises(UserError, match=f"teacher: the weights of {SMALL} could not be fetched"):
        open_teacher(f"torchvision:{SMALL}", Wishes())


def test_weights_of_the_cache(cache, tmp_path):
    url = get_model_weights(SMALL).DEFAULT.url
    network, uri = saved(tmp_path, SMALL)
    torch.save(network.state_dict(), cache / url.rpartition("/")[2])
    assert open_teacher(f"torchvision:{SMALL}", Wishes()).source.digest == (
        open_teacher(uri, Wishes()).source.digest
    )


@pytest.mark.parametrize(
    ("wishes", "line"),
    [
        ({"image_size_px": 8}, "image_size_px: must be from 16 to 8192, got 8"),
        ({"detect": DetectConfig(nms="soft")}, "detect.nms: must be left out, for this teacher "
         "suppresses boxes by its own rules, got 'soft'; pass hard"),
    ],
)  # fmt: skip
def test_wishes_that_cannot_be_met(tmp_path, wishes, line):
    _, uri = saved(tmp_path, SSD)
    with pytest.raises(UserError) as caught:
        open_teacher(uri, Wishes(**wishes))
    assert str(caught.value) == line
