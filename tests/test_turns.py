"""What a label weighs at rest, told by few images; the same ones again would weigh nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from test_rows import made, packed
from tiny import save_tiny, tiny_card, tiny_model

from ray_st.config import UserError
from ray_st.data import parquet
from ray_st.data.labels import Detections
from ray_st.data.sources import open_images
from ray_st.data.sources.digits import DigitsConfig, write_world
from ray_st.data.views import fitted_views
from ray_st.labeling.actor import TeacherActor
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.rows import store_row
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes
from ray_st.models.saved import save_model
from ray_st.planning.turns import Stint, measured, written
from ray_st.tasks.detection import DetectConfig

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

SCENES = DigitsConfig(
    labeled_scenes=1, val_scenes=1, pool_scenes=96, scene_px=64, digits_per_scene=(1, 2),
    digit_px=(12, 20),
)  # fmt: skip


def weight(folder: Path, rows: pa.Table) -> float:
    """Bytes a row, of a file of them."""
    parquet.write(str(folder / "all.parquet"), rows)
    return (folder / "all.parquet").stat().st_size / rows.num_rows


@pytest.mark.parametrize("mean", [2, 100])
@pytest.mark.parametrize("few", [4, 16, 256])
def test_a_row_of_many_is_told_by_few(tmp_path: Path, few: int, mean: int) -> None:
    counts = np.random.default_rng(few).poisson(mean, 4096).tolist()
    rows = packed(made(counts))
    _, found = written(rows.slice(0, few), 4096, 0.01)
    # of few rows that are not all alike the mean is another; the rest is the file's doing
    share = sum(counts[:few]) / few / (sum(counts) / 4096)
    assert found / share == pytest.approx(weight(tmp_path, rows), rel=0.3)


def test_one_row_is_all_that_is_known(tmp_path: Path) -> None:
    rows = packed(made([5]))
    seconds, found = written(rows, 4096, 0.01)
    assert found == pytest.approx(weight(tmp_path, rows))
    assert seconds > 0


def test_labels_weigh_as_much_as_those_of_a_store(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", SCENES, Detections)
    rows = open_images(world.unlabeled or "")
    model = tiny_model()
    with torch.no_grad():  # what has learned nothing says of all images the same
        for tower in (model.classes, model.boxes):
            tower.predict.weight.mul_(50)
    save_model(tmp_path / "model", model, tiny_card())
    wishes = Wishes(detect=DetectConfig(score_floor=0.0))
    source = open_teacher(str(tmp_path / "model"), wishes).source
    label = LabelConfig(batch_size=4, file_images=96)
    looks = source.looks(label)
    schema = store_row(source.task.kind, source.digest, looks.card)
    actor = TeacherActor(source, looks, schema, 1.0, 0.0, None, None)
    real = weight(tmp_path, actor(fitted_views(rows, looks.largest_px).to_table()))
    stint = Stint(source=source, rows=rows.slice(0, 24), label=label, stage_s=0.2)
    found = measured(stint, lambda: None, 0.0)
    assert found["out_bytes"] == pytest.approx(real, rel=0.2)
    assert all(found[name] > 0 for name in ("read_s", "predict_s", "write_s"))


def test_a_sample_without_an_image(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    rows = pa.table({"image_id": [0, 1, 2], "uri": [str(broken)] * 3})
    source = open_teacher(save_tiny(tmp_path / "model"), Wishes()).source
    stint = Stint(source=source, rows=rows, label=LabelConfig(batch_size=2), stage_s=0.05)
    with pytest.raises(UserError, match="images: none of 3 images of the sample can be read"):
        measured(stint, lambda: None, 0.0)
