"""The command line: a verb, its flags, and one line for every mistake.

In: argv. Out: an exit status: 0 done, 2 something that the user wrote is wrong, 1 ours (or what
a check found).
The last floor: nothing imports this but `__main__` and `jobs/`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ray_st import logs
from ray_st.config import UserError
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
    for variable, value in _QUIET_RAY.items():
        os.environ.setdefault(variable, value)
    # Imported here: `ray-st --help` need not wait for torch and Ray.
    from ray_st.flags import HELP, parted, print_help
    from ray_st.verbs.words import config_of, defaults_of, verb_of

    verb = verb_of(name)
    rest: list[str] = []
    if hasattr(verb, "REST"):
        flags, rest = parted(verb.CONFIG, flags)
        _require_no_recipe(flags, rest)
    if {*HELP} & {*rest}:
        return _run(rest)
    if {*HELP} & {*flags}:
        print_help(defaults_of(verb), name, VERBS[name])
        return 0
    from rich.console import Console

    config = config_of(verb, flags)
    if rest:
        config = dataclasses.replace(config, **{verb.REST: tuple(rest)})
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


def _require_no_recipe(flags: list[str], rest: list[str]) -> None:
    """What stands before another verb has no sections that a recipe could set."""
    from ray_st.verbs.words import names_recipe

    if names_recipe(flags):
        verb = rest[0] if rest else "the verb"
        raise UserError(f"config: belongs to the verb; put --config behind {verb}")


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
