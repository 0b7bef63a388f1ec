"""A Ray head of one's own: free ports, a token, its own folder, stopped by its pid."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fake_cloud import Cloud

_START_S = 120


@dataclass(frozen=True, kw_only=True)
class Head:
    """Where it listens, and the environment in which its clients must run."""

    dashboard_url: str
    gcs_address: str
    client_address: str  # ray://; its server is up some seconds after the rest
    environment: dict[str, str]
    pid: int

    def asked(self, path: str) -> Any:
        """What its dashboard tells, as `ray list` asks it."""
        bearer = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        request = urllib.request.Request(f"{self.dashboard_url}/api/{path}", headers=bearer)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def listed(self, kind: str) -> Any:
        """All of a kind: nodes, actors."""
        return self.asked(f"v0/{kind}?detail=1&limit=1000")["data"]["result"]["result"]


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def ray_head(
    folder: Path, *, num_cpus: int, labels: str = "", cloud: Cloud | None = None
) -> Iterator[Head]:
    """Run `ray start --head` for the length of the block.

    `labels`: KEY=VALUE of the node. `cloud`: where it gets more nodes from, as it needs them.
    """
    port, dashboard, client, agent = free_ports(4)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": os.urandom(24).hex(),
    }
    command = [
        "ray", "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
        "--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", f"--num-cpus={num_cpus}",
        f"--temp-dir={folder}", "--disable-usage-stats", f"--labels={labels}",
    ]  # fmt: skip
    if cloud is not None:
        environment |= cloud.environment
        command.append(f"--autoscaling-config={cloud.written(folder, f'127.0.0.1:{port}')}")
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment if cloud is None else environment | cloud.of_head,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{dashboard}"
        _wait_for(f"{url}/api/version", process, folder / "head.log")
        yield Head(
            dashboard_url=url,
            gcs_address=f"127.0.0.1:{port}",
            client_address=f"ray://127.0.0.1:{client}",
            environment=environment,
            pid=process.pid,
        )
    finally:
        _stop(process)


@contextmanager
def ray_worker(head: Head, folder: Path, *, num_cpus: int, labels: str = "") -> Iterator[None]:
    """Run a second node for the length of the block."""
    (agent,) = free_ports(1)
    command = [
        "ray", "start", f"--address={head.gcs_address}", "--block", "--node-ip-address=127.0.0.1",
        f"--num-cpus={num_cpus}", f"--dashboard-agent-listen-port={agent}",
        "--disable-usage-stats", f"--labels={labels}",
    ]  # fmt: skip
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=head.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        _stop(process)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):  # it is up, and wants the token
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"no head after {_START_S} s: {log.read_text()}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the head and all that it started: they share its process group."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue
