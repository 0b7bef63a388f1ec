"""`ray-st policy`: what a teacher found is kept; which of it are pseudo labels is chosen again.

In: a folder that `label` left. Out: a folder of pseudo labels that `train --pseudo` takes, with
figures to judge them by. Needs no cluster and no accelerator. Next: `export.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from ray_st.labeling.policy import PolicyConfig
from ray_st.selftraining.acceptance import open_store, policy_stage
from ray_st.selftraining.saying import preflight, say, say_outcome
from ray_st.selftraining.stages import labelled
from ray_st.verbs.verb import OwnFolder, complete_here, say_warnings


@dataclass(frozen=True, kw_only=True)
class PolicyVerb(OwnFolder):
    """Choose pseudo labels."""

    pseudo: str
    """Folder that `ray-st label` left."""
    out: str = "runs/policy"
    """Folder of the results; running the same again goes on with it."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)


CONFIG = PolicyVerb


def run(config: PolicyVerb, console: Console) -> None:
    """Choose, write, and say what it came to."""
    store = open_store(config.pseudo, config.policy)
    known = preflight(store.holdout, store.kind, store.summary["classes"])

    def work(out: str) -> dict[str, Any]:
        known.say(console)
        return policy_stage(store, config.policy, out)

    plan = f"{store.summary['pseudo']['images']} labelled images to choose from{known.plan}"
    summary = complete_here(config, console, plan, work, known.warnings, anywhere=True)
    if summary is not None:
        say_warnings(summary, console)
        say("policy", f"{labelled(summary['pseudo'])}; thresholds {_span(summary)}", console)
        say_outcome(summary, console)


def _span(summary: Mapping[str, Any]) -> str:
    """Lowest and highest threshold, of the classes that have one."""
    found = [score for score in summary["thresholds"].values() if score is not None]
    if not found:
        return "none"
    low, high = min(found), max(found)
    return f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
