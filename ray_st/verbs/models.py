"""`ray-st models`: the paper's models as we build them, beside their printed sizes.

In: nothing. Out: a table, or JSON. Starts nothing and takes no memory: shapes alone are counted.
Next: `ray_st.cli`.
"""

from __future__ import annotations

import json as json_text
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from ray_st.models.zoo import ROWS, Figures, Measured, measure


@dataclass(frozen=True, kw_only=True)
class ModelsVerb:
    """Count parameters and multiply-adds of the paper's models."""

    check: bool = False
    """End with status 1 if any model is off by more than its tolerance."""
    json: bool = False
    """Print JSON in place of the table."""


CONFIG = ModelsVerb


def run(config: ModelsVerb, console: Console) -> int:
    """Print every row; with `check` the exit status says whether all are right."""
    measured = [measure(row) for row in ROWS]
    if config.json:
        text = json_text.dumps([_as_json(each) for each in measured], indent=2)
        console.out(text, highlight=False)
    else:
        console.print(_table(measured))
        console.print(
            "params: millions; MACs: multiply-adds of one image, billions. off: from the recount "
            "of the released layers, or from the printed figures where there is none.\n"
            "The two differ where EfficientNet's printed sizes hold its own classifier, which a "
            "segmenter does not use, and where SpineNet-49S was printed with 256 channels and "
            "released with 128. The NAS-FPN x5 is the code's default, the other what was printed.",
            highlight=False,
        )
    wrong = [each for each in measured if each.wrong]
    if config.check:
        stderr = Console(stderr=True)
        for each in wrong:
            stderr.out(_complaint(each), highlight=False)
    return 1 if config.check and wrong else 0


def _table(measured: list[Measured]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # fits into 80 columns
    table.add_column("model", no_wrap=True)
    for name in ("px", "params", "MACs", "printed", "recount", "off %"):
        table.add_column(name, justify="right")
    for each in measured:
        off = each.off_percent
        table.add_row(
            each.row.name,
            str(each.image_size_px),
            f"{each.counted.parameters_m:.2f}",
            f"{each.counted.multiply_adds_b:.2f}",
            _pair(each.row.printed),
            _pair(each.row.recount),
            f"{off.parameters_m:+.2f} {off.multiply_adds_b:+.2f}",
            style="red" if each.wrong else None,
        )
    return table


def _pair(figures: Figures | None) -> str:
    return f"{figures.parameters_m:g} {figures.multiply_adds_b:g}" if figures else ""


def _complaint(each: Measured) -> str:
    allowed, off = vars(each.row.tolerance_percent), vars(each.off_percent)
    said = ", ".join(
        f"{name} {off[name]:+.2f} % (allowed {allowed[name]} %)" for name in each.wrong
    )
    return f"{each.row.name}: off by {said}"


def _as_json(each: Measured) -> dict[str, Any]:
    return {
        "name": each.row.name,
        "recipe": each.row.recipe,
        "changes": dict(each.row.changes),
        "task": each.row.task,
        "num_classes": each.row.num_classes,
        "image_size_px": each.image_size_px,
        **asdict(each.counted),
        "printed": asdict(each.row.printed) if each.row.printed else None,
        "recount": asdict(each.row.recount) if each.row.recount else None,
        "off_percent": asdict(each.off_percent),
        "wrong": each.wrong,
        "source": each.row.source,
    }
