"""Values of files that may be damaged, or another program's: as they must be, or nothing.

In: what JSON or YAML gave. Out: a count, a number, a section, lines. Next: `files.py`.
"""

from __future__ import annotations

from typing import Any

_MOST = 1e18  # a time, a count; above it nothing of ours lies, and sums would overflow


def number(value: object) -> float | None:
    """A number from 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < _MOST else None


def count(value: object) -> int | None:
    """A whole number from 0."""
    return value if isinstance(value, int) and number(value) is not None else None


def section(value: object) -> dict[str, Any]:
    """A mapping of names; empty where it is none."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """A list; empty where it is none."""
    return value if isinstance(value, list) else []


def texts(value: object) -> list[str]:
    """The lines of a list."""
    return [each for each in items(value) if isinstance(each, str)]
