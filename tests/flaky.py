"""An S3 endpoint that fails at times: it passes requests on, or answers for the one behind it."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bucket import Endpoint

_WRITES = ("PUT", "POST", "DELETE")
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>by chance</Message></Error>"
# What a write may meet: an answer of the server's own, no answer, or one that is lost on its way
# back from a write that was done.
FAULTS = {"slow": (503, "SlowDown"), "broken": (500, "InternalError"), "cut": None, "lost": None}
_ANSWERS = {**FAULTS, "denied": (403, "AccessDenied")}  # the last is never tried again


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Of the writes from one on, so many may fail, a share of them do, for seeded reasons."""

    first: int
    length: int
    share: float
    seed: int

    def __call__(self, write: int, verb: str, path: str) -> str | None:
        chance = random.Random(f"{self.seed} {write}")
        hit = self.first <= write < self.first + self.length and chance.random() < self.share
        return chance.choice(list(FAULTS)) if hit else None


def nothing(write: int, verb: str, path: str) -> str | None:
    return None


@dataclass
class Way:
    """The endpoint as clients see it; `failing` says what the next write will meet."""

    behind: str  # HOST:PORT
    failing: Callable[[int, str, str], str | None] = nothing
    writes: int = 0
    failed: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, failing: Callable[[int, str, str], str | None]) -> None:
        """Count from zero, and fail so."""
        with self._lock:
            self.failing, self.writes, self.failed = failing, 0, []

    def meets(self, verb: str, path: str) -> str | None:
        if verb not in _WRITES:
            return None
        with self._lock:
            fault = self.failing(self.writes, verb, path)
            self.writes += 1
            if fault is not None:
                self.failed.append(f"{fault} {verb} {path.partition('?')[0]}")
            return fault


@contextmanager
def flaky(endpoint: Endpoint) -> Iterator[tuple[Endpoint, Way]]:
    """Stand before an endpoint for the length of the block."""
    way = Way(endpoint.address)

    class Passing(_Passing):
        to = way

    server = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield Endpoint(address=f"127.0.0.1:{server.server_port}"), way
    finally:
        server.shutdown()
        server.server_close()


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    to: Way

    def _pass(self) -> None:
        body = self._body()
        fault = self.to.meets(self.command, self.path)
        if fault in ("cut", "lost"):
            if fault == "lost":
                self._ask(body)
            self.close_connection = True  # without a word
            return
        status, headers, found = self._told(fault) if fault else self._ask(body)
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in (*_HOP, "server", "date"):
                self.send_header(name, value)
        length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else len(found)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(found)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        asked = http.client.HTTPConnection(self.to.behind, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        asked.request(self.command, self.path, body, headers)
        answer = asked.getresponse()
        found = answer.read()
        asked.close()
        return answer.status, answer.getheaders(), found

    def _told(self, fault: str) -> tuple[int, list[tuple[str, str]], bytes]:
        told = _ANSWERS[fault]
        assert told is not None
        status, code = told
        return status, [("Content-Type", "application/xml")], _ERROR.format(code).encode()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
