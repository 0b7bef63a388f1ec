"""A real S3 endpoint on loopback, in a process of its own: moto's server, stopped by its pid."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from head import free_ports
from pyarrow import fs

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "anybody",
    "AWS_SECRET_ACCESS_KEY": "anything",
    "AWS_EC2_METADATA_DISABLED": "true",  # else a client asks the cloud who it is
}
_START_S = 60


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the server listens; `options` end every URI of its buckets."""

    address: str  # HOST:PORT

    @property
    def options(self) -> str:
        return f"?endpoint_override={self.address}&scheme=http&region=us-east-1"

    def uri(self, path: str) -> str:
        return f"s3://{path}{self.options}"

    def filesystem(self) -> fs.FileSystem:
        return fs.S3FileSystem(
            access_key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            secret_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=self.address,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )

    def upload(self, folder: Path, path: str) -> None:
        """Copy the files of a folder."""
        filesystem = self.filesystem()
        for file in sorted(folder.iterdir()):
            with filesystem.open_output_stream(f"{path}/{file.name}") as stream:
                stream.write(file.read_bytes())


@contextmanager
def s3_server(folder: Path) -> Iterator[Endpoint]:
    """Run the server for the length of the block, with an empty bucket `pools`."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    endpoint = Endpoint(address=f"127.0.0.1:{port}")
    try:
        _wait(endpoint, process, folder / "s3.log")
        endpoint.filesystem().create_dir("pools")
        yield endpoint
    finally:
        process.terminate()
        process.wait()


def _wait(endpoint: Endpoint, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://{endpoint.address}/moto-api/", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@contextmanager
def credentials() -> Iterator[None]:
    """The credentials in this process's environment, for the length of the block."""
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
