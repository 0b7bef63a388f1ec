"""A run's folder: one run each, safe to run again, never overwritten.

In: `--out` and the resolved recipe. Out: a folder that holds recipe.yaml from the start and
summary.json from the end. Next: `materials.py`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray_st.config import UserError
from ray_st.models.saved import CARD
from ray_st.training.checkpoints import finite

RECIPE, SUMMARY, SCENES = "recipe.yaml", "summary.json", "data"
_LOCK = ".lock"


def check(out: Path, recipe: str) -> None:
    """Refuse a folder that is not this run's. `recipe` is the resolved recipe as YAML."""
    if ":/" in str(out):
        raise UserError(f"out: must be a folder that this machine sees, got {str(out)!r}; mount it")
    standing = next(path for path in (out, *out.parents) if path.exists())
    if not standing.is_dir():
        raise UserError(f"out: {standing} is a file; pass --out with the name of a new folder")
    # A recipe alone, with the demo's scenes perhaps, is a run that never began (no room in the
    # cluster, say): nothing to protect.
    names = {path.name for path in out.iterdir()} if standing == out else set()
    if names <= {
        RECIPE,
        _LOCK,
        _scratch(out / RECIPE).name,
        *([SCENES] if RECIPE in names else []),
    }:
        return
    if RECIPE not in names:
        raise UserError(f"out: {out} holds other files; pass --out with the name of a new folder")
    if (out / RECIPE).read_text() != recipe:
        raise UserError(
            f"out: {out} holds another run (its {RECIPE} differs); pass another --out, "
            "or the flags of that run to go on with it"
        )


def claim(out: Path, recipe: str) -> None:
    """Make the folder this run's own."""
    check(out, recipe)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / RECIPE, recipe)
    except OSError as error:
        raise UserError(
            f"out: {out} cannot be written ({error.strerror}); pass --out with another folder"
        ) from error


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep every other process out of a folder; its holder's death sets it free."""
    with (out / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"out: another ray-st works in {out}; wait until it ends, or pass another --out"
            ) from error
        yield


def finished(out: Path) -> dict[str, Any] | None:
    """The summary of a run that ended well, or None; refuses one that is damaged."""
    path = out / SUMMARY
    if not path.exists():
        return None
    try:
        summary = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: must be readable JSON, got {' '.join(str(error).split())}; "
            "remove it and run its verb again"
        ) from error
    if not isinstance(summary, dict):
        raise UserError(
            f"{path}: must be a JSON object, got {summary!r}; remove it and run its verb again"
        )
    return summary


def require_one_model(path: str, what: str) -> None:
    """Refuse the folder of a whole run where one of its models is wanted; `what` is the flag."""
    held = [name for name in ("teacher", "student") if (Path(path) / name / CARD).is_file()]
    if held and not (Path(path) / CARD).is_file():
        models = " or ".join(str(Path(path) / name) for name in held)
        raise UserError(f"{what}: {path} holds a whole run; pass one of its models: {models}")


def write_summary(out: Path, summary: Mapping[str, Any]) -> None:
    """Leave the summary; its presence says that the run ended well."""
    write_text(out / SUMMARY, json.dumps(finite(summary), indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write whole or not at all."""
    scratch = _scratch(path)
    scratch.write_text(text)
    os.replace(scratch, path)  # noqa: PTH105 - Path.replace hides that this is atomic


def _scratch(path: Path) -> Path:
    return path.with_name(path.name + ".part")
