"""What a run works on: opened, checked and counted before anything starts.

In: `DataConfig`. Out: `Materials`: human labels, validation labels, the pool, and what was mended.
Next: `sweep.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ray_st.config import UserError
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.sources import DataConfig, LabeledSet, keep_labels, open_images, open_labeled


@dataclass(frozen=True, kw_only=True)
class Materials:
    """The data of a run; tables of rows, no pixels."""

    human: LabeledSet
    val: LabeledSet
    pool: pa.Table | None  # IMAGE_ROWs
    pool_truth: pa.Table | None  # LABEL_ROWs of the pool where known: to measure, never to train

    @property
    def findings(self) -> dict[str, dict[str, int]]:
        """What was mended in each set, and how often."""
        return {"train": dict(self.human.findings), "val": dict(self.val.findings)}


def open_human(data: DataConfig) -> tuple[LabeledSet, LabeledSet]:
    """Human labels to train on (all that `data.train` names), and those to validate on."""
    for name in ("train", "val"):
        if not getattr(data, name):
            raise UserError(
                f"data.{name}: is missing; pass --data.{name} coco:DIR/instances_{name}.json"
            )
    human = open_labeled(data.train, images=data.images)
    val = open_labeled(data.val, images=data.images)
    if human.classes != val.classes:
        raise UserError(
            f"data.val: must have the classes of data.train {list(human.classes)}, "
            f"got {list(val.classes)}; give both sets the same categories"
        )
    for name, labeled in (("train", human), ("val", val)):
        if labeled.rows.num_rows == 0:
            raise UserError(f"data.{name}: {labeled.uri} lists no image; name a set that has some")
        if len(labeled.rows["class_ids"].combine_chunks().flatten()) == 0:
            raise UserError(f"data.{name}: {labeled.uri} has no box; name a set that has some")
    return human, val


def open_materials(data: DataConfig) -> Materials:
    """Open all that the whole loop needs, the pool included."""
    human, val = open_human(data)
    pool, truth = None, None
    if data.labeled_images is not None:
        everything = human.rows
        human, pool = keep_labels(human, data.labeled_images, data.split_seed)
        truth = everything.filter(pc.is_in(everything["image_id"], pool["image_id"]))
    if data.unlabeled is not None:
        pool, truth = open_images(data.unlabeled), _truth(data.unlabeled, human)
    return Materials(human=human, val=val, pool=pool, pool_truth=truth)


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
