"""From a teacher's class names to those that its labels are wanted in.

In: the teacher's classes, the target classes and pairs of names, as a user gave them. Out: a
`ClassMap`, or `UserError`; labels under other class ids. The rules: docs/teachers.md.
Next: `pixels.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ray_st.config import UserError, nearest, require, some_of
from ray_st.data.labels import IGNORE, ClassLabel, Detections, Labels, SegmentationMap
from ray_st.data.sources import open_labeled

DROPPED = -1
NO_CLASS = ("__background__", "N/A", "no person")  # names of outputs of detectors that are none
_MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """Which target class each class of a teacher becomes."""

    teacher: tuple[str, ...]
    target: tuple[str, ...]
    ids: tuple[int, ...]  # target class id of each teacher class, or DROPPED

    @property
    def dropped(self) -> tuple[str, ...]:
        """Teacher classes that become none."""
        return tuple(self.teacher[k] for k, target in enumerate(self.ids) if target == DROPPED)

    @property
    def order(self) -> tuple[tuple[int, ...], ...]:
        """Teacher class ids that become each target class, then each dropped one by itself."""
        members = [
            tuple(k for k, to in enumerate(self.ids) if to == target)
            for target in range(len(self.target))
        ]
        return (*members, *((k,) for k, to in enumerate(self.ids) if to == DROPPED))

    @property
    def merged(self) -> ClassMap:
        """What is still to do once the classes stand in `order`: drop the last ones."""
        ids = (*range(len(self.target)), *[DROPPED] * len(self.dropped))
        return ClassMap(teacher=(*self.target, *self.dropped), target=self.target, ids=ids)

    def apply(self, labels: Labels) -> Labels:
        """Give labels of the teacher's class ids those of the target.

        Boxes of dropped classes go, their pixels become IGNORE. Scores of classes that become one
        add up where they are probabilities of one image; a pixel keeps that of its class.
        """
        ids = np.array(self.ids, np.int32)
        if isinstance(labels, Detections):
            moved = replace(labels, class_ids=ids[labels.class_ids])
            return moved[moved.class_ids != DROPPED]
        if isinstance(labels, SegmentationMap):
            table = np.full(256, IGNORE, np.uint8)
            table[: len(ids)] = np.where(ids == DROPPED, IGNORE, ids)
            return replace(labels, class_map=table[labels.class_map])
        assert isinstance(labels, ClassLabel), type(labels)
        return self._classes(labels, ids)

    def _classes(self, labels: ClassLabel, ids: np.ndarray) -> ClassLabel:
        moved = ids[labels.top_class_ids]
        sums = np.bincount(
            moved[moved != DROPPED], labels.top_scores[moved != DROPPED], len(self.target)
        )
        found = np.unique(moved[moved != DROPPED])
        best = found[np.argsort(-sums[found], kind="stable")]
        return ClassLabel.of(best, sums[best].clip(max=1))


def read_names(path: Path, what: str) -> tuple[str, ...]:
    """Read class names, a line each; `what` opens the error of a file that holds none."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{what}: {path} cannot be read ({error}); it must be text, a class name a line"
        ) from error
    names = tuple(line.strip() for line in lines if line.strip())
    repeated = sorted({name for name in names if names.count(name) > 1} - {*NO_CLASS})
    require(len(names) > 0, f"{what}: {path}", "class names, a line each", "none")
    require(not repeated, f"{what}: {path}", "a class name a line, each once", repeated)
    return names


def target_classes(uri: str) -> tuple[str, ...]:
    """Class names of a file of names, or of a labelled set."""
    is_set = uri.lower().endswith(".json") or uri.startswith(("coco:", "masks:", "classes:"))
    return open_labeled(uri).classes if is_set else read_names(Path(uri), "classes")


def class_map(
    teacher: Sequence[str],
    target: Sequence[str] | None,
    pairs: Sequence[str] | Mapping[str, str] = (),
) -> ClassMap | None:
    """Resolve what a user wrote; None where the labels keep the teacher's classes.

    Args:
        teacher: the teacher's class names, by class id.
        target: the names that are wanted, by class id; None: the teacher's, renamed by `pairs`.
        pairs: teacher name -> target name, or texts "NAME=NAME".

    Classes that `pairs` does not name keep their name, and are dropped if the target lacks it.
    """
    renamed = _parsed(pairs)
    if target is None and not renamed:
        return None
    _require_known(renamed, teacher, "the teacher")
    names = [renamed.get(name, name) for name in teacher]
    known = tuple(dict.fromkeys(names)) if target is None else tuple(target)
    _require_known(renamed.values(), known, "--classes")
    lacking = [name for name in known if name not in names]
    if lacking:
        raise UserError(_lacking(lacking, teacher))
    places = {name: k for k, name in enumerate(known)}
    ids = tuple(places.get(name, DROPPED) for name in names)
    return ClassMap(teacher=tuple(teacher), target=known, ids=ids)


def _parsed(pairs: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(pairs, Mapping):
        return dict(pairs)
    found: dict[str, str] = {}
    for text in pairs:
        name, equals, wanted = (part.strip() for part in text.partition("="))
        is_pair = bool(name and equals and wanted)
        require(is_pair, "class_map", "TEACHER_NAME=TARGET_NAME", text)
        require(name not in found, "class_map", "one target a teacher class", text)
        found[name] = wanted
    return found


def _require_known(names: Iterable[str], known: Sequence[str], whose: str) -> None:
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if unknown:
        near = [found for name in unknown if (found := nearest(name, known))]
        move = f"did you mean {_listed(near)}?" if near else f"it has {_listed(known)}"
        raise UserError(f"class_map: {whose} has no class {_listed(unknown)}; {move}")


def _lacking(lacking: Sequence[str], teacher: Sequence[str]) -> str:
    near = [f"{found}={name}" for name in lacking if (found := nearest(name, teacher))]
    move = f"did you mean --class-map {' '.join(near)}" if near else f"it has {_listed(teacher)}"
    return (
        f"classes: no class of the teacher becomes {_listed(lacking)}; pass --class-map "
        f"TEACHER_NAME={lacking[0]}, {move}{'?' if near else ''}"
    )


def _listed(names: Sequence[str]) -> str:
    return some_of([*map(repr, names)], _MOST_NAMED)
