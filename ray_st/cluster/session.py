"""The way to a cluster: a local one for debugging, or the one that is there.

In: `--address`. Out: a connection that ends with the block. Next: `ray_st.verbs`.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from ray_st.config import UserError

# Ray counts cores to decide what may start; it does not pin. On a laptop an actor pool, its readers
# and a trainer must be able to start side by side, or they wait for each other for ever.
_LEAST_LOCAL_CPUS = 8
_CONNECT_S = 10


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Hold a connection to Ray.

    Args:
        address: `local` starts Ray on this machine for the length of the block; `auto` or an
            address joins a cluster. None: `auto` inside a job, else `local`.
    """
    _require_listener(address)
    inside_job = "RAY_JOB_ID" in os.environ or "RAY_ADDRESS" in os.environ
    address = address or ("auto" if inside_job else "local")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == "local":
            cpus = max(_LEAST_LOCAL_CPUS, os.cpu_count() or 1)
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except ConnectionError as error:
        raise UserError(
            f"address: no Ray cluster answers at {address!r}; start one with `ray start --head`, "
            "or leave --address out to run on this machine"
        ) from error
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It says that Ray's bars are off, and how to turn them on; ours show the same.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str | None) -> None:
    """Refuse HOST:PORT where nothing listens: Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise UserError(
            f"address: nothing answers at {address!r} ({error}); check host, port and tunnel, "
            "or leave --address out to run on this machine"
        ) from error


def resources() -> dict[str, float]:
    """Cores and accelerators of the whole cluster, as `placement` takes them."""
    found = ray.cluster_resources()
    return {"cpus": float(found.get("CPU", 0)), "gpus": float(found.get("GPU", 0))}
