"""What labelling costs, and where: every process tells, the driver sums.

In: counts and seconds from readers and teachers, wherever they run. Out: `Sums`, and what a run
says of its speed. Next: `execution.py`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray

from ray_st.labeling.config import LabelConfig
from ray_st.metrics import LabellingMetrics
from ray_st.progress import keeper

_WORTH_A_PROBE = 5000  # images; it takes two seconds of one teacher
_MOST_REASONS = 3  # that are named when too many images fail


@dataclass(kw_only=True)
class Sums:
    """What was told so far; seconds are of the processes that did the work, added up."""

    images: int = 0
    failures: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    read_s: float = 0.0
    predict_s: float = 0.0
    teachers: set[str] = field(default_factory=set)
    first_label_s: float | None = None  # since the sums were begun
    bare_images_per_s: float | None = None  # of one teacher alone with its model
    begun: float = field(default_factory=time.monotonic)


class _Book:
    """The actor that adds up."""

    def __init__(self, wants_probe: bool, run: str) -> None:  # noqa: FBT001 - as Ray's actors take it
        self._sums = Sums()
        self._metrics = LabellingMetrics(run, "label")
        self._wants_probe = wants_probe

    def read(self, seconds: float) -> None:
        self._sums.read_s += seconds
        self._metrics.read(seconds)

    def predicted(
        self,
        teacher: str,
        images: int,
        seconds: float,
        failures: int,
        reasons: list[str],
        empty: int,
    ) -> None:
        sums = self._sums
        if sums.first_label_s is None:
            sums.first_label_s = time.monotonic() - sums.begun
        sums.teachers.add(teacher)
        sums.images += images
        sums.predict_s += seconds
        sums.failures += failures
        sums.reasons.update(reasons)
        self._metrics.predicted(images, seconds, failures=failures, empty=empty)

    def may_probe(self) -> bool:
        """Whether the bare model is still to be measured; the first to ask shall."""
        may, self._wants_probe = self._wants_probe, False
        return may

    def probed(self, images_per_s: float) -> None:
        self._sums.bare_images_per_s = images_per_s

    def sums(self) -> Sums:
        return self._sums


@dataclass(frozen=True)
class Meter:
    """What a process holds: it can be sent anywhere, and never makes its holder wait."""

    book: Any

    @classmethod
    def begun(cls, images: int, run: str = "") -> Meter:
        """Begin to count, from zero; of few images the bare model is not measured.

        Ray's metrics bear the tag `run`.
        """
        return cls(keeper(_Book, images >= _WORTH_A_PROBE, run))

    def read(self, seconds: float) -> None:
        """Say how long some images took to be fetched and decoded."""
        self.book.read.remote(seconds)

    def predicted(
        self,
        teacher: str,
        images: int,
        seconds: float,
        reasons: list[str],
        failures: int,
        empty: int = 0,
    ) -> None:
        """Say that a teacher is done with so many images.

        Of these it could not see `failures`, and found nothing at all in `empty`.
        """
        some = reasons[:_MOST_REASONS]
        self.book.predicted.remote(teacher, images, seconds, failures, some, empty)

    def may_probe(self) -> bool:
        """Whether this caller should measure its bare model: one does."""
        return bool(ray.get(self.book.may_probe.remote()))

    def probed(self, images_per_s: float) -> None:
        """Say how fast a bare model is."""
        self.book.probed.remote(images_per_s)

    def sums(self) -> Sums:
        """What was told so far."""
        found: Sums = ray.get(self.book.sums.remote())
        return found

    def end(self) -> None:
        """Let the sums go."""
        ray.kill(self.book)


@contextmanager
def metered(config: LabelConfig, images: int, run: str) -> Iterator[Meter | None]:
    """A meter for the length of the block; None where there is no pool to be metered."""
    meter = None if config.actors[1] == 0 else Meter.begun(images, run)
    try:
        yield meter
    finally:
        if meter is not None:
            meter.end()


def speed(sums: Sums, seconds: float, *, readers: int, gpus_per_actor: float) -> dict[str, Any]:
    """What a summary says of a run that took so long; empty where nothing was labelled."""
    if not sums.images or seconds <= 0:
        return {}
    teachers = max(1, len(sums.teachers))
    rate = sums.images / seconds
    steady = seconds - (sums.first_label_s or 0.0)
    busy = {
        "read": sums.read_s / (steady * readers) if steady > 0 else 0.0,
        "predict": sums.predict_s / (steady * teachers) if steady > 0 else 0.0,
    }
    accelerators = gpus_per_actor * teachers
    bare = sums.bare_images_per_s
    return {
        "images_per_s": rate,
        "images_per_s_per_accelerator": rate / accelerators if accelerators else None,
        "images_per_s_per_teacher": rate / teachers,
        "bare_images_per_s": bare,
        "speed_of_light": rate / teachers / bare if bare else None,
        "first_label_s": sums.first_label_s,
        "busy": busy,
        "limit": _limit(busy),
    }


def _limit(busy: dict[str, float]) -> str:
    """The stage that the others wait for; neither where both are idle half of the time."""
    name = max(busy, key=lambda each: busy[each])
    return name if busy[name] >= 0.5 else "start"
