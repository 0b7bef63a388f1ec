"""Which of timm's weights a start means, and the way to them; nothing here needs a network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from ray_st.config import UserError
from ray_st.models.hub import download, network_names, normalisation_of, pretrained_tags

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

HALF, USUAL = (0.5, 0.5, 0.5), (0.485, 0.456, 0.406)

# What a user's process does; prints the name of what was loaded, and where its pixels lie.
LOAD = """
import sys, torch
from ray_st.config import UserError
from ray_st.models import ModelConfig, build
from ray_st.models.initialise import InitConfig, initialise
config = ModelConfig(backbone=sys.argv[1], image_size_px=64, levels=(3, 4))
model = build(config, "detection", 2)
try:
    loaded = initialise(model, config, InitConfig(start=sys.argv[2]))
except UserError as error:
    sys.exit(str(error))
first = next(model.backbone.parameters()).sum().item()
print(loaded.source, len(loaded.missing), model.mean.flatten().tolist(), first)
"""


def offline(cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    here = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cache),
    }
    return subprocess.run(
        [sys.executable, *words], env=here, capture_output=True, text=True, check=False
    )


def refused(backbone: str, start: str) -> str:
    with pytest.raises(UserError) as caught:
        download(backbone, start)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("backbone", "start", "tag"),
    [
        ("tf_efficientnet_b7", "imagenet", "aa_in1k"),  # the paper's two
        ("tf_efficientnet_b7", "imagenet++", "ns_jft_in1k"),
        ("tf_efficientnet_l2", "imagenet++", "ns_jft_in1k"),
        ("resnet50", "imagenet", "a1_in1k"),
        ("resnet50.tv_in1k", "imagenet", "tv_in1k"),
        ("mobilenetv2_100", "imagenet", "ra_in1k"),
        # timm's defaults of these two have seen more than ImageNet-1k.
        ("convnext_tiny", "imagenet", "fb_in1k"),
        ("hgnet_tiny", "imagenet", "paddle_in1k"),
    ],
)
def test_which_weights_a_start_means(backbone, start, tag):
    assert pretrained_tags(backbone, start)[0] == tag


def test_an_unreachable_hub_ends_in_one_line(tmp_path):
    done = offline(tmp_path, "-c", LOAD, "tf_efficientnet_b0", "imagenet++")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    name = "tf_efficientnet_b0.ns_jft_in1k"
    assert done.stderr.startswith(
        f"init.start: the weights {name} could not be fetched from "
        f"https://huggingface.co/timm/{name} ("
    )
    assert done.stderr.endswith(
        "; pass init.weights FILE, with the init.mean and init.std that it expects\n"
    )


def test_what_the_cache_holds_is_loaded(tmp_path):
    """The hub's own layout on disk: timm takes the weights from there, as after a download."""
    torch.manual_seed(5)
    network = timm.create_model("test_resnet")
    folder = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    file = folder / "snapshots" / ("0" * 40) / "model.safetensors"
    safetensors.torch.save_file(network.state_dict(), file)
    done = offline(tmp_path, "-c", LOAD, "test_resnet", "imagenet")
    assert done.returncode == 0, done.stderr
    total = next(network.parameters()).sum().item()
    assert done.stdout == f"test_resnet.r160_in1k 0 {[127.5] * 3} {total}\n"


@pytest.mark.parametrize(
    ("backbone", "start", "said"),
    [
        ("tf_efficientnet_l2", "imagenet", "ImageNet alone (it has ns_jft_in1k_475, ns_jft_in1k)"),
        ("efficientnet_b7", "imagenet", "ImageNet alone (it has none at all)"),
        ("tf_mobilenetv2_100", "imagenet", "ImageNet alone (it has none at all)"),
        ("convnext_tiny.in12k_ft_in1k", "imagenet", "from ImageNet alone"),
        ("tf_efficientnet_b7.ns_jft_in1k", "imagenet", "from ImageNet alone"),
        ("resnet50", "imagenet++", "choose one of tf_efficientnet_b0, tf_efficientnet_b1, "),
        ("tf_efficientnet_b8", "imagenet++", "tf_efficientnet_b7, tf_efficientnet_l2 as "),
    ],
)
def test_weights_that_timm_does_not_have(backbone, start, said):
    line = refused(backbone, start)
    assert line.startswith("init.start: timm has no ")
    assert backbone in line
    assert said in line
    assert "init.weights FILE" in line


@pytest.mark.parametrize(
    ("backbone", "start", "mean"),
    [
        ("resnet50", "imagenet", USUAL),
        ("resnet50", "imagenet++", USUAL),  # of a file: timm has none, so what it has otherwise
        ("tf_efficientnet_l2", "imagenet++", USUAL),
        ("tf_efficientnet_b7.ap_in1k", "imagenet", HALF),
        ("test_resnet", "simclr", HALF),
        ("mobilenetv2_100", "imagenet", USUAL),
        ("tf_mobilenetv2_100", "imagenet", HALF),
        ("efficientnet_b7", "imagenet", USUAL),
    ],
)
def test_which_pixels_a_start_expects(backbone, start, mean):
    assert normalisation_of(backbone, start).mean == mean


def test_a_backbone_that_is_not_timms():
    assert normalisation_of("spinenet49", "simclr") is None
    assert network_names("spinenet49") == frozenset()


def test_the_names_are_those_of_the_whole_network():
    assert network_names("test_resnet") == set(timm.create_model("test_resnet").state_dict())
