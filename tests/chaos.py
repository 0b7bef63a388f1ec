"""Faults at seeded moments of a labelling: what strikes, when, and whom; a cluster that can be hit.

A moment is a share of the images that stand in the store, not a time: it means the same on a slow
machine. Only processes of the cluster's own, by their ids, and the driver's group are killed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray._private.authentication_test_utils import reset_auth_token_state
from ray.cluster_utils import Cluster

ROOT = Path(__file__).parents[1]
KINDS = ("driver", "actor", "worker", "node", "writes")  # five seeds in a row meet them all
TEACHER = "ray::MapWorker(MapBatches(TeacherActor))"
_NODES, _CPUS, _STORE_BYTES, _MEMORY_BYTES = 2, 3, 80 << 20, 4 << 30
_POLL_S = 0.01
_DRIVER_S = 200
# Ray's own actors are Ray's to test; agents belong to a node and go with it.
_RAYS_OWN = ("ActorLocationTracker", "_AutoscalingCoordinatorActor", "_StatsActor",
             "_UsageCollectionActor", "DashboardAgent", "RuntimeEnvAgent")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What a seed stands for."""

    seed: int
    kind: str
    share: float  # of all images; that many stand, at least, when it strikes; 0: as soon as it can
    victim: float  # which of those who could be hit, 0 to 1

    @classmethod
    def of(cls, seed: int) -> Fault:
        chance = random.Random(seed)
        share = max(0.0, chance.uniform(-0.15, 0.9))  # some strike while actors start
        return cls(seed=seed, kind=KINDS[seed % len(KINDS)], share=share, victim=chance.random())

    def chosen(self, some: list[Any]) -> Any:
        return some[int(self.victim * len(some))]


@dataclass
class Driver:
    """`ray-st` in a process group of its own."""

    flags: list[str]
    log: Path
    environment: Mapping[str, str] | None = None  # None: that of this process
    _process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "ray_st", *self.flags]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        if self.is_running:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def status(self) -> int:
        """Its exit status; one that hangs is killed, and fails the test."""
        try:
            return self._process.wait(timeout=_DRIVER_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {_DRIVER_S} s: {self.said()}") from None
        finally:
            self.kill()

    def said(self) -> str:
        return self.log.read_text()[-6000:]

    def waits_for(self, what: Callable[[], Any]) -> Any:
        """What something gives once it gives anything; None if the driver was done before."""
        until = time.monotonic() + _DRIVER_S
        while not (found := what()):
            if not self.is_running:
                return None
            if time.monotonic() > until:
                self.kill()
                raise AssertionError(f"no such moment in {_DRIVER_S} s: {self.said()}")
            time.sleep(_POLL_S)
        return found


class Machines:
    """A head without cores, and nodes that can be killed."""

    def __init__(self) -> None:
        # Its processes are ended below, by their ids; Ray's own hook at exit wants signal handlers.
        self._cluster = Cluster()
        sizes = {"object_store_memory": _STORE_BYTES, "include_dashboard": False}
        self._cluster.add_node(num_cpus=0, **sizes)
        for _ in range(_NODES):
            self.add_node()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add_node(self) -> None:
        self._cluster.add_node(
            num_cpus=_CPUS, object_store_memory=_STORE_BYTES, memory=_MEMORY_BYTES
        )

    def kill_node(self, fault: Fault) -> None:
        """Kill a node that is not the head, with all that runs on it."""
        self._kill(fault.chosen(sorted(self._cluster.worker_nodes, key=_raylet)))

    def kill_node_of(self, pid: int) -> None:
        """Kill the node that a process runs on."""
        (node,) = (each for each in self._cluster.worker_nodes if pid in children(_raylet(each)))
        self._kill(node)

    def _kill(self, node: Any) -> None:
        for pid in children(_raylet(node)):
            kill(pid)
        self._cluster.remove_node(node, allow_graceful=False)

    def processes(self, wanted: Callable[[str], bool]) -> list[tuple[int, str]]:
        """Ids and names of workers, of all nodes, whose name is wanted."""
        raylets = [_raylet(node) for node in self._cluster.list_all_nodes()]
        named = [(pid, _name(pid)) for raylet in raylets for pid in children(raylet)]
        return sorted((pid, name) for pid, name in named if wanted(name))

    def shutdown(self) -> None:
        self._cluster.shutdown()


def is_teacher(name: str) -> bool:
    return name.startswith(TEACHER)


def is_worker(name: str) -> bool:
    """Whoever reads, writes, counts or waits for work."""
    own = name.removeprefix("ray::").startswith(_RAYS_OWN)
    return name.startswith("ray::") and not is_teacher(name) and not own


def kill(pid: int) -> bool:
    """Kill a process; False if it was gone before."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def machines() -> Iterator[Machines]:
    """Run a cluster that only those who know its token can join, for the length of the block."""
    names = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(24).hex()}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    reset_auth_token_state()  # this process has read them when it loaded Ray
    cluster = None
    try:
        cluster = Machines()
        yield cluster
    finally:
        if cluster is not None:
            cluster.shutdown()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        reset_auth_token_state()


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(one) for task in tasks for one in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0].strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
