"""The command line: a verb, its flags, and one line for every mistake.

In: argv. Out: an exit status: 0 done, 2 something that the user wrote is wrong, 1 ours (or what
a check found).
The last floor: nothing imports this but `__main__` and `jobs/`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ray_st import logs
from ray_st.config import UserError, nearest
from ray_st.verbs import VERBS

# Ray reads these when it is imported. On a small machine it warns of its own worker processes, Tune
# prints a page that our one line replaces, and Ray Data's every actor pool logs an error line on
# its own arguments.
_QUIET_RAY = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": "PYTHON worker processes have been started",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except UserError as error:
        _say_error(f"ray-st: {error}")
        return 2
    except KeyboardInterrupt:
        print("ray-st: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        _print_verbs()
        return 0 if words else 2
    if words[0] == "--version":
        print(_version())
        return 0
    name, flags = words[0], words[1:]
    if name not in VERBS:
        near = nearest(name, VERBS)
        move = f"did you mean {near}?" if near else "`ray-st --help` lists them"
        raise UserError(f"{name}: unknown verb; {move}")
    for variable, value in _QUIET_RAY.items():
        os.environ.setdefault(variable, value)
    # Imported here: `ray-st --help` need not wait for torch and Ray.
    from ray_st.flags import print_help, resolve, with_flag

    verb: Any = import_module(f"ray_st.verbs.{name.replace('-', '_')}")
    if "-h" in flags or "--help" in flags:
        config: Any = verb.CONFIG
        if hasattr(verb, "DEFAULT_RECIPE"):
            config = resolve(verb.CONFIG, _completed(verb, []), recipe_schema=None)
        print_help(config, name, VERBS[name])
        return 0
    from rich.console import Console

    if hasattr(verb, "POSITIONAL"):
        flags = with_flag(verb.CONFIG, flags, verb.POSITIONAL)
    flags = _completed(verb, flags)
    config = resolve(verb.CONFIG, flags, recipe_schema=_sections(flags))
    console = Console()
    if hasattr(config, "out"):  # the others' words are their results
        logs.set_up(name, str(config.out))
        if logs.is_json():
            console = Console(file=logs.stream(sys.stdout), width=200)  # 80 columns are for eyes
    status = verb.run(config, console)  # None is done, as for most verbs
    summary = Path(getattr(config, "out", ""), "summary.json")  # some verbs leave none
    if hasattr(config, "out") and not config.dry_run and summary.is_file():
        console.out(summary, highlight=False)
    return status or 0


def _say_error(line: str) -> None:
    with suppress(UserError):  # of the variable itself
        line = logs.line("error", {"event": "error", "message": line}) if logs.is_json() else line
    print(line, file=sys.stderr)


def _completed(verb: Any, flags: list[str]) -> list[str]:
    """Give the demo its recipe."""
    recipe = getattr(verb, "DEFAULT_RECIPE", None)
    return ["--config", recipe, *flags] if recipe and not _names_recipe(flags) else flags


def _names_recipe(flags: list[str]) -> bool:
    return any(flag == "--config" or flag.startswith("--config=") for flag in flags)


def _sections(flags: list[str]) -> type | None:
    """What a recipe may hold, where one is read: knowing it costs a second, for it loads Ray."""
    if not _names_recipe(flags):
        return None
    from ray_st.verbs.verb import Recipe

    return Recipe


def _print_verbs() -> None:
    print("usage: ray-st VERB [--config RECIPE] [--out DIR] [--section.field VALUE ...]\n")
    for name, about in VERBS.items():
        print(f"  {name:<14}{about}")
    print("\n`ray-st VERB --help` lists every field with its meaning, unit and default.")


def _version() -> str:
    try:
        return f"ray-st {version('ray-st')}"
    except PackageNotFoundError:
        return "ray-st (from source)"
