"""The teacher labels while the student learns: two stages at once, each on its own cores.

In: how to label, and how to describe the student's training. Out: the summaries of both, as if one
had come after the other. Next: `checkup/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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


def live_choice(teacher: TeacherSource, policy: PolicyConfig, holdout: Holdout | None) -> Choice:
    """The thresholds of a policy that `require_possible` has let pass."""
    return choose(lambda: (), teacher.task.kind, policy, teacher.classes, holdout)


def live_stages(
    label: Callable[[], dict[str, Any]],
    train_on: Callable[[LiveRows], dict[str, Any]],
    out: str | Path,
    choice: Choice,
    *,
    batch_size: int,
    record: Path,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Label in a process of its own, on this machine, and train here; the summaries of both.

    Args:
        label: fills the folder `out` with labels, and gives its summary.
        train_on: trains on what is labelled, and gives its summary.
        out: folder or bucket of the labels.
        choice: which labels are learned from.
        batch_size: pseudo images a step.
        record: file that remembers which steps had which labels.

    Raises:
        UserError: where either came to an end that a user can mend.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(_called)
    labelling = task.remote(label)
    store = storage.join(storage.absolute(str(out)), "raw")
    rows = LiveRows.begun(store, str(record.absolute()), labelling, choice, batch_size)
    try:
        trained = train_on(rows)
    except (UserError, RayError, RuntimeError):
        if not ray.wait([labelling], timeout=0)[0]:
            ray.cancel(labelling, force=True)  # nobody waits for its labels
        else:
            _summary(labelling)  # raises why there were none, if that is why
        raise
    finally:
        rows.ended()
    return _summary(labelling), trained


def _called(label: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return label()  # Ray takes plain functions only


def _summary(labelling: Any) -> dict[str, Any]:
    """Wait for the end of a labelling; what it raised is raised without Ray's wrapping."""
    try:
        found: dict[str, Any] = ray.get(labelling)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from error
        raise
    return found
