"""Which predictions each kind of labels has, and how rows come: some thousand at a time.

In: LABEL_ROWs. Out: their `Predictions`. Next: `ranking.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from ray_st.data.labels import ClassLabel, Detections, Labels, SegmentationMap
from ray_st.labeling.policy.boxes import BoxPredictions
from ray_st.labeling.policy.classes import ClassPredictions
from ray_st.labeling.policy.maps import MapPredictions
from ray_st.labeling.policy.tally import Predictions

PREDICTIONS_OF: dict[type[Labels], type[Predictions]] = {
    Detections: BoxPredictions,
    SegmentationMap: MapPredictions,
    ClassLabel: ClassPredictions,
}

ROWS_AT_ONCE = 2048

Parts = Callable[[], Iterable[pa.Table]]
"""Rows, a part at a time; every call begins anew. What is chosen depends on no order or split."""


def parts_of(table: pa.Table) -> Iterator[pa.Table]:
    """Some rows at a time, one part at least."""
    starts = range(0, max(1, table.num_rows), ROWS_AT_ONCE)
    return (table.slice(start, ROWS_AT_ONCE) for start in starts)
