"""What a model predicts on labelled images, so that the task's metric can say how good it is.

In: a model inside its train worker, and its share of the validation views. Out: predictions as
LABEL_ROWs, gathered from all workers without their pixels. The model is left as it was, so that
training goes on as if nothing had been asked of it. Next: `job.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from torch import nn

from ray_st.data.labels import Origin
from ray_st.data.rows import label_row
from ray_st.data.views import Views
from ray_st.labeling.teacher import Teacher
from ray_st.training.sharding import same_buffers


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode, the same in every worker; afterwards each part is as it was."""
    same_buffers(model)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


def predict(teacher: Teacher, batches: Iterable[Views | None], size_px: int = 0) -> pa.Table:
    """Label this worker's images; all workers get the predictions of all, by image id.

    An image that cannot be read has no predictions and no row. None stands for a batch of another
    worker's: a blank view of `size_px` is looked at beside it.
    """
    parts = []
    for views in batches:
        if views is None:
            teacher.predict(np.zeros((1, size_px, size_px, 3), np.uint8), np.ones((1, 2), int))
            continue
        labels = teacher.predict(views.pixels, views.sizes_hw.clip(min=1))
        rows = views.rows(labels, origin=Origin.PSEUDO, kind=teacher.kind)
        parts.append(rows.filter(pa.array(views.is_valid)))
    mine = pa.concat_tables([label_row(teacher.kind).empty_table(), *parts])
    gathered = [mine]
    if dist.is_available() and dist.is_initialized():
        gathered = [mine] * dist.get_world_size()
        dist.all_gather_object(gathered, mine)
    return pa.concat_tables(gathered).combine_chunks().sort_by("image_id")


def in_step(batches: Iterable[Views], device: torch.device) -> Iterator[Views | None]:
    """Give a worker's own batches, then None until every worker has had its last.

    A model that is spread over the workers is run by all of them or by none.
    """
    own = iter(batches)
    while True:
        views = next(own, None)
        is_some = torch.tensor(float(views is not None), device=device)
        dist.all_reduce(is_some, dist.ReduceOp.MAX)
        if not is_some:
            return
        yield views
