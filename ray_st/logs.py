"""What is said as JSON, a line an event, for whoever collects logs: RAY_ST_LOG=json.

In: what verbs print, what Python logs, and events with numbers. Out: one JSON object a line with
time, level, job, verb, run, and what the event brings: stage, shard, counts. Without the variable
nothing here has an effect. Next: `ray_compat.py`.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from datetime import UTC, datetime
from functools import cache
from typing import IO, Any, TextIO, cast

from ray_st.config import UserError

VARIABLE = "RAY_ST_LOG"
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # by which Ray tells a submitted job's process its name
_about: dict[str, str] = {}  # of this process: verb, run


def is_json() -> bool:
    """Whether JSON is wanted. Raises `UserError` for what is neither."""
    said = os.environ.get(VARIABLE) or "text"
    if said not in ("text", "json"):
        raise UserError(f"{VARIABLE}: must be text or json, got {said!r}; unset it for text")
    return said == "json"


def set_up(verb: str, run: str) -> None:
    """Let Python's own log lines be JSON too, and every line say which verb and run it is of."""
    _about.update(verb=verb, run=run)
    if is_json():
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter())
        logging.basicConfig(handlers=[handler], force=True)


def event(name: str, message: str, *, level: str = "info", **fields: Any) -> None:
    """Say what happened, with its numbers; nothing where text is wanted."""
    if is_json():
        said = {"event": name, **fields, "message": message}
        print(line(level, said), file=sys.stdout, flush=True)  # noqa: T201 - this is the log


def line(level: str, said: dict[str, Any]) -> str:
    """One JSON object: when, how grave, of what, and what is said."""
    when = datetime.now(UTC).isoformat(timespec="milliseconds")
    about = {"job": _job(os.environ.get(_JOB, "")), **_about}
    known = {name: value for name, value in about.items() if value}
    return json.dumps({"time": when, "level": level, **known, **said}, default=str)


@cache
def _job(config: str) -> str | None:
    """The name of a submitted job, as in `ray job logs`; None where this is none."""
    try:
        return str(json.loads(config)["metadata"]["job_submission_id"])
    except (ValueError, KeyError, TypeError):
        return None


def stream(under: TextIO) -> IO[str]:
    """A stream for a console: each line of text becomes an event."""
    return cast(IO[str], _Lines(under))


class _Lines(io.TextIOBase):
    def __init__(self, stream: TextIO) -> None:
        self._stream, self._held = stream, ""

    def write(self, text: str) -> int:
        """Take text; whole lines go out."""
        *whole, self._held = (self._held + text).split("\n")
        for each in filter(str.strip, whole):
            level = "warning" if each.startswith("warning ") else "info"
            self._stream.write(line(level, {"event": "said", "message": each.rstrip()}) + "\n")
        return len(text)

    def flush(self) -> None:
        """Pass on what is whole."""
        self._stream.flush()


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {"event": "log", "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return line(record.levelname.lower(), said)
