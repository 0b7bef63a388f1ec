"""`ray-st report DIR`: the report of a folder that another verb left.

In: a run folder. Out: report.html in it. Next: `submit.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ray_st.config import UserError
from ray_st.report import write_report
from ray_st.report.run_files import require_shape
from ray_st.selftraining.folder import finished
from ray_st.selftraining.record import SUMMARY


@dataclass(frozen=True, kw_only=True)
class ReportVerb:
    """Write a report."""

    run: str
    """The folder; may be given without the flag."""
    dry_run: bool = False
    """Check the folder, and stop."""


CONFIG = ReportVerb
POSITIONAL = "run"


def run(config: ReportVerb, console: Console) -> None:
    """Write report.html from what the folder holds."""
    out = Path(config.run)
    if (summary := finished(out)) is None:
        raise UserError(
            f"run: {out} holds no {SUMMARY}; pass the --out folder of a verb that has ended"
        )
    require_shape(out / SUMMARY, summary)
    if config.dry_run:
        console.out(f"# dry run: {out} can be reported on; nothing was written", highlight=False)
        return
    console.print(f"report     {write_report(out)}", highlight=False, soft_wrap=True)
