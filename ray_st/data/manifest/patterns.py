"""Globs: which names below a folder are meant, and which folders can hold such names.

In: a path or URI with wildcards, as shells know them: `*`, `?` and `[a-z]` within a name, `**` for
any number of folders. Out: `Pattern`. Next: `listing.py`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ray_st.data import storage

_WILDCARDS = re.compile(r"[*?\[]")
_ANY_DEPTH = None


@dataclass(frozen=True)
class Pattern:
    """The folder above the first wildcard, and what follows it, a part a name; None is `**`."""

    root: str
    parts: tuple[re.Pattern[str] | None, ...]

    def keeps(self, name: str) -> bool:
        """Say whether a file of this relative name is meant."""
        return _matches(self.parts, name.split("/"))

    def enters(self, folder: str) -> bool:
        """Say whether a folder of this relative name can hold what is meant."""
        return _leads_on(self.parts, folder.split("/"))


def has_wildcards(uri: str) -> bool:
    """Say whether a path or URI is a glob; in `?region=x` nothing is."""
    return _WILDCARDS.search(storage.split_options(uri)[0]) is not None


def parse(uri: str) -> Pattern:
    """Read a glob; `uri` is absolute."""
    body, options = storage.split_options(uri)
    scheme, mark, rest = body.partition("://") if storage.is_remote(body) else ("", "", body)
    names = rest.split("/")
    # Bucket names cannot have wildcards; a local path begins with an empty name.
    first = next((i for i in range(1, len(names)) if _WILDCARDS.search(names[i])), len(names))
    root = "/".join(names[:first]) or "/"
    return Pattern(f"{scheme}{mark}{root}{options}", tuple(map(_part, names[first:])))


def below(folder: str, last: str) -> Pattern:
    """Take files of any depth below a folder, whose name is of the form `last`, such as `*.tar`."""
    return Pattern(folder, (_ANY_DEPTH, _part(last)))


def _part(name: str) -> re.Pattern[str] | None:
    return _ANY_DEPTH if name == "**" else re.compile(fnmatch.translate(name))


def _matches(parts: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] is _ANY_DEPTH:
        return _matches(parts[1:], names) or (bool(names) and _matches(parts, names[1:]))
    return bool(names) and bool(parts[0].match(names[0])) and _matches(parts[1:], names[1:])


def _leads_on(parts: Sequence[re.Pattern[str] | None], folders: Sequence[str]) -> bool:
    if not folders or not parts:
        return bool(parts)
    if parts[0] is _ANY_DEPTH:
        return True
    return bool(parts[0].match(folders[0])) and _leads_on(parts[1:], folders[1:])
