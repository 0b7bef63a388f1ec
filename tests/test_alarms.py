"""Alarms as a table: rows of a log in, lines out."""

import math

import pytest

from ray_st.training.alarms import PATIENCE, alarms, ringing

pytestmark = pytest.mark.pure

SOUND = {
    "loss_human": 1.0,
    "loss_pseudo": 0.5,
    "ratio": 2.0,
    "pseudo_empty_share": 0.25,
    "skipped_steps": 0,
}
HUMAN_ONLY = {**SOUND, "loss_pseudo": None, "ratio": None, "pseudo_empty_share": None}
EMPTY = {**SOUND, "pseudo_empty_share": 1.0}
ZERO = {**SOUND, "loss_pseudo": 0.0, "ratio": None}
BAD = {**SOUND, "loss_human": math.nan, "loss_pseudo": math.nan, "skipped_steps": 1}
READ_BACK = {**BAD, "loss_human": None, "loss_pseudo": None}  # JSON has no NaN


def log(*parts):
    """(row, how often) -> rows of every tenth step."""
    rows = [row for row, count in parts for _ in range(count)]
    return [{**row, "step": 10 * (i + 1)} for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], []),
        (log((SOUND, 30)), []),
        (log((HUMAN_ONLY, 30)), []),
        (log((EMPTY, PATIENCE - 1)), []),
        (log((EMPTY, PATIENCE - 1), (SOUND, 1), (EMPTY, PATIENCE - 1)), []),
        (
            log((SOUND, 3), (EMPTY, PATIENCE)),
            ["no pseudo image had a label in 10 logged steps in a row, up to step 130"],
        ),
        (
            log((EMPTY, PATIENCE), (SOUND, 9)),
            ["no pseudo image had a label in 10 logged steps in a row, up to step 100"],
        ),
        (
            log((EMPTY, 3 * PATIENCE)),
            ["no pseudo image had a label in 10 logged steps in a row, up to step 100"],
        ),
        (log((ZERO, PATIENCE - 1)), []),
        (
            log((ZERO, PATIENCE)),
            ["the pseudo loss was exactly 0 in 10 logged steps in a row, up to step 100"],
        ),
        (log((SOUND, 1), ({**SOUND, "ratio": 1000.0}, 1), ({**SOUND, "ratio": 0.001}, 1)), []),
        (
            log((SOUND, 1), ({**SOUND, "ratio": 1001.0}, 2)),
            ["the human loss was 1,001 times the pseudo loss at step 20"],
        ),
        (
            log(({**SOUND, "ratio": 0.0005}, 1)),
            ["the pseudo loss was 2,000 times the human loss at step 10"],
        ),
        (log((BAD, 1)), ["1 of the first 10 steps changed nothing"]),
        (
            log((READ_BACK, 1), ({**SOUND, "skipped_steps": 8}, 1)),
            ["1 of the first 10 steps changed nothing"],
        ),
        (
            log((EMPTY, PATIENCE - 1), ({**EMPTY, "ratio": 1e9, "skipped_steps": 3}, 1)),
            [
                "no pseudo image had a label",
                "the human loss was 1,000,000,000 times",
                "3 of the first 100 steps",
            ],
        ),
        (log(({"step": 1}, 20)), []),  # of a log that knows none of it
    ],
)
def test_the_table(rows, said):
    found = alarms(rows)
    assert len(found) == len(said)
    for line, start in zip(found, said, strict=True):
        assert line.startswith(start)
        assert "\n" not in line
        assert "ower " in line  # the next move: lower something


def test_what_rang_once_keeps_its_words():
    rows = log((SOUND, 4), (EMPTY, 12), ({**SOUND, "ratio": 5e3}, 3), (BAD, 2), (ZERO, 11))
    for end in range(len(rows)):
        assert alarms(rows)[: len(alarms(rows[:end]))] == alarms(rows[:end])
    assert len(alarms(rows)) == 3


def test_only_the_last_rows_ring():
    rows = log((EMPTY, 30), (SOUND, 1))
    assert ringing(rows[:-1]).keys() == {"silence"}
    assert ringing(rows) == {}
    assert ringing(rows[10:-1]) == ringing(rows[-PATIENCE - 1 : -1]) == ringing(rows[:-1])
    assert ringing([]) == {}
