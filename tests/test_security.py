"""What a stranger's files may not do: run code, fill the memory, leave their folder, tell a secret.

The other halves stand with their modules: weights in test_weight_files.py, damaged tars and images
in test_manifest_sources.py and test_images.py.
"""

from __future__ import annotations

import ast
import io
import json
import os
import struct
import tarfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny import save_tiny

from ray_st.cli import main
from ray_st.config import UserError
from ray_st.data.images import ImageError, decode, fetch
from ray_st.data.manifest.pools import open_pool
from ray_st.data.manifest.tars import list_tar
from ray_st.data.parts import MAX_BYTES, cell_uri, read_part, slice_uri
from ray_st.data.sources import coco, masks
from ray_st.data.sources.folder import image_rows
from ray_st.data.views import fitted_views
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes
from ray_st.recipe import read_yaml
from ray_st.secrets import holds_secret, masked

pytestmark = pytest.mark.pure
torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
SECRET = "wJalrXUtnFEMI"


# Code


def calls() -> Iterator[tuple[Path, str, ast.Call]]:
    """Every call in what is shipped, by its dotted name."""
    for folder in ("ray_st", "jobs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield path, ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> object:
    found = [each.value for each in call.keywords if each.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


def test_nothing_is_unpickled_run_or_handed_to_a_shell() -> None:
    loads = 0
    for path, name, call in calls():
        if name == "torch.load":
            assert keyword(call, "weights_only") is True, path
            loads += 1
        if name == "np.load":
            assert keyword(call, "allow_pickle") in (None, False), path  # numpy's default is False
        assert name not in ("eval", "exec", "compile", "os.system", "os.popen", "__import__"), path
        assert keyword(call, "shell") is None, path
        if name.endswith(".from_pretrained"):  # left out, transformers asks whoever sits there
            assert keyword(call, "trust_remote_code") is False, path
            loads += 1
    assert loads == 4  # a check that finds nothing to check proves nothing
    for folder in ("ray_st", "jobs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                known = {name.partition(".")[0] for name in names}
                assert not known & {"pickle", "marshal", "shelve", "dill", "subprocess"}, path


def test_code_beside_a_model_is_not_run_whoever_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    ran = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    for name, content in {
        "config.json": '{"model_type": "other", "auto_map": {"AutoConfig": "code.Config"}}',
        "preprocessor_config.json": '{"auto_map": {"AutoImageProcessor": "code.Processor"}}',
        "code.py": f"{ran}from transformers import PretrainedConfig as Config\n",
    }.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=r"^teacher: hf:\S+ cannot be read as an object detector "):
        open_teacher(f"hf:{tmp_path}", Wishes())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/name:os.mkdir"])
def test_a_recipe_is_no_program(tmp_path: Path, tag: str) -> None:
    (tmp_path / "bad.yaml").write_text(f"out: {tag} ['{tmp_path}/made']\n")
    with pytest.raises(UserError, match="is not valid YAML"):
        read_yaml(tmp_path / "bad.yaml")
    assert not (tmp_path / "made").exists()


# Images


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *more: bytes) -> bytes:
    """A PNG that says it is so large, and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + body + end


def bomb(megabytes: int) -> bytes:
    """A compressed text that swells."""
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * (megabytes << 20), 9))


def jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    content = bytearray(buffer.getvalue())
    at = content.index(b"\xff\xc0") + 5  # the frame's height and width
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


BOMBS = {
    "wide.png": png(100_000, 100_000),
    "long.png": png(1, 2**31 - 1),
    "text.png": png(8, 8, *[bomb(60)] * 3),
    "frame.jpg": jpeg(65_000, 65_000),
    "header.gif": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\0\0\0",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_swells_is_a_failure(name: str) -> None:
    assert len(BOMBS[name]) < 300_000
    with pytest.raises(ImageError) as caught:
        decode(BOMBS[name])
    assert caught.value.stage == "decode"


def test_bombs_devices_and_pipes_are_rows_beside_a_good_image(tmp_path: Path) -> None:
    uris = [str(tmp_path / name) for name in BOMBS]
    for name, content in BOMBS.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with (tmp_path / "sparse.jpg").open("wb") as sparse:
        sparse.truncate(MAX_BYTES + 1)
    (tmp_path / "folder.jpg").mkdir()
    names = ("pipe.jpg", "zero.jpg", "sparse.jpg", "folder.jpg")
    uris += [str(tmp_path / name) for name in names]
    uris.append(slice_uri(0, 10**15, "/dev/zero"))
    Image.new("RGB", (40, 30)).save(tmp_path / "good.png")
    views = fitted_views(image_rows(range(len(uris) + 1), [*uris, f"{tmp_path}/good.png"]), 64)
    assert views.is_valid.tolist() == [False] * len(uris) + [True]
    assert views.stages[: len(BOMBS)] == ("decode",) * len(BOMBS)
    assert set(views.stages[len(BOMBS) : -1]) == {"fetch"}
    assert "no file, but a device or a pipe" in str(
        views.reasons[uris.index(f"{tmp_path}/pipe.jpg")]
    )


def test_what_is_no_image_may_be_large(tmp_path: Path) -> None:
    with (tmp_path / "instances.json").open("wb") as sparse:
        sparse.truncate(1 << 20)
    assert len(fetch(str(tmp_path / "instances.json"))) == 1 << 20
    with pytest.raises(ImageError, match=r"it has 1048576 bytes, and an image may have 9$"):
        fetch(str(tmp_path / "instances.json"), 9)


def test_a_class_map_that_swells_is_no_map(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / f"{name}.png")
    Image.new("L", (8, 8)).save(tmp_path / "labels" / "a.png")
    (tmp_path / "labels" / "b.png").write_bytes(BOMBS["wide.png"])
    (tmp_path / "classes.json").write_text('{"classes": ["sky", "sea"]}')
    (tmp_path / "train.txt").write_text("a\nb\n")
    found = masks.read(str(tmp_path / "train.txt"))
    assert found.findings == {"maps_unreadable": 1}
    # Names of a list are looked for among the folder's own files.
    (tmp_path / "train.txt").write_text("a\n../images/b\n")
    with pytest.raises(UserError, match=r"got no '../images/b'"):
        masks.read(str(tmp_path / "train.txt"))


# Tars


def tar_of(path: Path, *members: tuple[str, bytes, bytes]) -> Path:
    """Name, kind and content of each."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))
    return path


def test_links_devices_and_climbing_names_in_a_tar(tmp_path: Path) -> None:
    """A member is a slice of its tar, whatever it calls itself; nothing is written by its name."""
    odd = [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    path = tar_of(
        tmp_path / "a.tar",
        ("../../climbs.jpg", tarfile.REGTYPE, b"one"),
        ("/etc/absolute.jpg", tarfile.REGTYPE, b"three"),
        *[(f"odd{i}.jpg", kind, b"") for i, kind in enumerate(odd)],
    )
    before = sorted(tmp_path.rglob("*"))
    uris = list_tar(str(path)).column("uri").to_pylist()
    assert [fetch(uri) for uri in uris] == [b"three"]  # `..` is a hidden folder like any other
    assert all(uri.startswith("slice:") and uri.endswith(f":{path}") for uri in uris)
    assert sorted(tmp_path.rglob("*")) == before


def with_sum(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("size", [b"-0000001000\0", b"-0000000777\0", b"\xff" * 12])
def test_a_size_below_zero_does_not_lead_back(tmp_path: Path, size: bytes) -> None:
    path = tar_of(tmp_path / "a.tar", ("a.jpg", tarfile.REGTYPE, b"x"))
    content = bytearray(path.read_bytes())
    header = content[:512]
    header[124:136] = size
    path.write_bytes(with_sum(header) + bytes(content[512:]))
    with pytest.raises(UserError, match="must be a whole, uncompressed tar"):
        list_tar(str(path))


def test_a_pax_header_of_very_many_records_is_read_at_once(tmp_path: Path) -> None:
    body = b"7 a=bc\n" * 149_000 + b"14 path=b.jpg\n"  # a MiB; squared it took half a minute
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(body)
    blocks = header.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)
    member = tarfile.TarInfo("a.jpg")
    member.size = 1
    (tmp_path / "a.tar").write_bytes(blocks + member.tobuf() + b"x" + bytes(511 + 1024))
    begun = time.process_time()
    found = list_tar(str(tmp_path / "a.tar"))
    assert time.process_time() - begun < 5
    assert found.column("uri").to_pylist() == [
        slice_uri(len(blocks) + 512, 1, str(tmp_path / "a.tar"))
    ]


def test_a_cell_that_swells_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_st.data.parts.MAX_BYTES", 1 << 16)
    noise = os.urandom(1 << 15)
    for name, cells in {
        "zeros": [bytes(1 << 20)],
        "large": [noise * 3],
        "good": [noise] * 3,
    }.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"image": cells}), path, compression="zstd", use_dictionary=False)
    said = {
        "zeros": r"its row group swells to \d+ bytes",
        "large": "it has 98304 bytes, and an image",
    }
    for name, line in said.items():
        with pytest.raises(ValueError, match=line):
            read_part(cell_uri(0, 0, "image", str(tmp_path / f"{name}.parquet")))
    assert read_part(cell_uri(0, 2, "image", str(tmp_path / "good.parquet"))) == noise


def test_a_size_below_zero_in_a_pax_header(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size, info.pax_headers = 1, {"size": "-512"}
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(UserError, match="a member of -512 bytes"):
        list_tar(str(path))


# Names in annotations


def coco_of(folder: Path, *names: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"id": i, "file_name": name, "height": 8, "width": 8} for i, name in enumerate(names)]
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (folder / "instances.json").write_text(json.dumps(document))
    return str(folder / "instances.json")


@pytest.mark.parametrize("name", ["../b.jpg", "a/../../b.jpg", "..", "./../b.jpg"])
def test_a_file_name_of_coco_does_not_climb(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jpg")
    uri = coco_of(tmp_path / "set", name)
    for read in (coco.read, coco.read_images):
        with pytest.raises(UserError) as caught:
            read(uri)
        line = str(caught.value)
        assert line == (
            f"{uri}: a file_name must lie below the folder of images, got {name!r}; correct it, or "
            "write the full path"
        )


def test_names_that_stay_inside_or_are_written_out(tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    for place in ("set/b.jpg", "set/..c.jpg", "other.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / place)
    uri = coco_of(tmp_path / "set", "a/../b.jpg", "..c.jpg", str(tmp_path / "other.jpg"))
    uris = coco.read_images(uri).column("uri").to_pylist()
    assert uris == [str(tmp_path / place) for place in ("set/b.jpg", "set/..c.jpg", "other.jpg")]


# Credentials

URIS = {
    f"s3://AKIA:{SECRET}@bucket/pool": "s3://***@bucket/pool",
    f"coco:s3://AKIA:{SECRET}@bucket/a.json": "coco:s3://***@bucket/a.json",
    f"s3://bucket/pool?region=eu&secret_key={SECRET}": "s3://bucket/pool?region=eu&secret_key=***",
    f"s3://AKIA:wJalr/{SECRET}@bucket/pool": "s3://***@bucket/pool",
    f"https://user:p@ss{SECRET}@host/a": "https://***@host/a",
    f"https://{SECRET}@host/a": "https://***@host/a",
    f"https://host/a?client_secret={SECRET}&b=1": "https://host/a?client_secret=***&b=1",
    f"https://host/a?apikey={SECRET}": "https://host/a?apikey=***",
    f"https://host/a?access_token={SECRET}": "https://host/a?access_token=***",
    f"https://host/a.jpg?sv=1&sig={SECRET}": "https://host/a.jpg?sv=1&sig=***",
    f"https://host/a.jpg?X-Amz-Signature={SECRET}&x=1": "https://host/a.jpg?X-Amz-Signature=***&x=1",
}  # fmt: skip


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_with_a_secret_is_refused_and_not_repeated(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert holds_secret(uri)
    assert masked(uri) == URIS[uri]
    save_tiny(tmp_path / "teacher")
    before = sorted(tmp_path.rglob("*"))
    for flags in (
        ["label", f"--images={uri}", "--teacher=teacher", "--out=out"],
        ["label", "--images=x", f"--teacher={uri}", "--out=out"],
        ["index", f"--images={uri}", "--out=out"],
        ["train", f"--out={uri}", "--data.train=x", "--data.val=x"],
    ):
        assert main(flags) == 2
        said = "".join(capsys.readouterr())
        assert SECRET not in said
        assert ": must hold no credentials, got " in said
        assert said.count("\n") == 1
    (tmp_path / "secret.yaml").write_text(f"data: {{train: '{uri}', val: x}}\n")
    before = sorted([*before, tmp_path / "secret.yaml"])
    assert main(["train", "--config=secret.yaml"]) == 2
    said = "".join(capsys.readouterr())
    assert said.startswith("ray-st: data.train: must hold no credentials")
    assert SECRET not in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "plain",
    [
        "s3://bucket/a:b@c/x.jpg",
        "s3://bucket/x?endpoint_override=127.0.0.1:9000&scheme=http",
        "hdfs://user@host:8020/pool",
        "hdfs://host:8020/pool/a@b.jpg",
        "http://host:80/a@b.jpg",
        "abfss://container@account.dfs.core.windows.net/pool",
        "s3://bucket/a?tokenizer=x&design=y&key_of=z",
        "ray://127.0.0.1:10001",
        "/data/a?token=b:c@d",
        "folder/sig=1/x.jpg",
    ],
)
def test_what_is_no_secret(plain: str) -> None:
    assert not holds_secret(plain)
    assert masked(plain) == plain


@pytest.mark.parametrize("uri", list(URIS)[:1] + list(URIS)[2:3])
def test_names_in_data_bring_no_secret_into_rows(tmp_path: Path, uri: str) -> None:
    (tmp_path / "list.txt").write_text(f"{uri}\n")
    pq.write_table(pa.table({"uri": [uri]}), tmp_path / "a.parquet")
    for pool in (f"list:{tmp_path}/list.txt", f"parquet:{tmp_path}/a.parquet"):
        with pytest.raises(UserError, match="must name images without credentials") as caught:
            list(open_pool(pool).tables(1))
        assert SECRET not in str(caught.value)
    with pytest.raises(UserError, match="must name images without credentials") as caught:
        coco.read_images(coco_of(tmp_path / "set", uri))
    assert SECRET not in str(caught.value)


def test_secrets_of_the_environment_stay_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    flags = [f"--images={tmp_path}/images", f"--out={tmp_path}/index"]
    assert main(["index", *flags]) == 0
    save_tiny(tmp_path / "teacher")
    flags = [f"--images={tmp_path}/index", f"--teacher={tmp_path}/teacher", "--dry-run"]
    assert main(["label", *flags, f"--out={tmp_path}/out"]) == 0
    said = "".join(capsys.readouterr())
    assert "dry run" in said
    assert SECRET not in said
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [content for content in written if SECRET.encode() in content]
