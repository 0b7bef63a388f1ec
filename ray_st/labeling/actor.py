"""A teacher in a process of its own: views in, STORE_ROWs out.

In: a `TeacherSource`; tables of views. Out: a row an image, labelled or failed. Next: `pool.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch

from ray_st.data.labels import Labels, Origin
from ray_st.data.views import Views
from ray_st.labeling.store import FAILED, OK, store_row
from ray_st.labeling.teacher import Predictor
from ray_st.progress import Counter


class TeacherActor:
    """A teacher in a process of its own: loaded once, then views in, labels out."""

    def __init__(self, source: Any, cpus: float, gpus: float, counter: Counter | None) -> None:
        """`source` is a `TeacherSource`, or a reference to one in the object store."""
        source = ray.get(source) if isinstance(source, ray.ObjectRef) else source
        torch.set_num_threads(max(1, int(cpus)))
        self._teacher: Predictor = source.load("cuda" if gpus > 0 else "cpu")
        self._counter = counter
        self._schema = store_row(self._teacher.kind, source.digest)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Label a table of views; a view that is none becomes a failed row."""
        views = Views.from_table(table)
        valid = np.flatnonzero(views.is_valid)
        labels: list[Labels] = [self._teacher.kind.unknown()] * len(views.uris)
        if len(valid):
            found = self._teacher.predict(views.pixels[valid], views.sizes_hw[valid])
            for i, one in zip(valid, found, strict=True):
                labels[i] = one
        if self._counter is not None:
            self._counter.add(len(labels))
        rows = views.rows(labels, origin=Origin.PSEUDO, kind=self._teacher.kind)
        return _with_status(rows, views).cast(self._schema)


def _with_status(rows: pa.Table, views: Views) -> pa.Table:
    status = [OK if ok else FAILED for ok in views.is_valid]
    rows = rows.append_column("status", pa.array(status, pa.string()))
    rows = rows.append_column("stage", pa.array(views.stages, pa.string()))
    return rows.append_column("reason", pa.array(views.reasons, pa.string()))
