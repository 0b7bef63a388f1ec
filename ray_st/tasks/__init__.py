"""Tasks: what outputs, targets and labels mean. This file: which task a recipe names.

In: a task's name and the model's configuration. Out: a `Task`. Next: `task.py`.
"""

from __future__ import annotations

from typing import Literal

from ray_st.config import require
from ray_st.models import ModelConfig
from ray_st.tasks.task import Task

TaskName = Literal["detection"]


def make_task(name: str, model: ModelConfig, num_classes: int) -> Task:
    """Give the task object that understands this model's outputs."""
    from ray_st.tasks.detection import Detection

    makers = {"detection": Detection}
    require(name in makers, "task", f"one of {list(makers)}", name)
    return makers[name](
        num_classes=num_classes, levels=model.levels, anchor_scale=model.anchor_scale
    )
