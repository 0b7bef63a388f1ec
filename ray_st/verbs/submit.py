"""`ray-st submit VERB ...`: the verb as a job on a cluster, its log here, its exit status ours.

In: a verb and its flags. Out: a job; nothing is sent before its flags, its recipe and the size of
what travels are checked. No Ray is started or joined. Next: `ray_st.cli`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ray_st.cluster.submission import Command, JobServer, address_of, outcome
from ray_st.cluster.working_dir import runtime_env, said, travelling_files
from ray_st.config import UserError, require
from ray_st.data import storage
from ray_st.recipe import at_home
from ray_st.verbs.words import config_of, verb_of


@dataclass(frozen=True, kw_only=True)
class SubmitVerb:
    """Send a verb to a cluster."""

    address: str | None = None
    """http://HOST:PORT of the head's dashboard. By default what RAY_API_SERVER_ADDRESS or
    RAY_ADDRESS name, else http://127.0.0.1:8265."""
    working_dir: str = "."
    """Folder that travels with the job and is its current one; what its .gitignore and .rayignore
    name stays."""
    install: bool = False
    """Let every node install what constraints.txt of the folder says, Ray excepted: minutes at
    first, for nodes that have Ray alone."""
    gpus: float = 0.0
    """Accelerators of the job's own process, besides those of what it starts; by default it runs
    on the head."""
    wait: bool = True
    """Follow the job to its end; --no-wait: say its name and leave it to itself."""
    dry_run: bool = False
    """Check everything, print what would be sent, and stop."""
    command: tuple[str, ...] = ()
    """The verb and its flags, behind submit's own; --command itself is not needed."""

    def __post_init__(self) -> None:
        require(self.gpus >= 0, "gpus", "0 or more", self.gpus)


CONFIG = SubmitVerb
REST = "command"


def run(config: SubmitVerb, console: Console) -> int:
    """Send it, unless it is there already, and follow it."""
    address, folder = address_of(config.address), Path(at_home(config.working_dir))
    files = travelling_files(folder)
    command = _checked(config.command, folder, files)
    env = runtime_env(folder.resolve(), install=config.install)
    if config.dry_run:
        console.out(command.entrypoint, highlight=False)
        say = f"# dry run: {said(files, folder)}, would go to {address}; nothing was sent"
        console.out(say, highlight=False)
        return 0
    server = JobServer(address=address)
    if server.warning:
        console.out(f"{'warning':<11}{server.warning}", highlight=False)
    if (standing := server.at_work_in(command.out)) is None:
        job_id = server.submit(command, env, config.gpus)
        _say(console, f"{job_id}, with {said(files, folder)}")
    else:
        job_id = str(standing.submission_id)
        _require_same(command, standing.entrypoint, job_id, address)
        _say(console, f"{job_id} does this already; nothing was sent")
    if not config.wait:
        _say(console, f"follow it: ray job logs --address {address} --follow {job_id}")
        return 0
    return _follow(server, job_id, console)


def _follow(server: JobServer, job_id: str, console: Console) -> int:
    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        status, words = outcome(server.followed(job_id, write))
    except KeyboardInterrupt:
        _say(console, f"{job_id} goes on; ray job stop --address {server.address} {job_id} ends it")
        raise
    _say(console, f"{job_id} {words}")
    return status


def _say(console: Console, text: str) -> None:
    console.out(f"{'job':<11}{text}", highlight=False)


def _require_same(command: Command, entrypoint: str, job_id: str, address: str) -> None:
    """Two jobs in one folder: the second would be refused there, after its upload and its start."""
    if entrypoint != command.entrypoint:
        raise UserError(
            f"out: job {job_id} works in {command.out} with other words; wait until it ends, stop "
            f"it with `ray job stop --address {address} {job_id}`, or pass another --out"
        )


def _checked(words: Sequence[str], folder: Path, files: Sequence[Path]) -> Command:
    """A command that its verb takes, and that means the same on a cluster as here."""
    if not words:
        raise UserError("submit: needs a verb; write ray-st submit VERB --FIELD VALUE ...")
    name, flags = words[0], list(words[1:])
    verb = verb_of(name)
    require(verb.CONFIG is not SubmitVerb, "submit", "followed by another verb", name)
    wanted: Any = config_of(verb, flags)
    if getattr(wanted, "address", None) is not None:
        raise UserError(
            f"address: belongs to submit, which stands before {name}; a job joins its own cluster"
        )
    out = getattr(wanted, "out", None)
    require(
        out is None or storage.is_remote(out) or Path(out).is_absolute(),
        "out",
        "an absolute path or a URI, which every node sees",
        out,
        "a job's current folder is gone with it",
    )
    place = None if out is None else storage.join(out, ".")  # one folder has one name
    return Command(verb=name, flags=(*_travelled(flags, folder, files),), out=place)


def _travelled(flags: Sequence[str], folder: Path, files: Sequence[Path]) -> list[str]:
    """The same flags; a recipe that is a file is named as the job will find it."""
    found, is_recipe = [], False
    for word in flags:
        head, equals, value = word.partition("=")
        if is_recipe:
            found.append(_inside(word, folder, files))
        elif head == "--config" and equals:
            found.append(f"--config={_inside(value, folder, files)}")
        else:
            _require_written_out(head, value if equals else word)
            found.append(word)
        is_recipe = word == "--config"
    return found


def _require_written_out(flag: str, value: str) -> None:
    field = flag.removeprefix("--") if flag.startswith("--") else "path"
    rule = "written out, for ~ is another folder on the cluster"
    require(value.partition("/")[0] != "~", field, rule, value)


def _inside(name: str, folder: Path, files: Sequence[Path]) -> str:
    path = Path(at_home(name))
    if not path.is_file():  # one of the package's own, by its name
        return name
    inside = {file.resolve(): file for file in files}.get(path.resolve())
    if inside is None:
        raise UserError(
            f"config: must lie in --working-dir {folder}, not ignored there, to travel with the "
            f"job, got {name!r}; copy it there"
        )
    return str(inside.relative_to(folder))
