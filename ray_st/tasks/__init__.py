"""Tasks: what outputs, targets and labels mean. This file: which task a recipe names.

In: a task's name and the model's configuration. Out: a `Task`. Next: `task.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ray_st.config import require
from ray_st.models import ModelConfig
from ray_st.tasks.classification import Classification
from ray_st.tasks.detection import DetectConfig, Detection
from ray_st.tasks.segmentation import Segmentation
from ray_st.tasks.task import Task

TaskName = Literal["detection", "segmentation", "classification"]


def make_task(
    name: str, model: ModelConfig, num_classes: int, detect: DetectConfig | None = None
) -> Task:
    """Give the task object that understands this model's outputs; `detect` is for detection."""
    makers: dict[str, Callable[[], Task]] = {
        "detection": lambda: Detection(
            num_classes=num_classes,
            levels=model.levels,
            anchor_scale=model.anchor_scale,
            detect=detect or DetectConfig(),
        ),
        "segmentation": lambda: Segmentation(num_classes=num_classes),
        "classification": lambda: Classification(num_classes=num_classes),
    }
    require(name in makers, "task", f"one of {list(makers)}", name)
    return makers[name]()
