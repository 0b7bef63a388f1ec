"""What in a labelling would worry us, each in one line with the next move.

In: a summary of `label`, `policy` or `run`. Out: lines, the same for a terminal and for the page.
Next: `policy`.

What people label is known where there is a hold-out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from ray_st.labeling.amounts import BOXES, SHARE, all_or_nothing, amount_of

Facts = Mapping[str, Any]

_HUMAN: Final = "human_labels_per_class"
_WEAK = 5.0  # points of the figure that ranks, of 100
_MUCH = 3  # times as many boxes as people draw
_NEARLY_ALL = 0.9  # of the labels, or of the scores
_AT_THE_FLOOR = 0.95  # of the scores; a sound detector has two thirds there
_FEW = 100  # images, or scores, too few to tell
_LABELS_A_CLASS = 10  # on average, for a class without any to be no chance
_MOST_NAMES = 5
_HALF_STEP = 0.0005  # scores at rest are float16


def weak_teacher(figures: Mapping[str, float | None]) -> list[str]:
    """What to say before the work of a teacher with these figures on a hold-out, 0..100."""
    name, value = next(iter(figures.items()), ("", None))
    if not name or (value is not None and value >= _WEAK):
        return []
    reached = f"no {name}" if value is None else f"{name} {value:.1f}"
    return [
        f"the teacher has {reached} on the hold-out: a student learns its mistakes. Train it "
        "longer, or check that the hold-out shows the same things, before a pool is labelled."
    ]


def concerns(summary: Facts) -> list[str]:
    """What would worry us about these labels, worst first; nothing of what is not known."""
    facts, policy = summary.get("pseudo") or {}, summary.get("policy") or {}
    found = [
        _empty(facts, policy),
        _little(facts, policy),
        _much(facts, policy),
        _wrong(facts, policy),
        _failed(facts),
        _one_class(facts),
        _no_label(facts, summary.get("thresholds") or {}),
        _below_floor(summary, policy),
        *_scores(facts, summary.get("score_floor")),
    ]
    return [line for line in found if line]


def _more(policy: Facts) -> str:
    """The way to more labels under a policy."""
    if policy.get("target_precision") is not None:
        return "Lower policy.target_precision"
    if policy.get("balance_share") is not None:
        return "Raise policy.balance_share"
    return "Lower policy.score_threshold"


def _fewer(policy: Facts) -> str:
    lower, raised = _more(policy).split(maxsplit=1)
    return f"{'Raise' if lower == 'Lower' else 'Lower'} {raised}"


def _empty(facts: Facts, policy: Facts) -> str:
    empty, amount = facts.get("empty_share"), amount_of(facts)
    if empty is None or empty <= 0.5:
        return ""
    return (
        f"{empty:.0%} of the pool images have no pseudo label at all. {amount.none_means} "
        f"{_more(policy)}, or check that the pool shows the same things."
    )


def _little(facts: Facts, policy: Facts) -> str:
    ours, theirs = _beside_people(facts)
    if not ours or not theirs or ours >= theirs / 4 or all_or_nothing(facts):
        return ""
    amount = amount_of(facts)
    return f"{_compared(facts)}: less than a quarter. {amount.little_means} {_more(policy)}."


def _much(facts: Facts, policy: Facts) -> str:
    ours, theirs = _beside_people(facts)
    if amount_of(facts) is not BOXES or ours is None or not theirs or ours <= _MUCH * theirs:
        return ""
    return (
        f"{_compared(facts)}: more than {_MUCH} times as many. Most are likely false or doubled. "
        f"{_fewer(policy)}, or suppress doubles with policy.nms."
    )


def _beside_people(facts: Facts) -> tuple[float | None, float | None]:
    key = amount_of(facts).key
    return facts.get(key), facts.get(f"human_{key}")


def _compared(facts: Facts) -> str:
    amount = amount_of(facts)
    ours, theirs = (amount.form.format(value) for value in _beside_people(facts))
    return f"{ours} {amount.fact}, where {amount.people.format(theirs)}"


def _wrong(facts: Facts, policy: Facts) -> str:
    precision = facts.get("precision")
    if precision is None or math.isnan(precision) or precision >= 0.5:
        return ""
    return (
        f"Only {precision:.0%} of the pseudo {amount_of(facts).many} are right. "
        f"{_fewer(policy)}, or train the teacher longer."
    )


def _failed(facts: Facts) -> str:
    failures = facts.get("failures")
    if not failures or failures <= 0.01 * (facts.get("images") or 0):
        return ""
    return (
        f"{failures:,.0f} images could not be read or labelled: more than one in a hundred. "
        "failures.parquet names each one and the reason; mend them and pass --retry-failed."
    )


def _one_class(facts: Facts) -> str:
    """A class that takes nearly all; a map's background may, unless people say otherwise."""
    ours, theirs = _shares(facts.get("labels_per_class")), _shares(facts.get(_HUMAN))
    if not ours or (facts.get("images") or 0) < _FEW:
        return ""
    name = max(ours, key=lambda each: ours[each])
    is_map = amount_of(facts) is SHARE and not all_or_nothing(facts)
    expected = theirs.get(name, 0.0) + 0.2 if theirs else 1.0 if is_map or len(ours) < 3 else 0.0
    if ours[name] <= max(_NEARLY_ALL, expected):
        return ""
    beside = f", where people's are {theirs.get(name, 0.0):.0%}" if theirs else ""
    move = "policy.balance_share" if is_map else "policy.max_per_class or policy.balance_share"
    return (
        f"{ours[name]:.0%} of all that is labelled is {name}{beside}. The student sees little "
        f"else. Give the others lower thresholds (policy.class_thresholds), or set {move}."
    )


def _no_label(facts: Facts, thresholds: Facts) -> str:
    """Classes that nothing was labelled as; those that have no threshold are told elsewhere."""
    ours, theirs = facts.get("labels_per_class") or {}, facts.get(_HUMAN)
    enough = sum(ours.values()) >= _LABELS_A_CLASS * len(ours)
    if not enough or (facts.get("images") or 0) < _FEW:
        return ""
    known = [name for name in ours if thresholds.get(name, 0.0) is not None]
    none = [name for name in known if not ours[name] and (not theirs or theirs.get(name))]
    if not none:
        return ""
    more = len(none) - _MOST_NAMES
    names = ", ".join(none[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    return (
        f"{len(none)} of {len(ours)} classes have no pseudo label: {names}. The student unlearns "
        "them. Lower their thresholds (policy.class_thresholds), or set policy.balance_share."
    )


def _below_floor(summary: Facts, policy: Facts) -> str:
    """A threshold that asks for boxes that were never stored; shares have none of their own."""
    floor, thresholds = summary.get("score_floor"), summary.get("thresholds") or {}
    scores = [score for score in thresholds.values() if score is not None]
    if floor is None or not scores or policy.get("balance_share") is not None:
        return ""
    if min(scores) >= floor - _HALF_STEP:
        return ""
    return (
        f"The lowest threshold, {min(scores):g}, is below what labelling kept: boxes up to "
        f"{floor:g} were never stored. Raise it, or label again with a lower detect.score_floor."
    )


def _scores(facts: Facts, floor: float | None) -> list[str]:
    """Scores of boxes that pile up at an end; of pixels and images many are rightly sure."""
    counts = facts.get("score_histogram") or []
    total = sum(counts)
    if amount_of(facts) is not BOXES or total < _FEW:
        return []
    low = 0 if floor is None else sum(counts[: int(floor * len(counts)) + 2]) / total
    sure = counts[-1] / total
    found = []
    if low > _AT_THE_FLOOR:
        found.append(
            f"{low:.0%} of all scores lie just above the floor of {floor:g}: the teacher is hardly "
            "sure of anything. Train it longer, or check that the pool shows the same things."
        )
    if sure > _NEARLY_ALL:
        found.append(
            f"{sure:.0%} of all scores are {1 - 1 / len(counts):g} or more: no threshold can tell "
            "right from wrong. Check what the teacher gives as scores, and measure it on a "
            "hold-out (policy.holdout)."
        )
    return found


def _shares(counts: Facts | None) -> dict[str, float]:
    total = sum((counts or {}).values())
    return {name: count / total for name, count in (counts or {}).items()} if total else {}
