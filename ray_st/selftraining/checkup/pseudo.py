"""Pseudo labels before a student learns from them: how much, of what, and what would worry us.

In: accepted rows, the summary of their labelling, and how much people label. Out: findings; the
worries are those of `labeling/concerns.py`. Next: `first_views.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_st.config import as_dict
from ray_st.labeling.amounts import amount_of
from ray_st.labeling.concerns import concerns
from ray_st.labeling.policy import PolicyConfig
from ray_st.selftraining.checkup.classes import Counts
from ray_st.selftraining.checkup.finding import Finding, percent


def pseudo_labels(
    counts: Counts,
    images: int,
    people: Mapping[str, Any],
    summary: Mapping[str, Any],
    policy: PolicyConfig,
    thresholds: Mapping[str, float | None],
) -> list[Finding]:
    """Say what a policy makes of a labelling.

    Args:
        counts: of the rows that it accepts, or of a sample of them.
        images: how many rows these are.
        people: what `human_fact` says of data.train.
        summary: what `label` or `policy` left, whose scores are those before thresholds.
        policy: which accepted the rows.
        thresholds: of each class, as it decided.
    """
    facts = {**(summary.get("pseudo") or {}), **_facts(counts), "images": images, **people}
    lines = concerns({
        **summary, "pseudo": facts, "policy": as_dict(policy), "thresholds": thresholds
    })  # fmt: skip
    return [_amount(facts), *map(_worry, lines)]


def _facts(counts: Counts) -> dict[str, Any]:
    """The facts of a labelling under another policy than it was written with."""
    images = len(counts.amounts)
    return {
        counts.kind.AMOUNT: float(counts.amounts.sum()) / max(1, images),
        "empty_share": float((counts.amounts == 0).sum()) / max(1, images),
        "labels_per_class": counts.by_class(),
    }


def _amount(facts: Mapping[str, Any]) -> Finding:
    amount = amount_of(facts)
    ours, theirs = (amount.form.format(facts[name + amount.key]) for name in ("", "human_"))
    is_nothing = facts["empty_share"] == 1
    said = f"{facts['images']} pseudo-labelled images, {ours} {amount.fact}, where "
    said += f"{amount.people.format(theirs)}; {percent(facts['empty_share'])} have no label"
    return Finding(
        severity="fail" if is_nothing else "fine",
        where="pseudo",
        what=said,
        move="lower the thresholds of policy, or train the teacher longer" if is_nothing else "",
        numbers=_plain(facts),
    )


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    wanted = ("images", "empty_share", "labels_per_class", "human_labels_per_class", "failures",
              "boxes_per_image", "human_boxes_per_image", "labelled_share",
              "human_labelled_share", "score_histogram")  # fmt: skip
    return {name: facts[name] for name in wanted if name in facts}


def _worry(line: str) -> Finding:
    """A worry is a sentence, and others that say what to do."""
    what, _, move = line.removesuffix(".").partition(". ")
    return Finding(severity="warn", where="pseudo", what=_small(what), move=_small(move))


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
