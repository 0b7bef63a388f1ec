"""What a labelling says in a terminal: before the work, and after it.

In: a `Holdout`; the summary of `label`, `policy` or the loop's labelling. Out: lines. A finished
run says the same again, since all of it stands in its summary. Next: `live.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from ray_st.data.labels import Labels
from ray_st.labeling.amounts import amount_of
from ray_st.labeling.concerns import concerns, weak_teacher
from ray_st.labeling.pace import limit_words, speed_words
from ray_st.labeling.policy import Holdout, human_fact


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What a hold-out says of a teacher before the work; nothing where there is none."""

    words: str = ""
    warnings: Sequence[str] = ()

    @property
    def plan(self) -> str:
        """The same behind a dry run's plan."""
        return f"; {self.words}" if self.words else ""

    def say(self, console: Console) -> None:
        """Print it."""
        if self.words:
            say("holdout", self.words, console)


def preflight(holdout: Holdout | None, kind: type[Labels], classes: Sequence[str]) -> Preflight:
    """How good the teacher is on a hold-out, and how much people labelled there."""
    if holdout is None:
        return Preflight()
    people = human_fact(holdout.truths, kind, classes)
    amount, images = amount_of({kind.AMOUNT: 0.0}), holdout.truths.num_rows
    theirs = amount.people.format(amount.form.format(people[f"human_{kind.AMOUNT}"]))
    figures = [f"{name} {v:.1f}" for name, v in holdout.figures.items() if v is not None]
    reached = f"has {', '.join(figures)}" if figures else "was not measured"
    unit = f" {amount.fact}" if kind.AMOUNT == "boxes_per_image" else ""
    return Preflight(
        words=f"the teacher {reached} on {images} images; {theirs}{unit}",
        warnings=weak_teacher(holdout.figures),
    )


def say(name: str, line: str, console: Console) -> None:
    """Print one line under a name, however long it is."""
    console.out(f"{name:<11}{line}", highlight=False)


def say_outcome(summary: Mapping[str, Any], console: Console) -> None:
    """Print how fast a labelling was, what held it up, and what in its labels would worry us."""
    speed, seconds = summary.get("speed") or {}, summary.get("seconds") or {}
    if words := speed_words(speed):
        say("speed", words, console)
    if words := limit_words(speed, seconds.get("label")):
        say("limit", words, console)
    for line in concerns(summary):
        say("warning", line, console)


def unread(summary: Mapping[str, Any]) -> str:
    """What could not be read, where anything could not."""
    counts = {name: count for name, count in summary["unreadable"].items() if count}
    return "".join(f"  unreadable {name.replace('_', ' ')}: {n}" for name, n in counts.items())


def headline(metrics: Mapping[str, Any], figures: Sequence[str]) -> str:
    """The two figures that a person looks at first."""
    shown_figures = [
        f"{name} {metrics[name]:.1f}" for name in figures[:2] if metrics.get(name) is not None
    ]
    lacking = f"no {figures[0]}: nothing to find, or the loss left the numbers"
    return "  ".join(shown_figures) or lacking
