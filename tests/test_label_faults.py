"""Images that kill who reads them, and teachers that change: what else can die, chaos tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from chaos import Driver, is_teacher, machines
from growth import write_images
from paced_teacher import PACE
from PIL import Image
from torch import Tensor, nn

from ray_st.config import UserError
from ray_st.data.labels import Detections
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.data.sources.folder import image_rows, list_images
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.pool import label, read_raw
from ray_st.labeling.store import Store
from ray_st.labeling.teacher import SavedTeacher
from ray_st.models import ModelConfig, build
from ray_st.models.saved import ModelCard, SavedModel, read_model, save_model
from ray_st.tasks import make_task

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[1]
MODEL = ModelConfig(
    backbone="test_resnet", image_size_px=64, levels=(3, 4), channels=16, head_convs=1
)
CLASSES = ("0", "1", "2")
TASK = make_task("detection", MODEL, len(CLASSES))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("world")
    config = DigitsConfig(
        labeled_scenes=1, val_scenes=1, pool_scenes=40, labeled_digits=30, scene_px=64,
        digits_per_scene=(1, 3), digit_px=(18, 28), classes=(0, 1, 2),
    )  # fmt: skip
    write_world(world, config, Detections)
    return world / "images" / "pool"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh detector: what it sees in an image does not matter, only that it is the same."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    model = build(MODEL, "detection", len(CLASSES))
    nn.init.zeros_(model.classes.predict.bias)  # type: ignore[union-attr, arg-type]
    card = ModelCard(task="detection", classes=CLASSES, model=MODEL, preprocessing={})
    save_model(folder, model, card)
    return folder


class Deadly(nn.Module):
    """A model whose process dies on a white image, as a decoder does on a crafted file."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> object:
        if (pixels.flatten(1).float().mean(dim=1) > 250).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return self.model(pixels)


@dataclass(frozen=True, kw_only=True)
class DeadlySaved(SavedModel):
    def load(self, device: torch.device | str = "cpu") -> nn.Module:
        return Deadly(super().load(device))


@pytest.mark.usefixtures("ray_cluster")
def test_an_image_that_kills_its_process_is_found_and_recorded(
    pool: Path, teacher: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), (255, 255, 255)).save(tmp_path / "white.png")
    deadly_ids = (5, 6)  # two in a row: who waits behind them dies more often, and is no killer
    uris = [str(path) for path in sorted(pool.glob("*.jpg"))[:10]]
    for image_id in deadly_ids:
        uris.insert(image_id, str(tmp_path / "white.png"))
    images = Images.of_rows(image_rows(range(12), uris))
    saved = read_model(teacher, "teacher")
    deadly = DeadlySaved(weights=saved.weights, card=saved.card)
    config = LabelConfig(actors=(1, 1), block_images=4, batch_size=2, file_images=4)
    label(images, SavedTeacher(saved=deadly, task=TASK), str(tmp_path / "out"), config, None)
    living_ids = [image_id for image_id in range(12) if image_id not in deadly_ids]
    assert read_raw(str(tmp_path / "out"))["image_id"].to_pylist() == living_ids
    failures = pq.read_table(tmp_path / "out" / "failures.parquet").to_pylist()
    assert [(row["image_id"], row["uri"], row["stage"]) for row in failures] == [
        (image_id, uris[image_id], "process") for image_id in deadly_ids
    ]
    living = Images.of_rows(image_rows(living_ids, [uris[each] for each in living_ids]))
    label(
        living,
        SavedTeacher(saved=saved, task=TASK),
        str(tmp_path / "here"),
        LabelConfig(actors=(0, 0)),
        None,
    )
    require_same_labels(tmp_path / "out", tmp_path / "here")


@pytest.mark.xdist_group("nodes")
@pytest.mark.timeout(900)  # three executions on three nodes, and Ray's notice of a death
def test_who_waits_for_a_node_that_is_taken_away_is_no_killer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "images", 9)
    Image.new("RGB", (64, 64), (255, 255, 255)).save(tmp_path / "images" / "00004.png")
    (tmp_path / "pace").write_text("2")
    monkeypatch.setenv(PACE, str(tmp_path / "pace"))
    store = Store(f"{tmp_path}/out/raw")

    def standing() -> int:
        return sum(len(shard.standing()) for shard in store.begun())

    with machines() as cluster:
        driver = Driver(
            [
                "label", f"--images={tmp_path}/images", "--teacher=paced_teacher:Deadly",
                f"--out={tmp_path}/out", f"--address={cluster.address}", "--image-size-px=64",
                "--label.actors", "1", "1", "--label.readers=1", "--label.batch-size=9",
            ],
            tmp_path / "log",
        )  # fmt: skip
        try:
            # All are one block, which dies; then each is tried alone, and two or so come back.
            assert driver.waits_for(lambda: "each is tried alone" in driver.said())
            assert driver.waits_for(lambda: standing() >= 2)

            def the_teacher() -> int | None:  # the one that died of the block may not be gone yet
                found = cluster.processes(is_teacher)
                return found[0][0] if len(found) == 1 else None

            cluster.kill_node_of(driver.waits_for(the_teacher))
            assert driver.status() == 0, driver.said()
        finally:
            driver.kill()
    failures = pq.read_table(tmp_path / "out" / "failures.parquet").to_pylist()
    assert [(row["image_id"], row["stage"]) for row in failures] == [(4, "process")]
    assert read_raw(tmp_path / "out")["image_id"].to_pylist() == [0, 1, 2, 3, 5, 6, 7, 8]


def test_labels_of_another_teacher_are_not_mixed_in(pool: Path, teacher: Path, tmp_path: Path):
    saved = read_model(teacher, "teacher")
    images = Images.of_rows(list_images(str(pool)).slice(0, 4))
    here = LabelConfig(actors=(0, 0))
    label(images, SavedTeacher(saved=saved, task=TASK), str(tmp_path), here, None)
    other = SavedModel(weights=saved.weights + b" ", card=saved.card)
    with pytest.raises(UserError, match=r"another kind \(teacher_sha256 differ\)"):
        label(images, SavedTeacher(saved=other, task=TASK), str(tmp_path), here, None)


def require_same_labels(one: Path, other: Path) -> None:
    left, right = read_raw(str(one)), read_raw(str(other))
    assert left["image_id"].equals(right["image_id"])
    assert left["uri"].equals(right["uri"])
    for name in ("boxes_xyxy", "scores"):
        pair = (table[name].combine_chunks().flatten().to_numpy() for table in (left, right))
        np.testing.assert_allclose(*pair, rtol=1e-3, atol=1e-3)


SOLE = """
from pathlib import Path

class Sole:
    classes = ("thing",)

    def __init__(self):
        Path("licence").open("x").close()  # there is one, and the first process holds it

    def predict(self, images):
        return [{"boxes_xyxy": [], "scores": [], "class_ids": []} for _ in images]
"""


@pytest.mark.end_to_end
@pytest.mark.parametrize("actors", ["1", "2"])
def test_a_teacher_that_the_pool_cannot_make_is_one_line(
    pool: Path, tmp_path: Path, actors: str
) -> None:
    (tmp_path / "sole.py").write_text(SOLE)
    words = [
        "label", "--images", str(pool), "--teacher", "sole:Sole", "--out", "out",
        "--address", "local", "--label.actors", "1", actors,
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "ray_st", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    line = "ray-st: teacher: sole:Sole could not be made (FileExistsError: "
    assert done.stderr.splitlines()[-1].startswith(line)
    assert "Traceback" not in done.stderr, done.stderr
