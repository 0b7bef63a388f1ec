"""How close exported files are to their models, for networks of real size.

Weights and statistics of the BatchNorms are random, outputs are scaled to the spread of a trained
model's, with hundreds of boxes in every view: nothing is downloaded, and near ties are as frequent
as they can be. Each line is one file: the largest differences that the export itself found. It
needs the extra `onnx`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ray_st.models import ModelConfig, build
from ray_st.models.saved import ModelCard, read_model, save_model
from ray_st.portable.files import Format
from ray_st.portable.pictures import noise_views
from ray_st.portable.stage import export_model_stage
from ray_st.tasks import make_task

CLASSES = tuple(f"class {k}" for k in range(20))
WIDE = {"image_size_px": 640, "channels": 256}
CASES = (
    ("detection", ModelConfig(backbone="resnet50", **WIDE)),
    ("detection", ModelConfig(backbone="spinenet49", pyramid="none", activation="swish", **WIDE)),
    (
        "segmentation",
        ModelConfig(
            backbone="efficientnet_b0",
            pyramid="nasfpn",
            separable=True,
            image_size_px=512,
            head_convs=2,
        ),
    ),
    ("classification", ModelConfig(backbone="resnet50", image_size_px=224)),
)
FORMATS: tuple[Format, ...] = ("onnx", "torch")


def main() -> None:
    """Export every case in both formats."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)))
    print("task, backbone, side_px, file: MB, s; largest differences; compared; near ties")
    for case in parser.parse_args().cases:
        with tempfile.TemporaryDirectory() as folder:
            task, config = CASES[case]
            card = ModelCard(task=task, classes=CLASSES, model=config, preprocessing={})
            save_model(Path(folder), varied(task, config), card)
            for name in FORMATS:
                print(line(folder, name), flush=True)


def varied(task: str, config: ModelConfig) -> nn.Module:
    """Build a model whose outputs vary like a trained one's."""
    torch.manual_seed(0)
    model: Any = build(config, task, len(CLASSES)).eval()
    views = torch.from_numpy(noise_views(config.image_size_px)).permute(0, 3, 1, 2)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
        if task == "detection":
            for tower in (model.classes, model.boxes):
                tower.predict.weight.normal_()
            outputs = model(views)
            model.classes.predict.weight *= 2 / outputs.class_logits.std()
            model.boxes.predict.weight *= 0.3 / outputs.box_codes.std()  # not far from anchors
            return model
        # Logits of each class around 0, with a deviation of 2.
        model.predict.bias -= model(views).transpose(0, 1).flatten(1).mean(dim=1)
        scale = 2 / model(views).std()
        model.predict.weight *= scale
        model.predict.bias *= scale
    return model


def line(folder: str, name: Format) -> str:
    """Export, and say how close the file is."""
    saved = read_model(folder, "model")
    config, out = saved.card.model, Path(folder, name)
    out.mkdir()
    task = make_task(saved.card.task, config, len(CLASSES))
    side_px, begun = config.image_size_px, time.monotonic()
    none = np.zeros((0, side_px, side_px, 3), np.uint8)
    summary = export_model_stage(saved, task, name, "labels", none, out)
    checked = summary["checked"]
    largest = ", ".join(f"{key} {value:.1g}" for key, value in checked["largest"].items())
    return (
        f"{saved.card.task}, {config.backbone}, {side_px}, {summary['file']}: "
        f"{summary['file_bytes'] / 1e6:.0f} MB, {time.monotonic() - begun:.0f} s; {largest}; "
        f"{checked['compared']} {checked['what']}; {checked['near_ties']}"
    )


if __name__ == "__main__":
    main()
