"""What to say of images that stand twice: in two sets, or in one.

In: the URIs or rows of each set, and `Copies`. Out: findings. Next: `classes.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from ray_st.data.labels import ClassLabel, Detections, SegmentationMap
from ray_st.data.rows import kind_of, unpack
from ray_st.selftraining.checkup.copies import Copies
from ray_st.selftraining.checkup.files import shortly
from ray_st.selftraining.checkup.finding import Finding, Severity, graded

_MOST_LEAKED = 0.5  # of the images to measure on
_MUCH_LEAKED = 0.1
_POOLS = ("data.unlabeled", "data.labeled_images")  # whose images the set `pseudo` has, labelled


def across(sets: Mapping[str, Sequence[str]], copies: Copies) -> list[Finding]:
    """Say which images of one set are in another too. `sets`: by their fields, data.val first."""
    names, found = [*sets], []
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            if one in _POOLS and other == "pseudo":
                continue
            found += _shared(one, sets[one], other, sets[other], copies)
    return found


def _shared(
    one: str, uris: Sequence[str], other: str, others: Sequence[str], copies: Copies
) -> list[Finding]:
    there, contents = set(others), {copies.content(uri) for uri in others}
    both = [uri for uri in uris if uri in there]
    under_names = [uri for uri in uris if uri not in there and copies.content(uri) in contents]
    count = len(both) + len(under_names)
    if not count:
        return []
    twin = {copies.content(uri): uri for uri in others}
    example = f", such as {both[0]}" if both else ""
    if under_names:
        first = under_names[0]
        example = (
            f", {len(under_names)} as copies under other names such as {first} = "
            f"{twin[copies.content(first)]}"
        )
    severity, move = _judged(one, other, count / len(uris), count / max(1, len(others)))
    return [
        Finding(
            severity=severity,
            where=one,
            what=f"{count} of its {len(uris)} images are in {other} too{example}",
            move=move,
            numbers={
                "same_uri": len(both),
                "copies": len(under_names),
                "of": len(uris),
                "with": other,
                "examples": [[uri, twin[copies.content(uri)]] for uri in under_names[:20]],
            },
        )
    ]


def _judged(one: str, other: str, share: float, of_other: float) -> tuple[Severity, str]:
    if one == "data.val":
        move = "name other images in data.val: the figures say nothing of new ones"
        worst = _MOST_LEAKED if other == "data.train" else float("inf")  # its labels are not used
        return graded(share, warn=0, fail=worst), move
    move = f"take them out of {other}: they teach nothing new, and are labelled twice"
    return graded(of_other, warn=_MUCH_LEAKED), move


def within(where: str, rows: pa.Table, copies: Copies) -> list[Finding]:
    """Say which images stand in one set twice, and which of them are labelled differently."""
    uris = rows["uri"].to_pylist()
    places: dict[str, list[int]] = defaultdict(list)
    for place, uri in enumerate(uris):
        places[copies.content(uri)].append(place)
    twice = [each for each in places.values() if len(each) > 1]
    if not twice:
        return []
    apart = [each for each in twice if _disagree(rows, each)] if kind_of(rows.schema) else []
    spare = sum(len(each) - 1 for each in twice)
    example = [uris[place] for place in (apart or twice)[0]]
    said = f", and {len(apart)} of these are labelled in two ways" if apart else ""
    return [
        Finding(
            severity="warn",
            where=where,
            what=f"{spare} of {len(uris)} images are copies of others{said}, such as "
            f"{shortly(example)}",
            move="keep one of each, with the right labels",
            numbers={"copies": spare, "of": len(uris), "contradicting": len(apart),
                     "examples": [[uris[place] for place in each] for each in twice[:20]]},
        )
    ]  # fmt: skip


def _disagree(rows: pa.Table, places: Sequence[int]) -> bool:
    labels = unpack(rows.take(pa.array(places)))
    return len({_ESSENCE[type(one)](one) for one in labels}) > 1


# What two labellings of one image must have in common to be the same.
_ESSENCE: Final[Mapping[type, Callable[[Any], Any]]] = {
    Detections: lambda one: tuple(
        sorted((*box, k) for box, k in zip(one.boxes_xyxy.tolist(), one.class_ids, strict=True))
    ),
    SegmentationMap: lambda one: (one.class_map.shape, one.class_map.tobytes()),
    ClassLabel: lambda one: tuple(one.top_class_ids.tolist()),
}


def partly(where: str, copies: Copies) -> list[Finding]:
    """Say that not all files were compared."""
    left = copies.candidates - copies.compared
    if not left:
        return []
    return [
        Finding(
            severity="fine",
            where=where,
            what=f"{left} of {copies.candidates} files that share their size with another were not "
            "compared; --all compares them",
            numbers={"candidates": copies.candidates, "compared": copies.compared},
        )
    ]
