"""A teacher in a process of its own: views in, STORE_ROWs out.

In: a `TeacherSource`; tables of views. Out: a row an image, labelled or failed. Next: `meter.py`.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch

from ray_st.config import UserError
from ray_st.data.labels import Labels, Origin
from ray_st.data.views import Views
from ray_st.labeling.looks import Looks
from ray_st.labeling.meter import Meter
from ray_st.labeling.rows import FAILED, OK
from ray_st.labeling.teacher import PredictionError, Predictor
from ray_st.progress import Counter

_PROBE_S = 2.0  # how long the bare model is measured
_PROBE_BATCHES = 16  # at most, after one that does not count


class TeacherActor:
    """A teacher in a process of its own: loaded once, then views in, labels out."""

    def __init__(
        self,
        source: Any,
        looks: Looks,
        schema: pa.Schema,
        cpus: float,
        gpus: float,
        counter: Counter | None,
        meter: Meter | None,
    ) -> None:
        """`source` is a `TeacherSource`, or a reference to one in the object store; `schema`, that
        of the STORE_ROWs to give.
        """
        source = ray.get(source) if isinstance(source, ray.ObjectRef) else source
        torch.set_num_threads(max(1, int(cpus)))
        try:
            self._teacher: Predictor = source.load("cuda" if gpus > 0 else "cpu", looks)
        except UserError as error:
            if meter is not None:  # of what ends an actor's start Ray keeps a traceback alone
                meter.refused(str(error))
            raise
        self._counter, self._meter = counter, meter
        self._name = uuid.uuid4().hex
        self._schema = schema
        self._is_fresh = True

    def __call__(self, table: pa.Table) -> pa.Table:
        """Label a table of views; a view that is none becomes a failed row."""
        views = Views.from_table(table)
        valid = np.flatnonzero(views.is_valid)
        labels: list[Labels] = [self._teacher.kind.unknown()] * len(views.uris)
        begun = time.monotonic()
        if len(valid):
            found, views = self._predicted(views, valid)
            for i, one in zip(valid, found, strict=True):
                labels[i] = one
        seconds = time.monotonic() - begun
        empty = sum(labels[i].amount() == 0 for i in np.flatnonzero(views.is_valid))
        self._tell(views, seconds, empty)
        if len(valid) and self._is_fresh and self._meter is not None:
            self._is_fresh = False
            if self._meter.may_probe():
                self._meter.probed(self._bare_rate(views.pixels[valid], views.sizes_hw[valid]))
        rows = views.rows(labels, origin=Origin.PSEUDO, kind=self._teacher.kind)
        return _with_status(rows, views).cast(self._schema)

    def _tell(self, views: Views, seconds: float, empty: int) -> None:
        reasons = [reason for reason in views.reasons if reason is not None]
        if self._counter is not None:
            self._counter.add(len(views), failed=len(reasons))
        if self._meter is not None:
            failures = len(reasons)
            self._meter.predicted(self._name, len(views), seconds, reasons, failures, empty)

    def _bare_rate(self, pixels: np.ndarray, sizes_hw: np.ndarray) -> float:
        """Images a second of the model alone, on views that are there: what the pool can reach."""
        begun, batches = time.monotonic(), 0
        while batches < _PROBE_BATCHES and time.monotonic() - begun < _PROBE_S:
            self._teacher.predict(pixels, sizes_hw)
            batches += 1
        return batches * len(pixels) / (time.monotonic() - begun)

    def _predicted(self, views: Views, chosen: np.ndarray) -> tuple[list[Labels], Views]:
        """Labels of the chosen views; those that the teacher makes none of are then no views."""
        try:
            return self._teacher.predict(views.pixels[chosen], views.sizes_hw[chosen]), views
        except PredictionError as error:
            if len(chosen) == 1:
                return [self._teacher.kind.unknown()], _failed(views, int(chosen[0]), str(error))
        found: list[Labels] = []
        for i in chosen:  # one wrong answer is not to cost the others theirs
            labels, views = self._predicted(views, np.array([i]))
            found += labels
        return found, views


def _failed(views: Views, i: int, reason: str) -> Views:
    stages, reasons = [*views.stages], [*views.reasons]
    stages[i], reasons[i] = "teacher", reason
    return replace(views, stages=tuple(stages), reasons=tuple(reasons))


def _with_status(rows: pa.Table, views: Views) -> pa.Table:
    status = [OK if ok else FAILED for ok in views.is_valid]
    rows = rows.append_column("status", pa.array(status, pa.string()))
    rows = rows.append_column("stage", pa.array(views.stages, pa.string()))
    return rows.append_column("reason", pa.array(views.reasons, pa.string()))
