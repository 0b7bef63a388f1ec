"""`ray-st report DIR`: the report of a folder that another verb left.

In: a run folder. Out: report.html in it. Next: `ray_st.cli`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ray_st.config import UserError
from ray_st.report import write_report
from ray_st.selftraining.folder import SUMMARY


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
    if not (out / SUMMARY).is_file():
        raise UserError(
            f"run: {out} holds no {SUMMARY}; pass the --out folder of a verb that has ended"
        )
    _require_summary(out / SUMMARY)
    if config.dry_run:
        console.out(f"# dry run: {out} can be reported on; nothing was written", highlight=False)
        return
    console.print(f"report     {write_report(out)}", highlight=False, soft_wrap=True)


def _require_summary(path: Path) -> None:
    try:
        summary = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"run: {path} cannot be read ({error}); run its verb again") from error
    if not isinstance(summary, dict):
        raise UserError(f"run: {path} is no summary; run its verb again")
