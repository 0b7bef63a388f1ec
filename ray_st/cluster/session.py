"""The way to a cluster: a local one for debugging, or the one that is there.

In: `--address`. Out: a connection that ends with the block. Next: `working_dir.py`.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from ray_st.config import UserError
from ray_st.nodes import require_some
from ray_st.ray_compat import quieten, wait_for_batching

# Ray counts cores to decide what may start; it does not pin. On a laptop an actor pool, its readers
# and a trainer must be able to start side by side, or they wait for each other for ever.
_LEAST_LOCAL_CPUS = 8
GROWS_TO = "RAY_ST_GROWS_TO"  # what all nodes of an autoscaled cluster have; set for its head
_SET_TOKEN = (
    "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the token of the cluster or "
    "RAY_AUTH_TOKEN_PATH to a file that holds it"
)
_CONNECT_S = 10
_ASK_S = 5
# What a cluster answers without looking, unless it wants a token first: its head, and the server of
# ray:// (a ping, as protobuf).
_QUESTIONS = {
    False: ("/ray.rpc.NodeInfoGcsService/GetClusterId", b""),
    True: ("/ray.rpc.RayletDriver/ClusterInfo", b"\x08\x06"),
}


@contextmanager
def connected(address: str | None) -> Iterator[str | None]:
    """Hold a connection to Ray; gives the address of its dashboard, of a cluster that has one.

    Args:
        address: `local` starts Ray on this machine for the length of the block; `auto` or an
            address joins a cluster. None: `auto` inside a job, else `local`.
    """
    found = os.environ.get("RAY_ADDRESS", address) if address in (None, "auto") else address
    unset = "" if found == address else "unset RAY_ADDRESS and "
    here = f"{unset}leave --address out to run on this machine"
    _require_listener(found, here)
    wants_token = _wants_token(found)
    if wants_token and not _has_token():
        raise _no_token(found)
    address = address or ("auto" if in_job() else "local")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    dashboard = None
    try:
        if address == "local":
            ray.init(address="local", num_cpus=local_cpus(), include_dashboard=False, **quiet)
        else:
            dashboard = _dashboard(ray.init(address=address, **quiet))
    except ray.exceptions.AuthenticationError as error:
        raise _no_token(found or address) from error
    except ConnectionError as error:
        if wants_token:
            raise _no_token(found) from error
        raise UserError(
            f"address: no Ray cluster answers at {found or address!r}; start one with `ray start "
            f"--head`, {_SET_TOKEN} if it wants one, or {here}"
        ) from error
    quieten()
    try:
        yield dashboard
    finally:
        wait_for_batching()
        ray.shutdown()


def _dashboard(context: Any) -> str | None:
    """Where a browser finds it, from a node of the cluster."""
    found = getattr(context, "dashboard_url", None)
    if not found:
        return None
    return str(found) if "://" in found else f"http://{found}"


def in_job() -> bool:
    """Whether there is a cluster that this process is a job of."""
    return "RAY_JOB_ID" in os.environ or "RAY_ADDRESS" in os.environ


def local_cpus() -> int:
    """Cores that a Ray on this machine is told of; perhaps more than there are."""
    return max(_LEAST_LOCAL_CPUS, os.cpu_count() or 1)


def _require_listener(address: str | None, here: str) -> None:
    """Refuse HOST:PORT where nothing listens: Ray itself would try for minutes.

    `here`: how to do without a cluster.
    """
    found = _host_and_port(address)
    if found is None:
        return
    try:
        socket.create_connection(found, timeout=_CONNECT_S).close()
    except OSError as error:
        raise UserError(
            f"address: nothing answers at {address!r} ({error}); check host, port and tunnel, "
            f"or {here}"
        ) from error


def _host_and_port(address: str | None) -> tuple[str, int] | None:
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    return (host, int(port)) if host and port.isdigit() else None


def _wants_token(address: str | None) -> bool:
    """Ask HOST:PORT without a token: Ray itself would try for half a minute, and not say why."""
    found = _host_and_port(address)
    try:
        import grpc  # comes with ray[default] and ray[client], which a cluster has
    except ImportError:
        return False
    if address is None or found is None:
        return False
    method, question = _QUESTIONS[address.startswith("ray://")]
    try:
        with grpc.insecure_channel("{}:{}".format(*found)) as channel:
            channel.unary_unary(method)(question, timeout=_ASK_S)
    except grpc.RpcError as error:
        return bool(error.code() == grpc.StatusCode.UNAUTHENTICATED)
    return False


def _has_token() -> bool:
    """Whether there is one that Ray would send."""
    named = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    held = named or (Path.home() / ".ray" / "auth_token").exists()
    return held and os.environ.get("RAY_AUTH_MODE", "").lower() != "disabled"


def _no_token(address: str | None) -> UserError:
    return UserError(
        f"address: the Ray cluster at {address!r} wants its token, and has been sent none or "
        f"another; {_SET_TOKEN}"
    )


def resources() -> dict[str, float]:
    """Cores and accelerators of the whole cluster, as `placement` takes them.

    An autoscaled cluster counts with all nodes that it may start, where its files say so.
    """
    found = {**ray.cluster_resources(), **_grows_to()}
    return {"cpus": float(found.get("CPU", 0)), "gpus": float(found.get("GPU", 0))}


def require_nodes(**nodes: Sequence[str]) -> None:
    """Refuse labels that no node has; the names are those of sections: `label=config.nodes`.

    A cluster that may grow is asked for nothing: nodes with those labels may come.
    """
    if _grows_to():
        return
    found = [node["Labels"] for node in ray.nodes() if node["Alive"]]
    for section, wanted in nodes.items():
        require_some(wanted, f"{section}.nodes", found)


def _grows_to() -> dict[str, float]:
    """Ray does not tell a job what its autoscaler may start: the files of a cluster do."""
    text = os.environ.get(GROWS_TO, "")
    try:
        pairs = [each.split("=") for each in filter(None, text.split(","))]
        return {kind: float(count) for kind, count in pairs}
    except ValueError as error:
        raise UserError(
            f"{GROWS_TO}: must be such as 'CPU=512,GPU=40', got {text!r}; mend it where the head "
            "is started (clusters/README.md)"
        ) from error


def node_memory_bytes() -> list[int]:
    """Memory that each node of the cluster has for processes, the object store left out."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [int(each["memory"]) for each in nodes if "memory" in each]
