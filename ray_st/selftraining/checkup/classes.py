"""The label space: how often each class is labelled in train and in val, and what readers mended.

In: LABEL_ROWs and class names. Out: `Counts` and findings. Next: `sizes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_st.data.labels import Detections, Labels, SegmentationMap
from ray_st.data.sources import LabeledSet
from ray_st.labeling.policy.kinds import PREDICTIONS_OF, parts_of
from ray_st.selftraining.checkup.finding import Finding, graded, named, percent

_FEW = 10  # labels of a class: hardly enough to learn it, or to measure it
_MUCH_MENDED = 0.01  # of the labels
_MANY_BARE = 0.1  # of the images


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """How much is labelled in a set, or in a part of it."""

    kind: type[Labels]
    classes: tuple[str, ...]
    per_class: np.ndarray  # (k,) boxes, pixels or images
    amounts: np.ndarray  # (n,) of each image, as `Labels.amount`

    @classmethod
    def of(cls, rows: pa.Table, kind: type[Labels], classes: Sequence[str]) -> Counts:
        """Count some thousand rows at a time."""
        per_class, amounts = np.zeros(len(classes), np.int64), [np.zeros(0)]
        for part in parts_of(rows):
            found, counts = PREDICTIONS_OF[kind].counted(part, len(classes))
            amounts.append(found)
            per_class += counts
        return cls(
            kind=kind,
            classes=tuple(classes),
            per_class=per_class,
            amounts=np.concatenate(amounts),
        )

    @property
    def unit(self) -> str:
        """What is counted."""
        return {Detections: "boxes", SegmentationMap: "pixels"}.get(self.kind, "images")

    def by_class(self) -> dict[str, int]:
        """Plain numbers."""
        return dict(zip(self.classes, self.per_class.tolist(), strict=True))

    def without(self) -> list[str]:
        """Classes that nothing is labelled as."""
        return [name for name, count in self.by_class().items() if not count]


def label_space(train: Counts, val: Counts) -> list[Finding]:
    """Say how often each class is labelled, and which classes cannot be learned or measured."""
    found = [_amount("data.train", train), _amount("data.val", val)]
    unlearned = [name for name in train.without() if val.by_class()[name]]
    silent = [name for name in train.without() if name not in unlearned]
    unmeasured = [name for name in val.without() if train.by_class()[name]]
    for names, where, said, move in (
        (
            unlearned,
            "data.train",
            "have no label in train, and some in val: their figures will be 0",
            "label some, or take them off the list",
        ),
        (silent, "data.train", "have no label anywhere", "take them off the list"),
        (
            unmeasured,
            "data.val",
            "have no label in val: nothing says how well they are learned",
            "label some in data.val",
        ),
    ):
        if names:
            what = f"{len(names)} of {len(train.classes)} classes {said}: {named(names)}"
            found.append(
                Finding(
                    severity="warn", where=where, what=what, move=move, numbers={"classes": names}
                )
            )
    return found


def _amount(where: str, counts: Counts) -> Finding:
    """How much there is of each class, and whether that is enough of the rarest."""
    labelled = {name: count for name, count in counts.by_class().items() if count}
    ordered = sorted(labelled, key=lambda name: -labelled[name])
    few = [name for name in ordered if labelled[name] < _FEW and counts.unit != "pixels"]
    total, said = sum(labelled.values()), f"{len(counts.amounts)} images, "
    said += f"{total:,} {counts.unit} of {len(counts.classes)} classes"
    if len(ordered) > 1:
        most, least = ordered[0], ordered[-1]
        said += f", most {most} ({labelled[most]:,}), fewest {least} ({labelled[least]:,})"
    numbers = {"images": len(counts.amounts), counts.unit: counts.by_class()}
    if not few:
        return Finding(severity="fine", where=where, what=said, numbers=numbers)
    what = f"{said}; {len(few)} classes have fewer than {_FEW} {counts.unit}: {named(few[::-1])}"
    move = "label more of them: that is hardly enough to learn or to measure a class"
    return Finding(severity="warn", where=where, what=what, move=move, numbers=numbers)


def bare_images(where: str, counts: Counts) -> list[Finding]:
    """Say how many images have no label at all."""
    bare, total = int((counts.amounts == 0).sum()), len(counts.amounts)
    if not bare:
        return []
    means = (
        "they teach and measure background: if nobody looked at them, take them off the list"
        if counts.kind is Detections
        else "they count for nothing: label them, or take them off the list"
    )
    share = bare / total
    return [
        Finding(
            severity=graded(share, warn=_MANY_BARE),
            where=where,
            what=f"{bare} of {total} images ({percent(share)}) have no label",
            move=means,
            numbers={"without_label": bare, "of": total},
        )
    ]


def mended(where: str, labeled: LabeledSet, labels: int) -> list[Finding]:
    """Say what the reader mended or left out; `labels` is the number of boxes, maps or images."""
    findings: Mapping[str, int] = labeled.findings
    if not findings:
        return []
    counts = {what.replace("_", " "): count for what, count in findings.items()}
    worst = max(findings.values()) / max(1, labels)
    return [
        Finding(
            severity=graded(worst, warn=_MUCH_MENDED),
            where=where,
            what=f"found in reading: {', '.join(f'{n} {what}' for what, n in counts.items())}",
            move="look at a few of them: the export may be wrong" if worst > _MUCH_MENDED else "",
            numbers=dict(findings),
        )
    ]
