"""Say how much the teacher labelled and how well, and what in it would worry us.

In: `pseudo` of `summary.json`. Out: facts and warnings for the page. Next: `canvas.py`.

How much an image is labelled is a number of boxes, or else a share, of its pixels or 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ray_st.report.run_files import number


@dataclass(frozen=True, kw_only=True)
class _Amount:
    """How an amount of labels is spoken of; `{}` stands where a number stands."""

    key: str  # in the summary; that of people is human_...
    form: str
    fact: str
    people: str
    one: str  # label
    many: str  # labels
    truths: str
    none_means: str
    little_means: str


_BOXES: Final = _Amount(
    key="boxes_per_image",
    form="{:.2f}",
    fact="boxes an image",
    people="people drew {}",
    one="box",
    many="boxes",
    truths="true objects were found",
    none_means="The student is taught that they show nothing.",
    little_means="What the teacher missed counts as background.",
)
_SHARE: Final = _Amount(
    key="labelled_share",
    form="{:.0%}",
    fact="labelled",
    people="people labelled {}",
    one="label",
    many="labels",
    truths="true labels were found",
    none_means="The student learns nothing from them.",
    little_means="The student learns from what is easy for the teacher alone.",
)


def facts(pseudo: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Value, name and a word of context for each figure that is there."""
    amount = _amount(pseudo)
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
    hidden = {"empty_share"} if _all_or_nothing(pseudo) else set()
    read = [
        (number(pseudo.get(key)), name, note, form)
        for key, name, note, form in kinds
        if key not in hidden
    ]
    return [(form.format(v), name, note) for v, name, note, form in read if v is not None]


def warnings(pseudo: Mapping[str, Any]) -> list[str]:
    """What would worry us, and the next move."""
    amount = _amount(pseudo)
    empty, failures = number(pseudo.get("empty_share")), number(pseudo.get("failures"))
    labelled, human = number(pseudo.get(amount.key)), number(pseudo.get(f"human_{amount.key}"))
    precision, images = number(pseudo.get("precision")), number(pseudo.get("images"))
    found = []
    if empty is not None and empty > 0.5:
        found.append(
            f"{empty:.0%} of the pool images have no pseudo label at all. {amount.none_means} "
            "Lower the score threshold, or check that the pool shows the same things."
        )
    if labelled is not None and human and labelled < human / 4 and not _all_or_nothing(pseudo):
        theirs = amount.people.format(amount.form.format(human))
        found.append(
            f"{amount.form.format(labelled)} {amount.fact}, where {theirs}: less than a quarter. "
            f"{amount.little_means} Lower the score threshold."
        )
    if precision is not None and precision < 0.5:
        found.append(
            f"Only {precision:.0%} of the pseudo {amount.many} are right. "
            "Raise the score threshold, or train the teacher longer."
        )
    if failures and failures > 0.01 * (images or 0):
        found.append(
            f"{failures:,.0f} images could not be read or labelled: more than one in a hundred. "
            "failures.parquet names each one and the reason."
        )
    return found


def _amount(pseudo: Mapping[str, Any]) -> _Amount:
    return _SHARE if _SHARE.key in pseudo else _BOXES


def _all_or_nothing(pseudo: Mapping[str, Any]) -> bool:
    """Whether the share labelled and the share of empty images say the same, as classes do."""
    labelled, empty = number(pseudo.get(_SHARE.key)), number(pseudo.get("empty_share"))
    return labelled is not None and empty is not None and math.isclose(labelled + empty, 1)
