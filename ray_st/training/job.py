"""One training run, as it is sent to its workers.

In: configs, and references into the object store. Out: `Job`. Next: `validate.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_st.models import ModelConfig
from ray_st.progress import Counter
from ray_st.tasks.joint import joint_objective
from ray_st.tasks.task import Objective, Task
from ray_st.training.schedule import TrainConfig
from ray_st.training.streams import Stream


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training run, ready to be sent: configs, and references into the object store."""

    task: str
    classes: tuple[str, ...]
    model: ModelConfig
    train: TrainConfig
    human: Stream
    pseudo: Stream | None
    objective: Objective  # a `Task` where there is something to validate on
    num_outputs: int  # classes, or whatever else the model gives an image
    val: Any  # reference to the LABEL_ROWs to validate on, or None
    num_val: int
    init: Any  # reference to the `Start` of the weights, or None for random ones
    recipe: Mapping[str, Any]
    counter: Counter | None
    start: Mapping[str, Any] = field(default_factory=dict)  # what a summary says of `init`
    out: str = ""  # the run's folder or bucket; `fit` says it
    joint: Stream | None = None  # of classified images
    joint_classes: tuple[str, ...] = ()

    @property
    def images_a_step(self) -> int:
        """Over all workers, of all origins."""
        streams = (self.human, self.pseudo, self.joint)
        return sum(each.batch_size for each in streams if each is not None)

    @property
    def learned(self) -> Objective:
        """What a step lowers: the objective, and in joint training the loss of classes too."""
        if not isinstance(self.objective, Task):
            return self.objective
        return joint_objective(self.objective, len(self.joint_classes))

    @property
    def figures(self) -> tuple[str, ...]:
        """Keys of the metrics to look at; the first ranks models."""
        return self.objective.figures if isinstance(self.objective, Task) else ()
