"""A file that a user names, here or in a bucket: whether it stands, and what it holds.

In: a path or URI, and the flag that named it. Out: bytes, or `UserError` where storage cannot be
asked: a wrong scheme, no access. Next: `saved.py`.
"""

from __future__ import annotations

from ray_st.config import UserError
from ray_st.data import storage


def stands(uri: str, what: str) -> bool:
    """Whether a file (not a folder) stands there; `what` opens the error of who cannot look."""
    try:
        return storage.exists(uri)
    except (OSError, ValueError) as error:
        raise unreadable(uri, what, error) from error


def read_file(uri: str, what: str) -> bytes:
    """Read a file whole; raises as `stands` does."""
    try:
        return storage.read(uri)
    except (OSError, ValueError) as error:
        raise unreadable(uri, what, error) from error


def unreadable(uri: str, what: str, error: Exception) -> UserError:
    """What to raise in place of an error of storage."""
    reason = " ".join(str(error).split())
    return UserError(f"{what}: {uri} cannot be read ({reason}); check the path and your access")
