"""Files of weights from everywhere, real and damaged, under timm's names."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision

from ray_st.config import UserError
from ray_st.models.torchvision_names import timm_name
from ray_st.models.weight_files import Normalisation, named, read_weights, reason_of

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SUFFIXES = (".safetensors", ".pth", ".pt", ".npz", ".SafeTensors")


def network(name="test_resnet", seed=0):
    torch.manual_seed(seed)
    return timm.create_model(name)


def write(path: Path, tensors) -> Path:
    if path.suffix.lower() == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in tensors.items()})
    else:
        torch.save(tensors, path)
    return path


def require_equal(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].equal(value), name


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_weights(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    return line


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_file_gives_the_tensors_back(tmp_path, suffix):
    tensors = network().state_dict()
    found = read_weights(write(tmp_path / f"w{suffix}", tensors))
    require_equal(found.tensors, tensors)
    assert found.normalisation is None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: {"state_dict": tensors, "epoch": 3},
        lambda tensors: {"model": tensors, "best_acc1": torch.tensor(76.0)},
        lambda tensors: {"model": {"state_dict": tensors}},
        lambda tensors: {"model_state_dict": {f"module.{n}": v for n, v in tensors.items()}},
        lambda tensors: {f"model.{n}": v for n, v in tensors.items()},
        lambda tensors: {f"_orig_mod.module.model.{n}": v for n, v in tensors.items()},
        lambda tensors: {f"backbone.{n}": v for n, v in tensors.items()},
        lambda tensors: {f"module.backbone.network.model.{n}": v for n, v in tensors.items()},
    ],
)
def test_what_is_wrapped_around_names_falls_off(tmp_path, wrap):
    tensors = network().state_dict()
    found = read_weights(write(tmp_path / "w.pth", wrap(tensors)))
    require_equal(found.tensors, tensors)


def test_a_prefix_that_only_some_names_have_is_a_part_of_them():
    tensors = {"model.a": torch.zeros(1), "head.b": torch.zeros(1)}
    assert named(tensors).tensors == tensors


def test_of_a_whole_model_of_ours_the_backbone_and_the_normalisation_remain(tmp_path):
    about = Normalisation(mean=(0.1, 0.2, 0.3), std=(0.25, 1.0, 1 / 3))
    tensors = {
        "backbone.network.model.conv1.weight": torch.ones(2),
        "classes.predict.bias": torch.zeros(2),
        **about.buffers(),
    }
    found = read_weights(write(tmp_path / "w.safetensors", tensors))
    assert [*found.tensors] == ["conv1.weight"]
    assert found.normalisation is not None
    assert all(value.equal(tensors[name]) for name, value in found.normalisation.buffers().items())


@pytest.mark.parametrize("value", [0.0, 0.485, 0.225, 1.0, 1 / 3])
def test_a_normalisation_survives_its_buffers_bit_by_bit(value):
    buffers = Normalisation(mean=(value,) * 3, std=(value,) * 3).buffers()
    assert buffers["mean"].shape == (1, 3, 1, 1)
    assert buffers["mean"].dtype == torch.float32
    assert buffers["mean"][0, 0, 0, 0].item() == pytest.approx(255 * value, rel=1e-6)
    again = Normalisation.of_buffers(buffers["mean"], buffers["std"]).buffers()
    assert again["mean"].equal(buffers["mean"])


def test_the_usual_normalisation_is_the_one_that_models_are_built_with():
    buffers = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).buffers()
    assert buffers["mean"].flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert buffers["std"].flatten().tolist() == pytest.approx([58.395, 57.12, 57.375])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_a_file_that_was_cut_off(tmp_path, suffix, share):
    path = write(tmp_path / f"w{suffix}", network().state_dict())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "cannot be read (" in refused(path)


@pytest.mark.parametrize("name", ["w.bin", "w", "missing.pth", "."])
def test_what_is_no_file_of_weights(tmp_path, name):
    (tmp_path / "w.bin").write_bytes(b"x")
    (tmp_path / "w").write_bytes(b"x")
    assert "ends in .safetensors, .pth, .pt, .npz" in refused(tmp_path / name)


class Trap:
    """An object whose unpickling would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("content", [{"a": 1}, {"state_dict": {}}, [torch.zeros(1)], 7])
def test_a_file_without_named_tensors(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    assert "no tensors by name" in refused(tmp_path / "w.pth")


def test_nothing_is_unpickled(tmp_path):
    sprung, path = tmp_path / "sprung", tmp_path / "w.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": Trap(sprung)}, path)
    # Torch's own words open with colours, and with how to unpickle it all the same.
    line = refused(path)
    assert line.startswith(f"init.weights: {path} cannot be read (Unsupported global: GLOBAL ")
    assert line.endswith(
        " was not an allowed global by default); it must be whole and hold tensors only, as "
        "torch.save(model.state_dict(), FILE) writes them"
    )
    assert line.isprintable()
    path.write_bytes(pickle.dumps(Path(), protocol=2))  # neither a zip nor torch's
    assert "(Unsupported global: GLOBAL pathlib." in refused(path)
    np.savez(tmp_path / "w.npz", a=np.array([Trap(sprung)], dtype=object))
    assert "cannot be read" in refused(tmp_path / "w.npz")
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ValueError"),
        ("\x1b[1mtwo\n lines\x1b[0m ", "two lines"),
        ("x" * 60 + " " + "y" * 99, "x" * 60 + " " + "y" * 99),
        ("x" * 60 + " " + "y" * 100, "x" * 60 + " ..."),
        ("unsafe! WeightsUnpickler error: \n\nUnsupported 7\n\nSee this", "Unsupported 7"),
        ("unsafe! WeightsUnpickler error: a.b is odd. Do that", "a.b is odd"),
    ],
)
def test_the_reason_of_another_librarys_error(text, reason):
    assert reason_of(ValueError(text)) == reason


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_refused(tmp_path, suffix, value):
    tensors = network().state_dict()
    first, second = [name for name in tensors if name.endswith("bn1.weight")][:2]
    tensors[second][-1] = value
    path = write(tmp_path / f"w{suffix}", tensors)
    assert f"{path} holds NaN or infinity in {second}; " in refused(path)
    tensors[first][0] = value
    assert f" in {first}; " in refused(write(path, tensors))


def test_numbers_past_float32_are_none_either(tmp_path):
    path = write(tmp_path / "w.pth", {"a": torch.full((2,), 1e39, dtype=torch.float64)})
    assert " in a; " in refused(path)
    path = write(tmp_path / "w.pth", {"a": torch.tensor([3.4e38]), "b": torch.empty(0)})
    assert read_weights(path).tensors["a"].item() == pytest.approx(3.4e38)


def test_a_folder_of_the_hub_says_its_normalisation(tmp_path):
    path = write(tmp_path / "model.safetensors", network().state_dict())
    other = write(tmp_path / "other.safetensors", network().state_dict())
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({"pretrained_cfg": {"mean": [0.5, 0.4, 0.3], "std": [1, 0.5, 0.25]}})
    )
    expected = Normalisation(mean=(0.5, 0.4, 0.3), std=(1.0, 0.5, 0.25))
    assert read_weights(path).normalisation == expected
    assert read_weights(other).normalisation is None  # another file's config
    config.write_text(json.dumps({"model_type": "other"}))
    assert read_weights(path).normalisation is None
    for wrong in ("{", json.dumps({"pretrained_cfg": {"mean": [0.5], "std": [1.0]}})):
        config.write_text(wrong)
        assert "cannot be read" in refused(path)


# torchvision


def test_torchvisions_mobilenetv2_is_timms_under_other_names():
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2().eval()
    renamed = {timm_name(name): value for name, value in theirs.state_dict().items()}
    assert len(renamed) == len(theirs.state_dict())
    timms = network("mobilenetv2_100").eval()
    timms.load_state_dict(renamed, strict=True)
    pixels = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(timms(pixels), theirs(pixels), atol=1e-5, rtol=1e-4)
    require_equal(named(theirs.state_dict()).tensors, renamed)


def test_torchvisions_resnets_bear_timms_names():
    theirs = torchvision.models.resnet18().eval()
    timms = network("resnet18").eval()
    timms.load_state_dict(named(theirs.state_dict()).tensors, strict=True)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(timms(pixels), theirs(pixels), atol=1e-5, rtol=1e-4)


def test_names_of_another_network_stay():
    tensors = torchvision.models.efficientnet_b0().state_dict()  # it has `features.0.0` too
    require_equal(named(tensors).tensors, tensors)
    assert timm_name("fc.weight") == "fc.weight"
