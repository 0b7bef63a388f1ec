"""What a model predicts on labelled images, so that the task's metric can say how good it is.

In: a model inside its train worker, and its share of the validation views. Out: predictions as
LABEL_ROWs, gathered from all workers without their pixels. Next: `job.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import torch.distributed as dist

from ray_st.data.labels import Origin
from ray_st.data.rows import label_row
from ray_st.data.views import Views
from ray_st.labeling.teacher import Teacher


def predict(teacher: Teacher, batches: Iterable[Views]) -> pa.Table:
    """Label this worker's images; all workers get the predictions of all, by image id.

    An image that cannot be read has no predictions and no row.
    """
    parts = []
    for views in batches:
        labels = teacher.predict(views.pixels, views.sizes_hw.clip(min=1))
        rows = views.rows(labels, origin=Origin.PSEUDO, kind=teacher.kind)
        parts.append(rows.filter(pa.array(views.is_valid)))
    mine = pa.concat_tables([label_row(teacher.kind).empty_table(), *parts])
    gathered = [mine]
    if dist.is_available() and dist.is_initialized():
        gathered = [mine] * dist.get_world_size()
        dist.all_gather_object(gathered, mine)
    return pa.concat_tables(gathered).combine_chunks().sort_by("image_id")
