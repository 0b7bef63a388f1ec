"""Say how much the teacher labelled and how well, by which policy, and of which classes.

In: a summary of a labelling. Out: facts, warnings, sentences and bars for the page. What is worth a
warning stands in `labeling/concerns.py`, for terminals too. Next: `canvas.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ray_st.labeling.amounts import all_or_nothing, amount_of
from ray_st.labeling.concerns import concerns
from ray_st.report.run_files import number

NUM_CLASSES = 20  # that are shown


def facts(pseudo: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Value, name and a word of context for each figure that is there."""
    amount = amount_of(pseudo)
    human = number(pseudo.get(f"human_{amount.key}"))
    beside = amount.people.format(amount.form.format(human)) if human else ""  # `label` knows none
    kinds = (
        ("images", "pool images labelled", "", "{:,.0f}"),
        (amount.key, amount.fact, beside, amount.form),
        ("empty_share", f"images with no {amount.one}", "", "{:.0%}"),
        ("precision", f"of the pseudo {amount.many} are right", "precision", "{:.0%}"),
        ("recall", f"of the {amount.truths}", "recall", "{:.0%}"),
        ("failures", "images failed", "", "{:,.0f}"),
    )
    hidden = {"empty_share"} if all_or_nothing(pseudo) else set()
    read = [
        (number(pseudo.get(key)), name, note, form)
        for key, name, note, form in kinds
        if key not in hidden
    ]
    return [(form.format(v), name, note) for v, name, note, form in read if v is not None]


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """What would worry us, and the next move."""
    pseudo = summary.get("pseudo") or {}
    known = {name: value for name, value in pseudo.items() if number(value) is not None}
    counts = ("labels_per_class", "human_labels_per_class")
    known |= {name: found for name in counts if (found := _counts(pseudo.get(name)))}
    return concerns({**summary, "pseudo": {**known, "score_histogram": score_counts(summary)}})


def score_counts(summary: Mapping[str, Any]) -> list[float]:
    """Raw scores in equal bins from 0 to 1; none where they are something else."""
    found = (summary.get("pseudo") or {}).get("score_histogram")
    values = [number(value) for value in found] if isinstance(found, list) else []
    known = [value for value in values if value is not None and value >= 0]
    return known if len(known) == len(values) else []


def chosen_by(summary: Mapping[str, Any]) -> str:
    """By which rules predictions became pseudo labels, in one sentence."""
    policy, scores = summary.get("policy"), thresholds(summary)
    if not policy:
        return "What the policy kept of what the teacher wrote on the pool."
    rules = [_scores_rule(policy, scores), *_further_rules(policy)]
    return f"What the teacher wrote on the pool, as the policy chose it: {'; '.join(rules)}."


def thresholds(summary: Mapping[str, Any]) -> list[float]:
    """The different scores from which predictions were labels, lowest first."""
    found = map(number, (summary.get("thresholds") or {}).values())
    return sorted({score for score in found if score is not None})


def span(scores: list[float]) -> str:
    """The lowest and the highest of some scores."""
    low, high = f"{scores[0]:.2f}", f"{scores[-1]:.2f}"
    return low if low == high else f"{low} to {high}"


def _scores_rule(policy: Mapping[str, Any], scores: list[float]) -> str:
    """What decided the thresholds, and what they came to."""
    came_to = f" (scores from {span(scores)} on)" if scores else " (of no class)"
    if policy.get("target_precision") is not None:
        return f"precision {policy['target_precision']:g} on the hold-out{came_to}"
    if policy.get("balance_share") is not None:
        return f"the best {policy['balance_share']:.0%} of each class{came_to}"
    if policy.get("class_thresholds") or policy.get("max_per_class") is not None:
        return f"scores from {span(scores)} on, by class" if scores else "scores by class"
    return f"scores from {policy['score_threshold']:g} on"


def _further_rules(policy: Mapping[str, Any]) -> list[str]:
    """All else that the policy asked for."""
    forms = (
        ("max_per_class", "at most {:,} of a class"),
        ("max_per_image", "at most {:,} of an image"),
        ("min_size_px", "sides of {:g} px or more"),
        ("ignore_from", "boxes from {:g} on that are no labels are no background either"),
    )
    said = [form.format(policy[name]) for name, form in forms if policy.get(name)]
    if policy.get("soft_targets"):
        said.append("probabilities as targets")
    if policy.get("nms", "none") != "none":
        said.append(f"{policy['nms']} NMS once more")
    return said


@dataclass(frozen=True, kw_only=True)
class ClassBar:
    """How frequent a class is among the labels."""

    name: str
    ours: str  # of all pseudo labels, in words
    ours_percent: float  # of the longest bar
    theirs: str = ""  # of all that people labelled; empty where that is not known
    theirs_percent: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ClassBars:
    """The classes, most frequent first, and what is left out."""

    bars: list[ClassBar]
    note: str


def class_bars(summary: Mapping[str, Any]) -> ClassBars:
    """Share of each class in all pseudo labels, beside its share in what people labelled."""
    pseudo = summary.get("pseudo") or {}
    ours, theirs = _shares(pseudo.get("labels_per_class")), _shares(pseudo.get(_PEOPLE))
    order = sorted(ours, key=lambda name: (-ours[name], -theirs.get(name, 0.0)))
    shown = order[:NUM_CLASSES]
    longest = max((max(ours[name], theirs.get(name, 0.0)) for name in shown), default=0.0) or 1.0
    bars = [
        ClassBar(
            name=name,
            ours=_percent(ours[name]),
            ours_percent=round(100 * ours[name] / longest, 2),
            theirs=_percent(theirs.get(name, 0.0)) if theirs else "",
            theirs_percent=round(100 * theirs.get(name, 0.0) / longest, 2),
        )
        for name in shown
    ]
    beside = _BESIDE_PEOPLE if theirs else _ALONE
    left = len(order) - len(shown)
    without = sum(not ours[name] for name in order[NUM_CLASSES:])
    more = f" {left} more classes, {without} of them without a label." if left else ""
    return ClassBars(bars=bars, note=f"{beside}{more}")


_PEOPLE: Final = "human_labels_per_class"
_BESIDE_PEOPLE: Final = "Above: share of all pseudo labels. Below: of what people labelled."
_ALONE: Final = "Share of all pseudo labels. policy.holdout would put people's beside them."


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"


def _counts(found: Any) -> dict[str, float]:
    """Numbers by name; nothing where they are something else."""
    counts = found if isinstance(found, dict) else {}
    return {str(name): v for name, n in counts.items() if (v := number(n)) is not None and v >= 0}


def _shares(found: Any) -> dict[str, float]:
    counts = _counts(found)
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}
