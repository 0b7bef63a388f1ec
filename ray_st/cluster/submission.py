"""Jobs on a cluster, over HTTP: sent, found again, followed. Nothing here starts or joins a Ray.

In: the address of a head's dashboard, and a command. Out: the job's log as it grows, and how it
ended. Next: `ray_st.verbs`.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import AuthenticationError

from ray_st.config import UserError, require
from ray_st.ray_compat import use_token
from ray_st.secrets import require_no_secret

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
# Ray puts these over whatever address it is given.
_NAMES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_CONNECT_S = 10
_PATIENCE_S = 120.0  # with a tunnel that broke
_PAUSE_S = 1.0
_VERB, _OUT = "ray_st_verb", "ray_st_out"


def address_of(wanted: str | None) -> str:
    """What was asked for, else what Ray's variables name, else this machine's head.

    Raises `UserError` for what is no address of a dashboard, and where a variable names another
    machine's Ray: its dashboard's port is not known from that.
    """
    named = {name: os.environ[name] for name in _NAMES if os.environ.get(name)}
    known = next((each for each in named.values() if each.startswith("http")), None)
    elsewhere = [f"{name}={each}" for name, each in named.items() if not _is_here(each)]
    got = wanted or known or next(iter(elsewhere), DEFAULT_ADDRESS)
    address = got.rstrip("/")
    parts = urlsplit(address)
    require(
        parts.scheme in ("http", "https") and parts.hostname is not None,
        "address",
        "http://HOST:PORT of the head's dashboard",
        address,
        f"through a tunnel that is {DEFAULT_ADDRESS}",
    )
    require_no_secret({"address": address})  # of a variable; a flag's was looked at before
    return address


def _is_here(address: str) -> bool:
    """Whether an address of a Ray (not of a dashboard) is of this machine."""
    host = urlsplit(f"//{address.rpartition('://')[2]}").hostname or ""
    if host in ("auto", "local", "::1"):
        return True
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))  # which only addresses of this machine let
    except OSError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class Command:
    """A verb and its flags, as the job will see them."""

    verb: str
    flags: tuple[str, ...]
    out: str | None  # the folder that it works in

    @property
    def entrypoint(self) -> str:
        """For the job's shell."""
        return shlex.join(["python", "-m", "ray_st", self.verb, *self.flags])


@dataclass(kw_only=True)
class JobServer:
    """The jobs of one cluster. Every method may raise `UserError`, in place of Ray's errors."""

    address: str
    client: JobSubmissionClient = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:  # Ray itself would wait without an end for one that does not answer
            socket.create_connection((str(parts.hostname), port), timeout=_CONNECT_S).close()
        except OSError as error:
            raise self._silent(error) from error
        use_token()
        held = {name: os.environ.pop(name) for name in _NAMES if name in os.environ}
        try:
            from ray.job_submission import JobSubmissionClient

            self.client = JobSubmissionClient(self.address)
        except (AuthenticationError, OSError, RuntimeError) as error:
            raise self._refused(error) from error
        finally:
            os.environ.update(held)

    @property
    def warning(self) -> str | None:
        """What may go wrong with the versions."""
        theirs = self.client._server_ray_version
        if theirs == ray.__version__:
            return None
        return f"the cluster runs Ray {theirs}, this machine {ray.__version__}; use one version"

    def at_work_in(self, out: str | None) -> JobDetails | None:
        """The job that works in a folder, if one of ours does."""
        if out is None:
            return None
        jobs = self._asked(self.client.list_jobs)
        mine = (job for job in jobs if (job.metadata or {}).get(_OUT) == out)
        return next((job for job in mine if not job.status.is_terminal()), None)

    def submit(self, command: Command, env: Mapping[str, Any], gpus: float) -> str:
        """Send a command; returns the id of its job."""
        out = {} if command.out is None else {_OUT: command.out}

        def send() -> str:
            return str(
                self.client.submit_job(
                    entrypoint=command.entrypoint,
                    submission_id=f"ray-st-{command.verb}-{uuid.uuid4().hex[:8]}",
                    runtime_env=dict(env),
                    metadata={_VERB: command.verb, **out},
                    entrypoint_num_gpus=gpus or None,
                )
            )

        return str(self._asked(send))

    def followed(self, job_id: str, write: Callable[[str], None]) -> JobDetails:
        """Write a job's log as it grows; returns the job once it has ended.

        A connection that breaks is made again, and what stands written is not written twice.
        """
        log, heard = _Log(write=write), time.monotonic()
        while True:
            with suppress(OSError, RuntimeError, *_http_errors()):
                asyncio.run(log.tail(self.client, job_id))
                heard = time.monotonic()
            try:
                job = self.client.get_job_info(job_id)
            except (OSError, RuntimeError) as error:
                if time.monotonic() - heard > _PATIENCE_S:
                    raise self._silent(error, f"; job {job_id} may go on there") from error
            else:
                heard = time.monotonic()
                if job.status.is_terminal():
                    return job
            time.sleep(_PAUSE_S)

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (AuthenticationError, OSError, RuntimeError) as error:
            raise self._refused(error) from error

    def _silent(self, error: Exception, more: str = "") -> UserError:
        reason = " ".join(str(error).split())
        return UserError(
            f"address: nothing answers at {self.address!r} ({reason}){more}; check the tunnel to "
            "the head's dashboard, `ssh -L 8265:127.0.0.1:8265 HEAD`"
        )

    def _refused(self, error: Exception) -> UserError:
        text = " ".join(str(error).split())
        if isinstance(error, AuthenticationError):
            return UserError(
                f"address: the Ray cluster at {self.address!r} wants its token, and has been sent "
                "none or another; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the token of the "
                "cluster"
            )
        if "ray[default]" in text:
            return UserError(f"submit: {text}, or ray-st[cluster]")
        return UserError(f"address: {self.address!r} answers: {text}")


def outcome(job: JobDetails) -> tuple[int, str]:
    """Exit status of a job that has ended, and how it ended in words."""
    if job.status == "SUCCEEDED":
        return 0, "succeeded"
    code = job.driver_exit_code or 1
    status = code if code > 0 else 128 - code  # ended by a signal
    if job.status == "STOPPED":
        return status, "was stopped; the same command goes on from here"
    why = "" if job.driver_exit_code else f": {' '.join((job.message or '').split())}"
    return status, f"failed with status {status}{why}"


@dataclass(kw_only=True)
class _Log:
    """What of a log stands written: each connection begins at the log's first letter."""

    write: Callable[[str], None]
    written: int = 0

    async def tail(self, client: JobSubmissionClient, job_id: str) -> None:
        """Write what is new, until the log ends or the connection breaks."""
        passed = 0
        async for text in client.tail_job_logs(job_id):
            new = text[max(0, self.written - passed) :]
            passed += len(text)
            if new:
                self.write(new)
                self.written = passed


def _http_errors() -> Sequence[type[Exception]]:
    import aiohttp

    return (aiohttp.ClientError,)
