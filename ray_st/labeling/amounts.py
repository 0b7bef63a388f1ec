"""How an amount of labels is spoken of: boxes, or a share.

In: the facts of a labelling. Out: words. Next: `concerns.py`.

How much an image is labelled is a number of boxes, or else a share, of its pixels or 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, kw_only=True)
class Amount:
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


BOXES: Final = Amount(
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
SHARE: Final = Amount(
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


def amount_of(facts: Mapping[str, Any]) -> Amount:
    """The words for what was labelled."""
    return SHARE if SHARE.key in facts else BOXES


def all_or_nothing(facts: Mapping[str, Any]) -> bool:
    """Whether the share labelled and the share of empty images say the same, as classes do."""
    labelled, empty = facts.get(SHARE.key), facts.get("empty_share")
    return labelled is not None and empty is not None and math.isclose(labelled + empty, 1)
