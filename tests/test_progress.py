"""How far the work is: plain lines in a log, bars on a terminal."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from ray_st.progress import shown
from ray_st.standing import Log, Row


def lines(log: Log, now: float, **rows: Row) -> list[str]:
    return log.lines(rows, now)


@pytest.mark.pure
def test_a_line_when_it_is_due_with_rate_and_time_left() -> None:
    log = Log({"label": 10_000}, every_s=60.0, now=0.0)
    assert lines(log, 59.9) == []
    assert lines(log, 60.0) == ["label      0 / 10,000  waiting for the first"]
    # The first 400 stood already, or took a minute of starting: they are no measure.
    assert lines(log, 70.0, label=Row(done=400)) == []
    (line,) = lines(log, 120.0, label=Row(done=1400))  # 1000 in 50 s
    assert line == "label      1,400 / 10,000  20.0/s  7 min left"  # 8600 / 20 = 430 s
    assert lines(log, 121.0, label=Row(done=1420)) == []
    (line,) = lines(log, 180.0, label=Row(done=1400 + 7800, failed=1203, note="odd"))
    assert line == "label      9,200 / 10,000  80.0/s  10 s left  1,203 failed  odd"  # 8800 in 110
    assert lines(log, 240.0, label=Row(done=10_000)) == []


@pytest.mark.pure
def test_the_rate_is_that_of_the_last_lines() -> None:
    log = Log({"label": 10**6}, every_s=1.0, now=0.0)
    done = 0
    for second in range(1, 31):
        done += 100 if second <= 15 else 10
        (line,) = lines(log, float(second), label=Row(done=done))
    assert "  10.0/s  " in line


@pytest.mark.pure
@pytest.mark.parametrize(
    ("left", "said"), [(80, "80 s left"), (90, "2 min left"), (3540, "59 min"), (9000, "2 h 30 m")]
)
def test_durations(left: int, said: str) -> None:
    log = Log({"eval": left + 2}, every_s=1.0, now=0.0)
    lines(log, 0.5, eval=Row(done=1))
    (line,) = lines(log, 1.5, eval=Row(done=2))  # one a second
    assert said in line


@pytest.mark.pure
def test_a_stall_leaves_the_time_open_and_names_that_have_not_begun_are_left_out() -> None:
    log = Log({"alpha 1": 10, "alpha 2": 10, "alpha 3": 10}, every_s=60.0, now=0.0)
    rows = {"alpha 1": Row(done=4, note="loss 0.3"), "alpha 3": Row(done=10)}
    log.lines(rows, 1.0)
    assert log.lines(rows, 61.0) == ["alpha 1    4 / 10  0.0/s  time left unknown  loss 0.3"]


@pytest.mark.pure
def test_counts_that_begin_anew_are_no_negative_rate() -> None:
    log = Log({"label": 900}, every_s=1.0, now=0.0)
    lines(log, 0.5, label=Row(done=500))
    (line,) = lines(log, 1.5, label=Row(done=64))
    assert line == "label      64 / 900  0.0/s  time left unknown"


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("is_terminal", [False, True])
def test_counts_come_from_anywhere(is_terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=120)
    deadline = time.monotonic() + 60
    with shown({"label": 500}, console, every_s=0.01) as counters:
        counters["label"].add(30)
        counters["label"].add(12, failed=3)
        while "3 failed" not in console.file.getvalue():  # type: ignore[attr-defined]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for words in ("few [bold] labels", "fewer still"):
            counters["label"].warn({"few": words})
        counters["label"].warn({"late": "said at the end"})
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("\x1b[" in text) == is_terminal
    assert ("42/500" in text) == is_terminal
    assert ("label      42 / 500  0.0/s  time left unknown  3 failed\n" in text) != is_terminal
    assert text.count("warning    label: few [bold] labels\n") == 1  # the first of its kind
    assert "fewer" not in text
    assert text.count("warning    label: said at the end\n") == 1
