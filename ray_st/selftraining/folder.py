"""A run's folder: one run each, safe to run again, never overwritten.

In: `--out` and the resolved recipe. Out: a folder that holds recipe.yaml from the start and
summary.json from the end. Next: `materials.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.models.saved import has_card
from ray_st.selftraining.lease import LOCK
from ray_st.selftraining.record import RECIPE, SUMMARY, left_whole
from ray_st.training.checkpoints import finite

SCENES = "data"


def check(out: str | Path, recipe: str, *, anywhere: bool = False) -> None:
    """Refuse a folder that is not this run's. `recipe` is the resolved recipe as YAML.

    `anywhere`: a bucket will do too.
    """
    out = str(out)
    if ":/" in out and not anywhere:
        raise UserError(
            f"out: must be a folder that this machine sees, got {out!r}; mount it, "
            "for this verb does not work in a bucket"
        )
    if not storage.is_remote(out):
        _require_folder(Path(out))
    # A recipe alone, with the demo's scenes perhaps, is a run that never began (no room in the
    # cluster, say): nothing to protect.
    names = _names(out)
    begun = {RECIPE, f"{RECIPE}.part", LOCK}
    if names <= (begun | {SCENES} if RECIPE in names else begun):
        return
    if RECIPE not in names:
        raise UserError(f"out: {out} holds other files; pass --out with the name of a new folder")
    if storage.read(storage.join(out, RECIPE)).decode() != recipe:
        raise UserError(
            f"out: {out} holds another run (its {RECIPE} differs); pass another --out, "
            "or the flags of that run to go on with it"
        )


def _require_folder(out: Path) -> None:
    standing = next(path for path in (out, *out.parents) if path.exists())
    if not standing.is_dir():
        raise UserError(f"out: {standing} is a file; pass --out with the name of a new folder")


def _names(out: str) -> set[str]:
    try:
        return {str(info.base_name) for info in storage.listed(out)}
    except (OSError, ValueError) as error:
        raise UserError(
            f"out: {out} cannot be read ({' '.join(str(error).split())}); check the path and your "
            "access, or pass --out with another folder"
        ) from error


def claim(out: str | Path, recipe: str, *, anywhere: bool = False) -> None:
    """Make the folder this run's own; the arguments are those of `check`."""
    out = str(out)
    check(out, recipe, anywhere=anywhere)
    try:
        storage.make_folder(out)
        storage.put(storage.join(out, RECIPE), recipe.encode())
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(
            f"out: {out} cannot be written ({reason}); pass --out with another folder"
        ) from error


def finished(out: str | Path) -> dict[str, Any] | None:
    """The summary of a run that ended well, or None; refuses one that is damaged."""
    return left_whole(storage.join(str(out), SUMMARY))


def require_one_model(path: str, what: str) -> None:
    """Refuse the folder of a whole run where one of its models is wanted; `what` is the flag."""
    models = [storage.join(path, name) for name in ("teacher", "student")]
    held = [model for model in models if has_card(model, what)]
    if held and not has_card(path, what):
        raise UserError(
            f"{what}: {path} holds a whole run; pass one of its models: {' or '.join(held)}"
        )


def write_summary(out: str | Path, summary: Mapping[str, Any]) -> None:
    """Leave the summary; its presence says that the run ended well."""
    text = json.dumps(finite(summary), indent=2) + "\n"
    storage.put(storage.join(str(out), SUMMARY), text.encode())


def reopen(out: str | Path) -> None:
    """Take the summary back: the run goes on."""
    storage.remove(storage.join(str(out), SUMMARY))
