"""Pseudo labels as a student would take them, looked at before it does.

In: the folder that `label` or `policy` left, and a policy. Out: `PseudoLook`: the rows, and what
would worry us about them. Next: `surroundings.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from ray_st.config import as_dict
from ray_st.data.labels import Labels
from ray_st.data.sources import LabeledSet
from ray_st.labeling.policy import PolicyConfig, choose, human_fact
from ray_st.labeling.pool import raw_parts
from ray_st.labeling.stored import StoredRows
from ray_st.selftraining.acceptance import open_labelled, read_holdout
from ray_st.selftraining.checkup.classes import Counts
from ray_st.selftraining.checkup.finding import Finding
from ray_st.selftraining.checkup.pseudo import pseudo_labels
from ray_st.selftraining.checkup.sets import Sampling
from ray_st.selftraining.stages import read_pseudo


@dataclass(frozen=True, kw_only=True, eq=False)
class PseudoLook:
    """What a policy accepts, and what was found in it."""

    rows: pa.Table | StoredRows
    held: pa.Table  # the rows, or some of those that stay in their store
    findings: list[Finding]


def look_at_pseudo(
    uri: str,
    policy: PolicyConfig,
    human: LabeledSet,
    kind: type[Labels],
    sampling: Sampling,
    held_images: int,
) -> PseudoLook:
    """Take pseudo labels as `train --pseudo` does. Raises `UserError` as that would."""
    rows, _ = read_pseudo(uri, policy, human, held_images)
    held = rows
    if isinstance(held, StoredRows):
        count = min(held.num_rows, sampling.images)
        held, _ = held.at(np.arange(count, dtype=np.int64), seed=0)
    summary = open_labelled(uri)
    findings = pseudo_labels(
        Counts.of(sampling.countable(held), kind, human.classes),
        rows.num_rows,
        human_fact(sampling.countable(human.rows), kind, human.classes),
        summary,
        policy,
        _thresholds(uri, summary, policy, kind),
    )
    return PseudoLook(rows=rows, held=held, findings=findings)


def _thresholds(
    uri: str, summary: dict[str, Any], policy: PolicyConfig, kind: type[Labels]
) -> dict[str, float | None]:
    """Of each class, under this policy; they stand in the summary if it is the folder's own."""
    thresholds: dict[str, float | None]
    if summary["verb"] == "policy" or summary.get("policy") == as_dict(policy):
        thresholds = summary["thresholds"]
        return thresholds
    classes = summary["classes"]
    holdout = read_holdout(policy, kind, classes, summary["teacher_sha256"])
    choice = choose(partial(raw_parts, uri), kind, policy, classes, holdout)
    thresholds = choice.account()["thresholds"]
    return thresholds
