"""What Ray's metrics say of us: every name once, for both wings and for the dashboard.

In: counts and seconds of a labelling, rows of a training's log. Out: metrics that Ray exports to
Prometheus as `ray_NAME`, with the tags of a run and its stage. They cost microseconds, and where
Ray exports nothing, as on a laptop, they have no effect. Next: `progress.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from ray.util import metrics as ray_metrics

from ray_st.ray_compat import begin_count

TAGS = ("run", "stage")
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric, as Ray knows it; Prometheus puts `ray_` before its name."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    about: str
    tags: tuple[str, ...] = ()  # besides those of all

    @property
    def exported(self) -> tuple[str, ...]:
        """Names of its series in Prometheus."""
        ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
        return tuple(f"ray_{self.name}{end}" for end in ends[self.kind])


LABELLED = Metric(
    kind="counter", name="st_images_labelled", about="Images a teacher is done with, failures too."
)
FAILURES = Metric(kind="counter", name="st_image_failures", about="Images that came to nothing.")
EMPTY = Metric(
    kind="counter", name="st_images_empty", about="Images in which a teacher found nothing at all."
)
SECONDS = Metric(
    kind="histogram",
    name="st_batch_seconds",
    about="Seconds a batch: read (fetched and decoded, up to 64 images), predict.",
    tags=("work",),
)
STEP = Metric(kind="gauge", name="st_step", about="Optimiser steps done.")
LOSS = Metric(kind="gauge", name="st_loss", about="Raw loss of an origin.", tags=("origin",))
MEAN = Metric(
    kind="gauge", name="st_loss_mean", about="Moved average of that loss.", tags=("origin",)
)
RATIO = Metric(kind="gauge", name="st_loss_ratio", about="Mean human loss over mean pseudo loss.")
SPEED = Metric(kind="gauge", name="st_train_images_per_s", about="Images learned from a second.")
SKIPPED = Metric(kind="gauge", name="st_skipped_steps", about="Steps that changed nothing so far.")

ALL = (LABELLED, FAILURES, EMPTY, SECONDS, STEP, LOSS, MEAN, RATIO, SPEED, SKIPPED)

# What a row of metrics.jsonl calls them, and of which origin they are.
_OF_A_ROW: dict[str, tuple[Metric, dict[str, str]]] = {
    "loss_human": (LOSS, {"origin": "human"}),
    "loss_pseudo": (LOSS, {"origin": "pseudo"}),
    "loss_joint": (LOSS, {"origin": "joint"}),
    "mean_human": (MEAN, {"origin": "human"}),
    "mean_pseudo": (MEAN, {"origin": "pseudo"}),
    "mean_joint": (MEAN, {"origin": "joint"}),
    "ratio": (RATIO, {}),
    "images_per_s": (SPEED, {}),
    "skipped_steps": (SKIPPED, {}),
}


def run_of(out: str) -> str:
    """A short name for a run: the last two parts of its folder, without a URI's options."""
    body = out.partition("?")[0].partition("://")
    return "/".join((body[2] or body[0]).rstrip("/").split("/")[-2:])


class LabellingMetrics:
    """What a labelling tells, from the one process that adds up."""

    def __init__(self, run: str, stage: str) -> None:
        """Begin: every count stands at zero, so that a rate and a share are of all that comes."""
        self._tags = {"run": run, "stage": stage}
        for metric in (LABELLED, FAILURES, EMPTY):
            begin_count(_of(metric), self._tags)

    def read(self, seconds: float) -> None:
        """Some images were fetched and decoded in so many seconds."""
        _of(SECONDS).observe(seconds, {**self._tags, "work": "read"})

    def predicted(self, images: int, seconds: float, *, failures: int, empty: int) -> None:
        """A teacher is done with a batch."""
        _of(SECONDS).observe(seconds, {**self._tags, "work": "predict"})
        for metric, count in ((LABELLED, images), (FAILURES, failures), (EMPTY, empty)):
            if count:  # Ray takes no 0
                _of(metric).inc(count, self._tags)


class TrainingMetrics:
    """What a training tells, from its first worker: a tracker like others."""

    def __init__(self, run: str, stage: str) -> None:
        self._tags = {"run": run, "stage": stage}

    def put(self, step: int, scalars: Mapping[str, float]) -> None:
        """Take the numbers of a step; what is not known in it keeps the last value."""
        _of(STEP).set(step, self._tags)
        for name, (metric, more) in _OF_A_ROW.items():
            if name in scalars:
                _of(metric).set(scalars[name], {**self._tags, **more})

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is left open."""


@cache
def _of(metric: Metric) -> Any:
    """Ray's own object, one a process."""
    tags = (*TAGS, *metric.tags)
    if metric.kind == "histogram":
        return ray_metrics.Histogram(
            metric.name, description=metric.about, boundaries=[*_SECONDS], tag_keys=tags
        )
    kind = {"counter": ray_metrics.Counter, "gauge": ray_metrics.Gauge}[metric.kind]
    return kind(metric.name, description=metric.about, tag_keys=tags)
