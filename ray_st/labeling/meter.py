"""What labelling costs, and where: every process tells, the driver sums.

In: counts and seconds from readers and teachers, wherever they run. Out: `Sums`, and what a run
says of its speed. Next: `execution.py`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray

from ray_st.labeling.config import LabelConfig
from ray_st.metrics import LabellingMetrics
from ray_st.progress import keeper

_WORTH_A_PROBE = 5000  # images; it takes two seconds of one teacher
_MOST_REASONS = 3  # that are named when too many images fail


class Span(NamedTuple):
    """From the start of a teacher's first batch to the end of its last, on one clock."""

    begun_s: float
    ended_s: float


@dataclass(kw_only=True)
class Sums:
    """What was told so far; seconds are of the processes that did the work, added up."""

    images: int = 0
    failures: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    read_s: float = 0.0
    predict_s: float = 0.0
    teachers: dict[str, Span] = field(default_factory=dict)
    places: list[Span] = field(default_factory=list)  # of the teachers of pools that have ended
    first_label_s: float | None = None  # since the sums were begun
    bare_images_per_s: float | None = None  # of one teacher alone with its model
    refusal: str | None = None  # the line of a teacher that could not be made
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
        sums, now = self._sums, time.monotonic()
        if sums.first_label_s is None:
            sums.first_label_s = now - sums.begun
        first = sums.teachers.get(teacher, Span(now - seconds, now))
        sums.teachers[teacher] = first._replace(ended_s=now)
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

    def refused(self, line: str) -> None:
        self._sums.refusal = line

    def pool_ended(self) -> None:
        sums = self._sums
        sums.places = places_of([*sums.places, *sums.teachers.values()])
        sums.teachers = {}

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

    def refused(self, line: str) -> None:
        """Say why no teacher could be made here, before the process ends of it."""
        ray.get(self.book.refused.remote(line))

    def pool_ended(self) -> None:
        """Say that no teacher lives any more: of thousands of shards not every one is kept."""
        self.book.pool_ended.remote()

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


def places_of(spans: Iterable[Span]) -> list[Span]:
    """Put teachers behind each other: who begins after another's end has taken its place.

    As after a death, or in the next shard; the place counts through the gap.
    """
    places: list[Span] = []
    for span in sorted(spans):
        free = [place for place in places if place.ended_s <= span.begun_s]
        taken = max(free, key=lambda place: place.ended_s, default=span)
        places = [place for place in places if place is not taken]
        places.append(taken._replace(ended_s=span.ended_s))
    return places


def at_work(spans: Iterable[Span]) -> float:
    """How many teachers were at work, on the average of the time in which there were any."""
    places = places_of(spans)
    if not places:
        return 1.0
    length_s = max(place.ended_s for place in places) - min(place.begun_s for place in places)
    return sum(place.ended_s - place.begun_s for place in places) / length_s if length_s else 1.0


def speed(sums: Sums, seconds: float, *, readers: int, gpus_per_actor: float) -> dict[str, Any]:
    """What a summary says of a run that took so long; empty where nothing was labelled."""
    if not sums.images or seconds <= 0:
        return {}
    teachers = at_work([*sums.places, *sums.teachers.values()])
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
