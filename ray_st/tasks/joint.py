"""Joint training: a task's loss, and that of classified images beside it.

In: outputs and labels of both, the classified images last. Out: `LossSums` of all images; whoever
weighs them knows by its origin which image is which. Next: `simclr.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from ray_st.data.labels import ClassLabel, Labels
from ray_st.tasks.classification import Classification
from ray_st.tasks.task import LossSums, Task

Both = tuple[Any, Any]  # of the task's images, and of the classified ones


def joint_objective(task: Task, num_classes: int) -> Task | JointObjective:
    """What is learned with so many classes of other images beside the task; 0: the task alone."""
    if not num_classes:
        return task
    return JointObjective(task=task, classes=Classification(num_classes=num_classes))


@dataclass(frozen=True, kw_only=True, eq=False)
class JointObjective:
    """An `Objective` of a task, which is not classification, and of classes."""

    task: Task
    classes: Classification

    def targets(
        self, labels: Sequence[Labels], size_hw: tuple[int, int], device: torch.device
    ) -> Both:
        """Those of the task, in views of `size_hw`; and class ids."""
        joint = [one for one in labels if isinstance(one, ClassLabel)]
        own = labels[: len(labels) - len(joint)]
        return (
            self.task.targets(own, size_hw, device),
            self.classes.targets(joint, size_hw, device),
        )

    def loss_sums(self, outputs: Both, targets: Both) -> LossSums:
        """Sums and counts of all images; parts and offset are the task's, of which joint images
        have none.
        """
        own, joint = (
            each.loss_sums(out, target)
            for each, out, target in zip((self.task, self.classes), outputs, targets, strict=True)
        )
        none = torch.zeros_like(joint.counts)
        return LossSums(
            sums=torch.cat([own.sums, joint.sums]),
            counts=torch.cat([own.counts, joint.counts]),
            parts={name: torch.cat([part, none]) for name, part in own.parts.items()},
            count_offset=own.count_offset,
        )

    def counts(self, outputs: Both, targets: Both) -> Float32[Tensor, " b"]:
        """Those of the task, and 1 for each classified image."""
        own = self.task.counts(outputs[0], targets[0])
        return torch.cat([own, self.classes.counts(outputs[1], targets[1])])
