"""The policy at work: a threshold for each class, then what reaches it.

In: raw LABEL_ROWs, a part at a time, and a `PolicyConfig`. Out: a `Choice`, which makes pseudo
labels of any part. docs/policy.md says in which order the rules work. Next: `facts.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from ray_st.data.labels import Labels
from ray_st.data.rows import kind_of
from ray_st.labeling.policy.config import PolicyConfig
from ray_st.labeling.policy.holdout import Holdout, reaching
from ray_st.labeling.policy.kinds import PREDICTIONS_OF, Parts, parts_of
from ray_st.labeling.policy.ranking import nth_keys
from ray_st.labeling.policy.tally import Predictions, Tally


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """A policy with its thresholds decided: a row's labels now depend on that row alone."""

    policy: PolicyConfig
    kind: type[Labels]
    classes: tuple[str, ...]
    thresholds: Float[np.ndarray, " k"]  # lowest score of a label of each class; infinity: none

    def predictions(self, raw: pa.Table) -> Predictions:
        """Give what there is to choose from in these rows."""
        return PREDICTIONS_OF[self.kind].of(raw, self.policy)

    def accepted(self, raw: pa.Table) -> pa.Table:
        """Pseudo labels of these rows; images that keep none stay, as empty ones."""
        return self.predictions(raw).accepted(self.thresholds, self.policy)

    def account(self) -> dict[str, Any]:
        """What a summary says of it: each class's threshold, None where no score suffices."""
        found = zip(self.classes, self.thresholds.tolist(), strict=True)
        thresholds = {name: score if score <= 1 else None for name, score in found}
        return {"thresholds": thresholds, "warnings": self.warnings}

    @classmethod
    def recorded(
        cls, account: Mapping[str, float | None], policy: PolicyConfig, kind: type[Labels]
    ) -> Choice:
        """Read back the thresholds that `account` gave."""
        found = [np.inf if score is None else score for score in account.values()]
        return cls(policy=policy, kind=kind, classes=tuple(account), thresholds=np.array(found))

    @property
    def warnings(self) -> list[str]:
        """What the policy could not do; a line each."""
        never = [self.classes[k] for k in np.flatnonzero(self.thresholds > 1)]
        if not never:
            return []
        return [
            f"no threshold has precision {self.policy.target_precision} on the hold-out for "
            f"{', '.join(never)}: no pseudo label of these classes"
        ]


def choose(
    raw: Parts,
    kind: type[Labels],
    policy: PolicyConfig,
    classes: Sequence[str],
    holdout: Holdout | None = None,
) -> Choice:
    """Decide the thresholds; `holdout` is for `policy.target_precision`.

    Reads `raw` only where the whole pool decides: for shares and for most labels a class.
    """
    policy.require_known(kind, classes)
    of, count, given = PREDICTIONS_OF[kind], len(classes), policy.by_class(classes)
    thresholds = np.full(count, policy.score_threshold)
    if policy.target_precision is not None:
        assert holdout is not None, "who calls has read it"
        thresholds = reaching(holdout, of, policy, count)
    if policy.balance_share is not None:
        thresholds = np.zeros(count)  # the share alone decides
    for class_id, score in given.items():
        thresholds[class_id] = score
    if policy.balance_share is not None or policy.max_per_class is not None:

        def ranks(counts: np.ndarray) -> np.ndarray:
            return _ranks(counts, policy, list(given))

        def tallies() -> Iterator[Tally]:
            return (of.of(part, policy).tally() for part in raw())

        keys = nth_keys(tallies, ranks, count, of.KEY_BITS)
        thresholds = np.maximum(thresholds, of.scores_of(keys.clip(0)))
    return Choice(policy=policy, kind=kind, classes=tuple(classes), thresholds=thresholds)


def _ranks(counts: np.ndarray, policy: PolicyConfig, given: list[int]) -> np.ndarray:
    """How many of each class the pool-wide rules keep at most; all of those with a threshold."""
    kept = counts.copy()
    if policy.balance_share is not None:
        kept = np.rint(policy.balance_share * counts).astype(np.int64).clip(1)
        kept[given] = counts[given]
    return kept if policy.max_per_class is None else np.minimum(kept, policy.max_per_class)


def pseudo_labels(
    raw: pa.Table,
    policy: PolicyConfig,
    classes: Sequence[str],
    holdout: Holdout | None = None,
) -> pa.Table:
    """Keep the predictions of a table that the policy accepts."""
    kind = kind_of(raw.schema)
    assert kind is not None, "raw predictions are of some kind"
    choice = choose(lambda: parts_of(raw), kind, policy, classes, holdout)
    return pa.concat_tables(map(choice.accepted, parts_of(raw))).combine_chunks()
