"""Foreign teachers whose files lie in a bucket: the same ones, and errors name the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch
from bucket import Endpoint, credentials, s3_server
from onnx import TensorProto, helper
from ray import cloudpickle
from torchvision.models import get_model
from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes

pytestmark = pytest.mark.pure
NETWORK = "mobilenet_v3_small"
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, credentials():
        yield server


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, endpoint: Endpoint) -> Path:
    """Three teachers on this machine; in the bucket the same under `of others`."""
    folder = tmp_path_factory.mktemp("teachers")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])
    mean = helper.make_node("ReduceMean", ["image"], ["logits"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph([mean], "g", [image], [logits])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "mean.v1.onnx")
    (folder / "mean.v1.txt").write_text("a\nb\nc\n")
    (folder / "nameless.onnx").write_bytes((folder / "mean.v1.onnx").read_bytes())
    torch.manual_seed(0)
    torch.save(get_model(NETWORK, weights=None, num_classes=3).state_dict(), folder / "mine.pth")
    (folder / "mine.txt").write_text("a\nb\nc\n")
    config = YolosConfig(
        **SMALL, intermediate_size=16, image_size=[64, 64], patch_size=16, num_detection_tokens=6,
        id2label={0: "N/A", 1: "cat"}, label2id={"N/A": 0, "cat": 1},
    )  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(folder / "yolos")
    YolosImageProcessorPil().save_pretrained(folder / "yolos")
    endpoint.upload(folder / "yolos", "pools/of others/yolos")
    for file in folder.glob("*.*"):
        storage.put(endpoint.uri(f"pools/of others/{file.name}"), file.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("kind", "name"),
    [("onnx:", "mean.v1.onnx"), (f"torchvision:{NETWORK}:", "mine.pth"), ("hf:", "yolos")],
)
def test_a_teacher_in_a_bucket_is_the_teacher_here(
    here: Path, endpoint: Endpoint, kind: str, name: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    known = open_teacher(f"{kind}{here}/{name}", Wishes()).source
    for place in (endpoint.uri(f"pools/of others/{name}"), f"file://{here}/{name}"):
        source = open_teacher(kind + place, Wishes()).source
        assert (source.digest, source.classes) == (known.digest, known.classes)
        assert [*tmp_path.iterdir()] == []  # what was brought here is gone
        moved = cloudpickle.loads(cloudpickle.dumps(source))  # as it is to an actor
        assert moved.load("cpu").kind is known.task.kind


@pytest.mark.parametrize(
    ("kind", "name", "line"),
    [
        ("onnx:", "none.onnx", r"teacher: THERE/none\.onnx is no file; check the path$"),
        ("onnx:", "yolos", r"teacher: THERE/yolos is no file; check the path$"),
        ("onnx:", "nameless.onnx", r"teacher: THERE/nameless\.onnx names no classes; write them "
         r"to THERE/nameless\.txt, a line each$"),
        ("onnx:", "mine.pth", r"teacher: THERE/mine\.pth cannot be read \(.*\); it must be one "),
        (f"torchvision:{NETWORK}:", "none.pth", r"teacher: THERE/none\.pth must be a file that "),
        ("hf:", "none", "teacher: hf:THERE/none is no folder; check the path$"),
        ("hf:", "mine.pth", r"teacher: hf:THERE/mine\.pth is no folder; check the path$"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("here")
def test_an_error_names_the_bucket(endpoint: Endpoint, kind: str, name: str, line: str) -> None:
    with pytest.raises(UserError, match="^" + line.replace("THERE", "s3://pools/of others")) as it:
        open_teacher(kind + endpoint.uri(f"pools/of others/{name}"), Wishes())
    assert "\n" not in str(it.value)


def test_a_bucket_that_cannot_be_asked_is_one_line(endpoint: Endpoint) -> None:
    nowhere = endpoint.uri("no-such-bucket/yolos")
    for uri in ("onnx:nowhere://a/x.onnx", "hf:nowhere://a/x", f"hf:{nowhere}"):
        with pytest.raises(UserError, match=r"^teacher: .*; check the path") as caught:
            open_teacher(uri, Wishes())
        assert "\n" not in str(caught.value)
