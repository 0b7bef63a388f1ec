"""What a run works on: opened, checked and counted before anything starts.

In: `DataConfig`. Out: `Materials`: human labels, validation labels, the pool, and what was mended.
Next: `learning.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ray_st.config import UserError
from ray_st.data.labels import ClassLabel, Detections, Labels, SegmentationMap
from ray_st.data.rows import IMAGE_ROW, kind_of
from ray_st.data.sources import DataConfig, LabeledSet, keep_labels, open_images, open_labeled

_EXAMPLES: dict[type[Labels], str] = {
    Detections: "coco:DIR/instances_train.json",
    SegmentationMap: "masks:DIR/train.txt",
    ClassLabel: "classes:DIR",
}


@dataclass(frozen=True, kw_only=True)
class Materials:
    """The data of a run; tables of rows, no pixels."""

    human: LabeledSet
    val: LabeledSet
    pool: pa.Table | None  # IMAGE_ROWs
    pool_truth: pa.Table | None  # LABEL_ROWs of the pool where known: to measure, never to train
    joint: LabeledSet | None = None  # images with a class each, for joint training

    @property
    def joint_words(self) -> str:
        """What a plan says of joint training; nothing without it."""
        return "" if self.joint is None else f", {self.joint.rows.num_rows} classified"

    @property
    def findings(self) -> dict[str, dict[str, int]]:
        """What was mended in each set, and how often."""
        return {"train": dict(self.human.findings), "val": dict(self.val.findings)}

    @property
    def warnings(self) -> list[str]:
        """What makes the figures promise more than they can; a line each."""
        measured, found = self.val.rows["uri"], []
        joint = None if self.joint is None else self.joint.rows
        for name, rows in (
            ("data.train", self.human.rows),
            ("the pool", self.pool),
            ("train.joint.images", joint),
        ):
            both = 0 if rows is None else pc.sum(pc.is_in(measured, rows["uri"])).as_py()
            if both:
                found.append(
                    f"{both} of the {len(measured)} images of data.val are in {name} too: "
                    "the figures say nothing of new images; name other images in data.val"
                )
        return found


def open_human(data: DataConfig, kind: type[Labels]) -> tuple[LabeledSet, LabeledSet]:
    """Human labels to train on (all that `data.train` names), and those to validate on.

    `kind` is the kind of labels that the task learns from.
    """
    for name in ("train", "val"):
        _require_named(data, name, kind)  # of both, before a large file is read
    human, val = (_opened(data, name, kind) for name in ("train", "val"))
    if human.classes != val.classes:
        raise UserError(
            f"data.val: must have the classes of data.train {list(human.classes)}, "
            f"got {list(val.classes)}; give both sets the same categories"
        )
    return human, val


def open_train(data: DataConfig, kind: type[Labels]) -> LabeledSet:
    """Human labels to train on: those that `data.labeled_images` keeps."""
    _require_named(data, "train", kind)
    human = _opened(data, "train", kind)
    if data.labeled_images is not None:
        human, _ = keep_labels(human, data.labeled_images, data.split_seed)
    return human


def _require_named(data: DataConfig, name: str, kind: type[Labels]) -> None:
    if not getattr(data, name):
        raise UserError(f"data.{name}: is missing; pass --data.{name} {_EXAMPLES[kind]}")


def _opened(data: DataConfig, name: str, kind: type[Labels]) -> LabeledSet:
    """Open `data.NAME`; refuses a set that nothing can be learned from."""
    labeled = open_labeled(getattr(data, name), images=data.images, images_field="data.images")
    require_kind(labeled, kind, f"data.{name}", learner="this task", move="set task")
    _require_some(labeled, kind, f"data.{name}")
    return labeled


def _require_some(labeled: LabeledSet, kind: type[Labels], field: str) -> None:
    if labeled.rows.num_rows == 0:
        raise UserError(f"{field}: {labeled.uri} lists no image; name a set that has some")
    if not kind.any_in(labeled.rows):
        raise UserError(f"{field}: {labeled.uri} has no label; name a set that has some")


def open_joint(uri: str) -> LabeledSet:
    """Images with a class each, for joint training."""
    field = "train.joint.images"
    try:
        labeled = open_labeled(uri)
    except UserError as error:  # it knows the path alone
        raise UserError(f"{field}: {error}") from error
    require_kind(labeled, ClassLabel, field, learner="joint training", move="leave it out")
    _require_some(labeled, ClassLabel, field)
    return labeled


def require_kind(
    labeled: LabeledSet, kind: type[Labels], field: str, *, learner: str, move: str
) -> None:
    """Refuse labels of another kind than the `learner` knows; `move` is what else would do."""
    found = kind_of(labeled.rows.schema)
    if found is not kind:
        assert found is not None
        raise UserError(
            f"{field}: {learner} learns from {kind.__name__}, such as {_EXAMPLES[kind]}, got "
            f"{found.__name__} from {labeled.uri}; name such a set or {move}"
        )


def open_materials(data: DataConfig, kind: type[Labels], joint: str | None = None) -> Materials:
    """Open all that the whole loop needs, the pool included; `joint` is `train.joint.images`."""
    human, val = open_human(data, kind)
    pool, truth = None, None
    if data.labeled_images is not None:
        everything = human.rows
        human, pool = keep_labels(human, data.labeled_images, data.split_seed)
        truth = everything.filter(pc.is_in(everything["image_id"], pool["image_id"]))
    if data.unlabeled is not None:
        pool, truth = open_images(data.unlabeled), _truth(data.unlabeled, human)
    return Materials(
        human=human,
        val=val,
        pool=pool,
        pool_truth=truth,
        joint=None if joint is None else open_joint(joint),
    )


def require_pool(materials: Materials) -> pa.Table:
    """The pool, or one line that says how to name one."""
    if materials.pool is None or materials.pool.num_rows == 0:
        raise UserError(
            "data.unlabeled: is missing; pass --data.unlabeled DIR, "
            "or --data.labeled_images N to label the rest of data.train"
        )
    return materials.pool.select(IMAGE_ROW.names)


def _truth(uri: str, human: LabeledSet) -> pa.Table | None:
    """Labels that the pool happens to have, in the same classes; most pools have none."""
    try:
        known = open_labeled(uri)
    except UserError:
        return None
    return known.rows if known.classes == human.classes else None
