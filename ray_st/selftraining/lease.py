"""One ray-st a folder: a lock of the system's here, a lease that is renewed in a bucket.

In: a folder or a bucket's prefix. Out: it is ours for the length of a block, or one line that says
whose it is; or, for who only looks, who holds it. Next: `record.py`.
"""

from __future__ import annotations

import fcntl
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ray_st.config import UserError
from ray_st.data import storage

LOCK = ".lock"
_BEAT_S = 5.0
_SILENCE_S = 16.0  # of a holder, before it is taken for dead: three beats
_INSTANT_S = 0.5
_SKEW_S = 30.0  # that the clocks of a bucket and of who looks at it may differ by
_SETTLE_S = 1.0  # for two who take over at once, to see who was last


@contextmanager
def held(out: str) -> Iterator[None]:
    """Keep every other process out; its holder's death sets it free, in a bucket after a while."""
    with _leased(out) if storage.is_remote(out) else _locked(out):
        yield


def holder(out: str) -> str | None:
    """Who works in a folder (HOST:PID, or "somebody"); None for nobody. Nothing is written.

    In a bucket that is whoever renewed a lease lately: one killed half a minute ago still counts.
    """
    if storage.is_remote(out):
        return _lessee(out)
    try:
        with Path(storage.join(storage.absolute(out), LOCK)).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read() or "somebody"
    except OSError:  # nobody ever did, or it is not ours to read
        return None
    return None


def _lessee(out: str) -> str | None:
    found = [info for info in storage.listed(out) if info.base_name == LOCK]
    if not found or time.time() - found[0].mtime_ns / 1e9 > _SILENCE_S + _SKEW_S:
        return None
    name = (_read(storage.join(out, LOCK)) or "").partition(" ")[0]
    return name.rpartition(":")[0] or None  # without the part that makes it unique


@contextmanager
def _locked(out: str) -> Iterator[None]:
    with Path(storage.join(storage.absolute(out), LOCK)).open("a+") as lock:
        if not _won(lock):
            lock.seek(0)
            raise _taken(out, lock.read())
        lock.truncate(0)
        lock.write(f"{platform.node()}:{os.getpid()}")
        lock.flush()
        yield


def _won(lock: TextIO) -> bool:
    """Take the lock; whoever only looks holds it for an instant, which is waited for."""
    until = time.monotonic() + _INSTANT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(_INSTANT_S / 20)
        else:
            return True


@contextmanager
def _leased(out: str) -> Iterator[None]:
    """A bucket locks nothing: an object that changes every few seconds says that somebody lives."""
    uri = storage.join(out, LOCK)
    name = f"{platform.node()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    _require_silence(out, uri)
    storage.put(uri, f"{name} 0".encode())
    time.sleep(_SETTLE_S)
    if (holder := _read(uri)) is None or holder.split()[0] != name:
        raise _taken(out, holder or "")
    ended = threading.Event()

    def beat() -> None:
        beats = 0
        while not ended.wait(_BEAT_S):
            beats += 1
            try:
                storage.put(uri, f"{name} {beats}".encode())
            except OSError:  # the next beat may come through; the work itself will say
                continue

    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        storage.remove(uri)


def _require_silence(out: str, uri: str) -> None:
    """Refuse where a lease is renewed; one that nobody renews costs a wait."""
    first, until = _read(uri), time.monotonic() + _SILENCE_S
    while first is not None and time.monotonic() < until:
        time.sleep(_BEAT_S / 5)
        if (now := _read(uri)) != first:
            if now is None:
                return
            raise _taken(out, now)


def _read(uri: str) -> str | None:
    try:
        return storage.read(uri).decode("utf-8", "replace") if storage.exists(uri) else None
    except FileNotFoundError:  # given back between two questions
        return None


def _taken(out: str, holder: str) -> UserError:
    who = f" ({holder.split()[0]})" if holder else ""
    return UserError(
        f"out: another ray-st works in {out}{who}; wait until it ends, or pass another --out"
    )
