"""What in a training under way would worry us, each in one line with the next move.

In: rows of metrics.jsonl, as written or as read back. Out: lines, the same for a terminal and for a
summary. Next: `streams.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

PATIENCE = 10  # logged steps in a row before silence is no chance
_WIDEST_RATIO = 1e3  # of mean_human to mean_pseudo, or the other way


def ringing(rows: Sequence[Row]) -> dict[str, str]:
    """What is wrong at the last of these rows: a line for each kind of alarm.

    Rows of steps before the last `PATIENCE` do not matter, nor do those of evaluations.
    """
    rows = _of_steps(rows[-2 * PATIENCE :])[-PATIENCE:]  # an evaluation a step at most
    if not rows:
        return {}
    found = {
        "silence": _silence(rows),
        "ratio": _ratio(rows[-1]),
        "skipped": _skipped(rows[-1]),
    }
    return {kind: line for kind, line in found.items() if line}


def alarms(rows: Sequence[Row]) -> list[str]:
    """All that has been wrong in a run: of each kind of alarm the first, in order."""
    first: dict[str, str] = {}
    rows = _of_steps(rows)
    for end in range(1, len(rows) + 1):
        for kind, line in ringing(rows[max(0, end - PATIENCE) : end]).items():
            first.setdefault(kind, line)
    return list(first.values())


def _of_steps(rows: Sequence[Row]) -> Sequence[Row]:
    return [row for row in rows if "val" not in row]


def _silence(rows: Sequence[Row]) -> str:
    """A pseudo half that teaches nothing, logged step after logged step."""
    if len(rows) < PATIENCE:
        return ""
    since = f"in {PATIENCE} logged steps in a row, up to step {rows[-1]['step']}"
    if all(row.get("pseudo_empty_share") == 1 for row in rows):
        return (
            f"no pseudo image had a label {since}: the pool teaches only that nothing is there. "
            "Lower policy.score_threshold, or check that the pool's images can be read."
        )
    if all(row.get("loss_pseudo") == 0 for row in rows):
        return (
            f"the pseudo loss was exactly 0 {since}: the pool teaches nothing. Lower "
            "policy.score_threshold, or check what the pool's labels are."
        )
    return ""


def _ratio(row: Row) -> str:
    """Losses so unlike that the one is noise beside the other."""
    ratio = row.get("ratio")
    if ratio is None or 1 / _WIDEST_RATIO <= ratio <= _WIDEST_RATIO:
        return ""
    if ratio > 1:
        found = f"human loss was {ratio:,.0f} times the pseudo loss"
        move = "Pseudo images have next to nothing to teach: lower policy.score_threshold"
    else:
        found = f"pseudo loss was {1 / ratio:,.0f} times the human loss"
        move = "Pseudo labels contradict what is learned: raise policy.score_threshold"
    return (
        f"the {found} at step {row['step']} (means; `ratio` in metrics.jsonl). {move}, or lower "
        "train.alpha."
    )


def _skipped(row: Row) -> str:
    """Steps that changed nothing."""
    count = row.get("skipped_steps") or 0
    if not count:
        return ""
    return (
        f"{count} of the first {row['step']} steps changed nothing: their loss or gradient was no "
        "finite number; skipped_steps in metrics.jsonl counts on. Lower train.lr, or raise "
        "train.warmup_steps."
    )
