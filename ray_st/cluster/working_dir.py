"""What of a folder travels with a job, and what its nodes install.

In: a folder. Out: its files and Ray's runtime environment, or one line of refusal before anything
is sent. Next: `submission.py`.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray_st import logs
from ray_st.config import UserError, require
from ray_st.ray_compat import travelling

# As in a .gitignore; those of a .gitignore and a .rayignore in the folder count too.
EXCLUDES = (
    *(".git", ".venv", "venv", "__pycache__", "*.egg-info", "node_modules"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".import_linter_cache", ".hypothesis"),
    *("/runs", "/build", "/dist", "/.ray"),
)
# Every node fetches it before its first task. Ray itself ends at 512 MiB, with a page of its own.
MOST_BYTES = 100 * 2**20
_SHOWN = 3
_INSTALLED = ("pyproject.toml", "constraints.txt")
_THERE = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"  # written out by pip, on the node


def travelling_files(folder: Path) -> list[Path]:
    """Files that travel. Raises `UserError` where there is no folder, or too much in it."""
    require(folder.is_dir(), "working_dir", "a folder", str(folder), "`.` is where you are")
    files = travelling(folder, EXCLUDES)
    sizes: Counter[str] = Counter()
    for file in files:
        first, *others = file.relative_to(folder).parts
        sizes[f"{first}/" if others else first] += file.stat().st_size
    if (total := sizes.total()) > MOST_BYTES:
        largest = ", ".join(f"{name} ({_mib(size)})" for name, size in sizes.most_common(_SHOWN))
        raise UserError(
            f"working_dir: must hold at most {_mib(MOST_BYTES)} to send, got {_mib(total)} in "
            f"{folder}: {largest}; name what need not travel in a .rayignore there, "
            "and keep images where every node sees them"
        )
    return files


def said(files: Sequence[Path], folder: Path) -> str:
    """What travels, in words."""
    return f"{len(files)} files of {folder}, {_mib(sum(file.stat().st_size for file in files))}"


def runtime_env(folder: Path, *, install: bool) -> dict[str, Any]:
    """What Ray makes on each node before the job's first process there; logs are as they are here.

    `install`: what the project needs, in the versions of its constraints.txt, besides Ray itself.
    """
    env: dict[str, Any] = {"working_dir": str(folder), "excludes": list(EXCLUDES)}
    if logs.is_json():
        env["env_vars"] = {logs.VARIABLE: "json"}
    return env | {"pip": {"packages": _packages(folder)}} if install else env


def _packages(folder: Path) -> list[str]:
    for name in _INSTALLED:
        if not (folder / name).is_file():
            raise UserError(
                f"install: must be false where --working-dir holds no {name}, got true for "
                f"{folder}; pass the project's checkout, or start nodes that have it installed"
            )
    project = tomllib.loads((folder / _INSTALLED[0]).read_text())["project"]
    lines = (folder / _INSTALLED[1]).read_text().splitlines()
    exact = {_key(line.partition("==")[0]): line for line in lines if "==" in line}
    names = [re.split(r"[^A-Za-z0-9._-]", each, maxsplit=1)[0] for each in project["dependencies"]]
    wanted = [exact[_key(name)] for name in names if name != "ray"]
    return [*wanted, f"--constraint {_THERE}/{_INSTALLED[1]}"]


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
