"""Credentials have no place in a recipe: what is written there is saved, printed and passed on.

In: texts that a user or a data set wrote. Out: nothing, or one line of refusal in which the secret
does not stand. Next: `flags.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ray_st.config import UserError

# What the name of an option ends in, behind words of its own: client_secret, x-amz-signature.
_NAMES = (
    "secret|token|password|passwd|pwd|sig|signature|credentials?|awsaccesskeyid|"
    "(?:api|access|account|secret)[_-]?key(?:[_-]?id)?"
)
_SECRET = re.compile(
    # s3://KEY:SECRET@bucket; a secret may hold / and @, so only a port (host:80/...) ends it.
    r"(?<=://)[^/@\s:]*:(?!\d*/)[^\s]+(?=@)"
    r"|(?<=https://)[^/@\s]+(?=@)|(?<=http://)[^/@\s]+(?=@)"  # https://TOKEN@host
    rf"|(?<=[?&])(?P<option>(?:[\w-]*[_-])?(?:{_NAMES}))=[^&\s]*",  # ...?sig=...
    re.IGNORECASE,
)
_MOVE = "leave it out; credentials come from the environment, a profile or a role"


def holds_secret(text: str) -> bool:
    """Whether a text is a URI with a password, a key or a signature in it."""
    return "://" in text and _SECRET.search(text) is not None


def masked(text: str) -> str:
    """The same with *** in its place."""

    def mask(found: re.Match[str]) -> str:
        return f"{found['option']}=***" if found["option"] else "***"

    return _SECRET.sub(mask, text) if "://" in text else text


def require_no_secret(values: Mapping[str, Any]) -> None:
    """Refuse a credential anywhere in nested values. Raises `UserError`."""
    for path, text in _texts(values):
        if holds_secret(text):
            raise UserError(f"{path}: must hold no credentials, got {masked(text)!r}; {_MOVE}")


def require_plain_uri(uri: str, where: str) -> None:
    """Refuse a credential in what a data set names, which would stand in every row."""
    if holds_secret(uri):
        raise UserError(
            f"{where}: must name images without credentials, got {masked(uri)}; {_MOVE}"
        )


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(each, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for i, each in enumerate(value):
            yield from _texts(each, f"{path}[{i}]")
    elif isinstance(value, str):
        yield path, value
