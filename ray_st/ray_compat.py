"""What of Ray is private, young or on its way out, in two files, for the versions in pyproject.

In: what we want. Out: Ray's form of it. Whoever raises the upper bound of `ray` reads both files
and runs the tests. Next: `ray_checkpoints.py`.

| what | why | seen in 2.60 |
|---|---|---|
| `max_retries`, `max_task_retries` among remote args | the only bound on retries of a task whose
  process died; deprecated, goes in 2.64 | without it: for ever |
| `RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S` | how long a gang waits for all its workers; known by its
  environment only | 60 s |
| tokens for the job server | its client sends one only where RAY_AUTH_MODE asks for it; private | |
| which files of a working_dir travel | Ray says so only by sending them; private | .gitignore too |
| the thread that makes batches | it holds blocks, is told to end and not waited for; private | a
  process that lets a block go after `ray.shutdown` ends there |
| names of loggers | Ray's own bars and their notices; private | |
| a counter's record of 0 | its `inc` takes none, and a series that first stands at 3 has no rate of
  these 3; private | |
| `hide` on a log record | Ray Data's console leaves it out, its file does not; private | |
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ray_st.config import UserError
from ray_st.nodes import selector

if TYPE_CHECKING:
    from ray.train import ScalingConfig
    from ray.util.metrics import Counter

Retries = dict[str, int]


def task_retries(count: int) -> Retries:
    """Remote args: how often a task is run again whose process died."""
    return {"max_retries": count}


def actor_retries(count: int) -> Retries:
    """Remote args: how often a call of an actor is run again whose process died."""
    return {"max_task_retries": count}


def on_nodes(nodes: Sequence[str]) -> dict[str, dict[str, str]]:
    """Arguments that send tasks, actors or train workers to nodes of some labels."""
    return {"label_selector": selector(nodes)} if nodes else {}


def use_token() -> None:
    """Send the token of RAY_AUTH_TOKEN or of ~/.ray/auth_token, unless RAY_AUTH_MODE says else.

    `ray.init` and `ray start` do so by themselves, the client of the job server does not.
    """
    from ray._private.authentication import authentication_token_setup as setup

    setup.logger.setLevel(logging.ERROR)  # of what is said to who starts a cluster
    setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def travelling(folder: Path, excludes: Sequence[str]) -> list[Path]:
    """Files that go to a cluster with a job whose working_dir this is.

    `excludes`: patterns as in a .gitignore, besides those of .gitignore and .rayignore.
    """
    from ray._private import ray_constants
    from ray._private.runtime_env import packaging

    found: list[Path] = []
    rules = [*ray_constants.get_runtime_env_default_excludes(), *excludes]
    ignored = os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE) == "1"
    packaging._dir_travel(
        folder,
        [packaging._get_excludes(folder, rules)],
        found.append,
        include_gitignore=not ignored,
        logger=logging.getLogger("ray_st.silent"),
    )
    return [path for path in found if path.is_file()]


def hurry_starts(scaling: ScalingConfig) -> None:
    """Let an elastic gang give up soon on a size that is no longer there; before it is started.

    When a node is lost Ray Train first tries the size that was, until this time is over.
    """
    if scaling.elasticity_enabled:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "20")


def wait_for_batching(limit_s: float = 10.0) -> None:
    """Let the threads end that made batches of datasets whose iteration was closed.

    To be called before `ray.shutdown`: a process that touches Ray afterwards, if only to let go of
    a block, is ended on the spot, with status 1 and without a word.
    """
    until = time.monotonic() + limit_s
    while running := [one for one in threading.enumerate() if one.name == "iter_threaded"]:
        left_s = until - time.monotonic()
        if left_s <= 0:  # of an iteration that nobody closed
            return
        running[0].join(left_s)


def begin_count(counter: Counter, tags: dict[str, str]) -> None:
    """Let a counter stand at zero under these tags: Prometheus then sees its first count as one."""
    counter._record(0, tags)


def quieten() -> None:
    """Let Ray's libraries speak of warnings only, and not of bars that are off."""
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("ray.data.exceptions").addFilter(_refusals_in_a_file)
    # It says that Ray's bars are off, and how to turn them on; ours show the same.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    # It warns of cores beside accelerators, which teachers need, and of a pool that must not grow.
    for name in ("execution.operators.map_operator", "actor_autoscaler.default_actor_autoscaler"):
        logging.getLogger(f"ray.data._internal.{name}").setLevel(logging.ERROR)


def _refusals_in_a_file(record: logging.LogRecord) -> bool:
    """Keep Ray Data's page on a `UserError` in its log file: on the console that is one line."""
    error = sys.exc_info()[1]  # in whose handler it logs; a dead actor's is text
    name = f"{UserError.__module__}.{UserError.__qualname__}: "
    if isinstance(error, UserError) or name in str(error):
        record.hide = True  # which Ray itself says of errors in what it was given to run
    return True
