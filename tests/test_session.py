"""The way to a cluster: what is refused at once, instead of after Ray's own long tries."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from head import Head, free_ports, ray_head

from ray_st.cluster.session import connected
from ray_st.config import UserError

SECONDS = 8  # Ray itself tries for 20 and more


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # Ray's sockets stand in its folder, and their paths may have 107 characters at most.
    with (
        tempfile.TemporaryDirectory(prefix="ray_head_") as folder,
        ray_head(Path(folder), num_cpus=2) as head,
    ):
        _, _, port = head.client_address.rpartition(":")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", int(port))) == 0:
                    break
            time.sleep(0.2)
        yield head


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # which holds no .ray/auth_token
    for name in [name for name in os.environ if name.startswith("RAY_AUTH_")]:
        monkeypatch.delenv(name)


def refused(address: str | None) -> str:
    begun = time.monotonic()
    with pytest.raises(UserError) as caught, connected(address):
        pass
    assert time.monotonic() - begun < SECONDS
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.cluster
@pytest.mark.usefixtures("no_token")
@pytest.mark.parametrize("mode", [None, "disabled", "token"])
def test_a_cluster_that_wants_a_token_and_gets_none(
    head: Head, monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    for address in (head.gcs_address, head.client_address):
        line = refused(address)
        assert line.startswith(f"address: the Ray cluster at {address!r} wants its token, ")
        assert "; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN " in line


@pytest.mark.cluster
@pytest.mark.usefixtures("no_token")
@pytest.mark.parametrize("address", [None, "auto"])
def test_a_cluster_named_by_the_environment_that_wants_a_token(
    head: Head, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", head.gcs_address)
    line = refused(address)
    assert line.startswith(f"address: the Ray cluster at {head.gcs_address!r} wants its token, ")
    assert "; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN " in line


@pytest.mark.cluster
def test_a_cluster_that_is_sent_its_token(head: Head) -> None:
    # In a process of its own: Ray reads its settings once a process.
    environment = {**head.environment, "PYTHONPATH": os.environ["PYTHONPATH"]}
    code = (
        "import sys; from ray_st.cluster.session import connected, node_memory_bytes, resources\n"
        "with connected(sys.argv[1]):\n"
        "    print(resources(), [memory > 10**8 for memory in node_memory_bytes()])"
    )
    words = [sys.executable, "-c", code, head.gcs_address]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "{'cpus': 2.0, 'gpus': 0.0} [True]\n", done.stderr


GROWN = """
import sys
from ray_st.cluster.session import connected, require_nodes, resources
from ray_st.config import UserError

with connected(sys.argv[1]):
    try:
        print(resources())
        require_nodes(label=(), train=("pool=student",))
        print("such nodes may come")
    except UserError as error:
        print(error)
"""


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("grows_to", "said"),
    [
        (
            "",
            ["{'cpus': 2.0, 'gpus': 0.0}", "train.nodes: no node of the cluster has pool=student"],
        ),
        ("CPU=99,GPU=7", ["{'cpus': 99.0, 'gpus': 7.0}", "such nodes may come"]),
        ("GPU=7", ["{'cpus': 2.0, 'gpus': 7.0}", "such nodes may come"]),
        ("7 GPUs", ["RAY_ST_GROWS_TO: must be such as 'CPU=512,GPU=40', got '7 GPUs'; mend it "]),
    ],
)
def test_what_a_cluster_may_grow_to(head: Head, grows_to: str, said: list[str]) -> None:
    environment = {**head.environment, "PYTHONPATH": os.environ["PYTHONPATH"]}
    environment["RAY_ST_GROWS_TO"] = grows_to
    words = [sys.executable, "-c", GROWN, head.gcs_address]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line[: len(each)] for line, each in zip(lines, said, strict=True)] == said


@pytest.mark.pure
@pytest.mark.usefixtures("no_token")
def test_what_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    assert refused(f"127.0.0.1:{port}").startswith(
        f"address: nothing answers at '127.0.0.1:{port}'"
    )
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    line = refused(None)
    assert line.startswith(f"address: nothing answers at '127.0.0.1:{port}'")
    assert line.endswith(", or unset RAY_ADDRESS and leave --address out to run on this machine")
    assert refused(f"ray://127.0.0.1:{port}").startswith("address: nothing answers at 'ray://")
