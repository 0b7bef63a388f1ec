"""The teacher labels while the student learns: two stages at once, each on its own cores.

In: how to label, and how to describe the student's training. Out: the summaries of both, as if one
had come after the other. Next: `pretraining.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_st.cluster.placement import beside, training_needs
from ray_st.config import UserError, require
from ray_st.data import storage
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.live import LiveRows
from ray_st.labeling.policy import Choice, Holdout, PolicyConfig, choose
from ray_st.labeling.teacher import TeacherSource
from ray_st.training.schedule import TrainConfig

RECORD = "live.json"


def require_possible(label: LabelConfig, policy: PolicyConfig) -> None:
    """Refuse what cannot be decided or run while a pool is still being labelled."""
    for name in ("balance_share", "max_per_class"):
        rule = "left out with loop.live: it looks at the whole pool first"
        require(getattr(policy, name) is None, f"policy.{name}", rule, getattr(policy, name))
    rule = "at least 1 actor with loop.live, which labels beside the training"
    require(label.actors[1] > 0, "label.actors", rule, label.actors)


def beside_training(
    label: LabelConfig, train: TrainConfig, *, cpus: float, gpus: float
) -> LabelConfig:
    """Labelling that leaves the student its cores, and shows its labels block by block."""
    needs = training_needs(train, has_pseudo=True)
    label = beside(label, needs, cpus=cpus, gpus=gpus)
    return replace(label, file_images=min(label.file_images, label.block_images))


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """A labelling that goes on in a process of its own, on this machine."""

    ended: Any  # reference to its summary
    store: str  # folder or bucket of the raw predictions

    @classmethod
    def begun(cls, label: Callable[[], dict[str, Any]], out: str | Path) -> Labelling:
        """Start it; `label` fills the folder `out`."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(_called)
        store = storage.join(storage.absolute(str(out)), "raw")
        return cls(ended=task.remote(label), store=store)

    def rows(
        self,
        teacher: TeacherSource,
        policy: PolicyConfig,
        holdout: Holdout | None,
        *,
        batch_size: int,
        record: Path,
    ) -> LiveRows:
        """What it has made so far, whenever one asks."""
        choice = _choice(teacher, policy, holdout)
        return LiveRows.begun(self.store, str(record), self.ended, choice, batch_size)

    def summary(self) -> dict[str, Any]:
        """Wait for its end. Raises `UserError` where it came to one that a user can mend."""
        try:
            found: dict[str, Any] = ray.get(self.ended)
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from error
            raise
        return found

    def given_up(self) -> None:
        """Raise why it failed, if it did; else end it, since nobody waits for its labels."""
        if ray.wait([self.ended], timeout=0)[0]:
            self.summary()
        else:
            ray.cancel(self.ended, force=True)


def _called(label: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return label()


def _choice(teacher: TeacherSource, policy: PolicyConfig, holdout: Holdout | None) -> Choice:
    return choose(lambda: (), teacher.task.kind, policy, teacher.classes, holdout)


def train_beside(
    labelling: Labelling, rows: LiveRows, train: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train, then wait for the rest of the labels; the summaries of labelling and training."""
    try:
        trained = train()
    except (UserError, RayError, RuntimeError):
        labelling.given_up()
        raise
    finally:
        rows.ended()
    return labelling.summary(), trained
