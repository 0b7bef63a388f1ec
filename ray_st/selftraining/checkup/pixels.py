"""Class maps: how much of them counts.

In: some LABEL_ROWs with class maps. Out: findings. Next: `pseudo.py`.
"""

from __future__ import annotations

from ray_st.selftraining.checkup.classes import Counts
from ray_st.selftraining.checkup.finding import Finding, graded, percent

_MUCH_IGNORED = 0.5


def ignored_pixels(where: str, counts: Counts, total: int) -> list[Finding]:
    """Say which share of the pixels has no class, in the maps that were counted of `total`."""
    if not len(counts.amounts):
        return []
    share = 1 - float(counts.amounts.mean())
    read = len(counts.amounts)
    of = f"{read}" if read == total else f"{read} of {total}"
    severity = graded(share, warn=_MUCH_IGNORED)
    return [
        Finding(
            severity=severity,
            where=where,
            what=f"{percent(share)} of the pixels count for nothing (maps read: {of})",
            move="" if severity == "fine" else "check ignore_index in classes.json, and the maps",
            numbers={"ignored_share": share, "maps": read, "of": total},
        )
    ]
