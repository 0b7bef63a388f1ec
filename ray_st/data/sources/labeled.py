"""Human-labelled images, wherever they were read from.

In: nothing. Out: `LabeledSet`, what every reader of labels gives. Next: `folder.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class LabeledSet:
    """Images labelled by humans."""

    rows: pa.Table  # LABEL_ROWs, Origin.HUMAN
    classes: tuple[str, ...]  # names by class id
    uri: str  # where the labels were read from
    findings: dict[str, int]  # what was mended, and how often; empty for a clean set
