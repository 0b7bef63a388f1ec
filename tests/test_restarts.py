"""How often a gang was started, and the seconds between a step that was kept and the next one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ray_st.training.restarts import RAY_FOLDER, GangStart, Journal, lost_s

pytestmark = pytest.mark.pure


def start(step: int, saved_at_s: float | None, moved_at_s: float | None) -> GangStart:
    return GangStart(step=step, saved_at_s=saved_at_s, moved_at_s=moved_at_s)


def test_a_run_without_a_restart_has_lost_nothing() -> None:
    assert lost_s([]) == 0.0
    assert lost_s([start(0, None, 100.0)]) == 0.0
    assert lost_s([start(0, None, None)]) == 0.0  # died before its first step


def test_seconds_from_the_checkpoint_to_the_step_after_it() -> None:
    first = start(0, None, 100.0)
    assert lost_s([first, start(50, 160.0, 205.0)]) == 45.0
    # Twice from one checkpoint, then from another: 300 - 160, and 420 - 400.
    twice = [first, start(50, 160.0, 205.0), start(50, 160.0, 300.0), start(80, 400.0, 420.0)]
    assert lost_s(twice) == 140.0 + 20.0
    # The one between came to no step: the last from that checkpoint counts.
    assert lost_s([first, start(50, 160.0, None), start(50, 160.0, 300.0)]) == 140.0


def test_before_the_first_checkpoint_all_is_lost() -> None:
    assert lost_s([start(0, None, 100.0), start(0, None, 130.0)]) == 30.0
    assert lost_s([start(0, None, None), start(0, None, 130.0)]) == 0.0  # no step was ever done


def test_clocks_that_differ_lose_no_negative_time() -> None:
    assert lost_s([start(0, None, 100.0), start(50, 160.0, 159.0)]) == 0.0


def test_a_journal_is_one_run_s_whoever_writes_it(tmp_path: Path) -> None:
    (tmp_path / RAY_FOLDER).mkdir()
    first = Journal.opened(str(tmp_path))
    assert first.starts == []
    first.begin(0, None)
    again = Journal.opened(str(tmp_path))  # the first died at once
    assert again.starts == [start(0, None, None)]
    again.begin(0, None)
    before = time.time()
    again.move()
    moved = again.starts[-1].moved_at_s
    assert moved is not None
    assert before <= moved <= time.time()
    again.move()  # only the first step of a start is noted
    assert again.starts[-1].moved_at_s == moved
    late = Journal.opened(str(tmp_path))
    assert late.starts == [start(0, None, None), start(0, None, moved)]
    assert late.run_id == first.run_id
    assert Journal.opened(str(tmp_path / "other")).run_id != first.run_id
