"""How fast a labelling was and what held it up, in words that say what to change.

In: `speed` of a summary, as `meter.py` makes it. Out: two lines. Next: `amounts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def speed_words(speed: Mapping[str, Any]) -> str:
    """Images a second, of what, of how much that could be, and how long the start took.

    Empty where nothing was measured: without a pool, or where nothing was left to label.
    """
    if speed.get("images_per_s") is None:
        return ""
    share, first = speed.get("speed_of_light"), speed.get("first_label_s")
    each, unit = speed.get("images_per_s_per_accelerator"), "accelerator"
    if each is None:
        each, unit = speed.get("images_per_s_per_teacher"), "teacher"
    words = [f"{_rate(speed['images_per_s'])} images/s"]
    if each is not None and (unit == "accelerator" or each < speed["images_per_s"]):
        words.append(f"{_rate(each)} for each {unit}")
    words.append(
        "bare model not measured (too few images)"
        if share is None
        else f"{share:.0%} of the bare model's {_rate(speed['bare_images_per_s'])}"
    )
    if first is not None:
        words.append(f"first label after {first:.1f} s")
    return ", ".join(words)


def limit_words(speed: Mapping[str, Any], seconds: float | None) -> str:
    """Which stage the others waited for, and what to do about it; `seconds`: of the whole run."""
    busy = speed.get("busy") or {}
    if not {"read", "predict"} <= busy.keys():
        return ""
    read, predict = (f"{min(1.0, busy[name]):.0%}" for name in ("read", "predict"))
    if speed.get("limit") == "read":
        return (
            f"reading and decoding: readers were busy {read} of the time, teachers {predict}; "
            "raise label.readers, or bring the images nearer"
        )
    if speed.get("limit") == "predict":
        return (
            f"the teacher: busy {predict} of the time, readers {read}; raise label.actors, or give "
            "actors more (label.cpus_per_actor, label.gpus_per_actor)"
        )
    first = speed.get("first_label_s")
    if first is None or seconds is None or first > seconds / 4:
        return (
            f"the start: teachers were busy {predict} of the time behind it, readers {read}; "
            "a run this short cannot tell more"
        )
    return (
        f"neither readers (busy {read}) nor teachers ({predict}): the rest went to listing, "
        "writing and checking; look whether cores or the network were taken"
    )


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
