"""A teacher's first images, before a whole pool: a wrong one is one line, not a pool of failures.

In: a pool, a `TeacherSource`. Out: nothing, or `UserError`. Next: `execution.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayTaskError

from ray_st.config import UserError
from ray_st.data.views import fitted_views
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.teacher import PredictionError, TeacherSource
from ray_st.ray_compat import on_nodes

_IMAGES = 4


def try_out(images: Images, teacher: TeacherSource, config: LabelConfig) -> None:
    """Let it label a few images where it will label all of them; raises `UserError`."""
    if images.num_rows == 0:
        return
    rows = next(images.shards[0].rows()).slice(0, _IMAGES)
    if config.actors[1] == 0:
        _attempt(teacher, rows, config)
        return
    needs: dict[str, Any] = {"num_cpus": config.cpus_per_actor, "num_gpus": config.gpus_per_actor}
    needs |= on_nodes(config.nodes)
    remote = ray.remote(max_retries=0, **needs)(_attempt)
    try:
        ray.get(remote.remote(teacher, rows, config))
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from error
        raise


def _attempt(teacher: TeacherSource, rows: pa.Table, config: LabelConfig) -> None:
    looks = teacher.looks(config)
    views = fitted_views(rows, looks.largest_px)
    valid = np.flatnonzero(views.is_valid)
    loaded = teacher.load("cuda" if config.gpus_per_actor > 0 else "cpu", looks)
    try:
        if len(valid):
            loaded.predict(views.pixels[valid], views.sizes_hw[valid])
    except PredictionError as error:
        uris = ", ".join(views.uris[i] for i in valid)
        raise UserError(f"teacher: {error}; tried on {uris}") from error
