"""Plain values <-> frozen dataclasses, strictly: every mistake is one line that names the field.

In: a mapping and a dataclass. Out: that dataclass, or `UserError`. cattrs is imported on first use.
A default lives on its field: a section named in part takes the rest from its own fields.
Types: `strict.py`. Next: `recipe.py` (YAML), `flags.py` (the command line).
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

from ray_st.strict import converter, init_fields, section_of

T = TypeVar("T")


class UserError(ValueError):
    """What a user wrote is wrong: one line with field or file, rule, value and next move."""


def require(condition: bool, field: str, rule: str, got: object, hint: str = "") -> None:  # noqa: FBT001 - reads as `assert` does
    """Raise `UserError` unless `condition`; `field` is the dotted name, such as "train.alpha"."""
    if not condition:
        raise UserError(f"{field}: must be {rule}, got {got!r}" + (f"; {hint}" if hint else ""))


def as_dict(config: object) -> dict[str, Any]:
    """Field names -> plain values that JSON and YAML can hold; tuples become lists."""
    plain = _plain(config)
    assert isinstance(plain, dict), "a config is a dataclass"
    return plain


def from_dict(schema: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Plain values -> `schema`; `where` (a file) opens the error line."""
    config: T = convert(schema, mapping, where=where)
    return config


def convert(
    kind: Any,
    value: object,
    *,
    where: str = "",
    path: str = "",
    flags: Collection[str] | None = None,
) -> Any:
    """Give a plain value its type; errors open with `where` (a file) and `path` (dotted name).

    `flags`: dotted names that flags have set over the file, for those errors are not the file's;
    unless None, a missing field may be given as a flag, and the error says so.
    """
    structure = converter().get_structure_hook(kind)  # a schema that cannot work is our own bug
    try:
        return structure(value, kind)
    except Exception as error:  # whatever cattrs or a __post_init__ found
        raise _explained(error, where, path, [*_under(path, kind)], flags=flags) from error


def paths(schema: type) -> dict[str, Any]:
    """Dotted name -> type of every field and every section, in order; `a` stands before `a.b`."""
    hints, found = get_type_hints(schema), {}
    for field in init_fields(schema):
        found[field.name] = hints[field.name]
        found.update(_under(field.name, hints[field.name]))
    return found


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known dotted name most like `name`: the same last word first, then spelling."""
    names, last = [*known], name.rpartition(".")[2]
    same = [each for each in names if each.rpartition(".")[2] == last]
    return next(iter(difflib.get_close_matches(name, same or names, 1, 0.0 if same else 0.6)), None)


def some_of(values: Sequence[object], most: int) -> str:
    """The first `most` of many in words, and how many more there are."""
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in init_fields(type(value))}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _under(path: str, kind: Any) -> dict[str, Any]:
    section = section_of(kind)
    names = paths(section) if section else {}
    return {f"{path}.{name}" if path else name: each for name, each in names.items()}


def _explained(
    error: Exception, where: str, path: str, known: list[str], *, flags: Collection[str] | None
) -> UserError:
    """Choose one cause out of cattrs' groups: an unknown key first, for it explains the rest."""
    import cattrs

    causes = [*_causes(error, path)]
    unknown = [each for each in causes if isinstance(each[1], cattrs.ForbiddenExtraKeysError)]
    at, cause = (unknown or causes)[0]
    if isinstance(cause, UserError):
        by_flag = str(cause).partition(":")[0] in (flags or ())
        return cause if by_flag or not where else UserError(f"{where}: {cause}")
    if isinstance(cause, cattrs.ForbiddenExtraKeysError):
        at = ".".join(filter(None, (at, min(map(str, cause.extra_fields)))))
        near = nearest(at, known)
        text = f"unknown key; {f'did you mean {near}?' if near else 'remove it'}"
    elif isinstance(cause, KeyError) and hasattr(cause, "__notes__"):
        flag = f"pass --{at.replace('_', '-')} VALUE or set it in the recipe"
        text = f"is missing; {'add it' if flags is None else flag}"
    else:
        text = " ".join(str(cause).split()) or type(cause).__name__
    return UserError(": ".join(filter(None, (where, at, text))))


def _causes(error: Exception, path: str) -> Iterator[tuple[str, Exception]]:
    import cattrs

    for note in reversed(getattr(error, "__notes__", ())):  # the outermost was added last
        if isinstance(note, cattrs.IterableValidationNote):
            path += f"[{note.index}]"
        elif isinstance(note, cattrs.AttributeValidationNote):
            path = f"{path}.{note.name}" if path else note.name
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each, path)
    else:
        yield path, error
