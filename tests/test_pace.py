"""How fast a labelling was, in words."""

from __future__ import annotations

from typing import Any

import pytest

from ray_st.labeling.meter import Span, Sums, places_of, speed
from ray_st.labeling.pace import limit_words, speed_words

pytestmark = pytest.mark.pure

ALL = Span(20.0, 100.0)


def measured(*, gpus: float = 0.0, **changes: Any) -> dict[str, Any]:
    """1200 images in 100 s by two teachers, the first after 20 s."""
    values = {"images": 1200, "predict_s": 150.0, "read_s": 40.0, "first_label_s": 20.0}
    values |= {"teachers": {"a": ALL, "b": ALL}, "bare_images_per_s": 8.0, **changes}
    return speed(Sums(**values), 100.0, readers=2, gpus_per_actor=gpus)


def test_speed_by_hand() -> None:
    assert speed_words(measured()) == (
        "12.0 images/s, 6.0 for each teacher, 75% of the bare model's 8.0, first label after 20.0 s"
    )
    words = speed_words(measured(gpus=0.5, images=123_400, bare_images_per_s=None))
    assert words == (
        "1,234 images/s, 1,234 for each accelerator, bare model not measured (too few images), "
        "first label after 20.0 s"
    )


def test_one_teacher_is_not_told_twice() -> None:
    assert speed_words(measured(teachers={"a": ALL})).startswith("12.0 images/s, 150% of the bare")


@pytest.mark.parametrize(
    ("spans", "teachers"),
    [
        ([ALL, Span(20, 60), Span(62, 100)], 2),  # the second died, and the third came for it
        ([Span(20, 50), Span(21, 50), Span(60, 100), Span(60, 99)], (80 + 78) / 80),  # two shards
        ([ALL, Span(60, 100)], 1.5),  # a node that came in the middle
        ([Span(20, 60), Span(20, 60), ALL], 2),  # two that went in the middle
        ([Span(20, 20)], 1),
    ],
)
def test_who_came_for_another_is_not_counted_beside_it(spans: list[Span], teachers: float) -> None:
    found = measured(gpus=0.5, teachers=dict(enumerate(spans)))
    assert found["images_per_s_per_teacher"] == pytest.approx(12 / teachers)
    assert found["images_per_s_per_accelerator"] == pytest.approx(24 / teachers)
    assert found["busy"]["predict"] == pytest.approx(150 / (80 * teachers))


def test_of_many_pools_the_places_are_kept_and_say_the_same() -> None:
    pools = [[Span(60 * n + i, 60 * n + 50 - i) for i in range(3)] for n in range(200)]
    kept: list[Span] = []
    for pool in pools:
        kept = places_of([*kept, *pool])
    assert len(kept) == 3
    every = dict(enumerate(span for pool in pools for span in pool))
    assert measured(teachers={}, places=kept) == measured(teachers=every)


def test_of_a_run_that_labelled_nothing_nothing_is_said() -> None:
    assert measured(images=0) == {}
    assert speed_words({}) == limit_words({}, 10.0) == ""


@pytest.mark.parametrize(
    ("changes", "said", "move"),
    [
        # Of the 80 s behind the first label, two readers have 160, and two teachers too.
        ({"read_s": 152.0}, "reading and decoding: readers were busy 95% of the time, teachers 94%",
         "raise label.readers"),
        ({"read_s": 400.0}, "reading and decoding: readers were busy 100% of", "label.readers"),
        ({}, "the teacher: busy 94% of the time, readers 25%", "raise label.actors"),
        ({"predict_s": 16.0}, "neither readers (busy 25%) nor teachers (10%)", "network"),
        ({"predict_s": 16.0, "first_label_s": 60.0},  # of 40 s there are 80
         "the start: teachers were busy 20% of the time behind it, readers 50%", "this short"),
    ],
)  # fmt: skip
def test_the_limit_and_the_next_move(changes: dict[str, Any], said: str, move: str) -> None:
    if "first_label_s" in changes:
        changes = {**changes, "read_s": 39.9}
    words = limit_words(measured(**changes), 100.0)
    assert words.startswith(said)
    assert move in words
