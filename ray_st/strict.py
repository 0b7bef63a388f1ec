"""What each field type accepts: no guesses between text, numbers, booleans and lists.

In: a field's type. Out: a cattrs converter that refuses with a rule, for `config.py` to explain.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import cattrs

RULES = {int: "an integer", float: "a finite number", bool: "true or false", str: "text"}


class RuleError(Exception):
    """A value that its type refuses; the path is known only to those who call."""

    def __init__(self, rule: str, got: object) -> None:
        super().__init__(f"must be {rule}, got {got!r}")


def section_of(kind: Any) -> type | None:
    """Return the dataclass in `Section` or `Section | None`; None for a plain field's type."""
    cores = [each for each in members(kind) if each is not type(None)]
    if len(cores) == 1 and isinstance(cores[0], type) and dataclasses.is_dataclass(cores[0]):
        return cores[0]
    return None


def shorthand(kind: Any, value: object) -> object:
    """Spell out one word that stands for a section: `augment: S4` is its field `policy`."""
    field = getattr(section_of(kind), "SHORTHAND", None)
    return {field: value} if field is not None and isinstance(value, str) else value


def members(kind: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the type alone."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def init_fields(schema: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields that a recipe or a flag may set."""
    return [field for field in dataclasses.fields(schema) if field.init]


@cache
def converter() -> cattrs.Converter:
    """Build the converter; a later hook is asked before an earlier one."""
    import cattrs

    made = cattrs.Converter(forbid_extra_keys=True)
    for kind in RULES:
        made.register_structure_hook(kind, _strict)
    made.register_structure_hook_func(_is_literal, _option)
    made.register_structure_hook_factory(_is_tuple, _tuple_hook)
    made.register_structure_hook_factory(_is_mapping, _mapping_hook)
    made.register_structure_hook_factory(_is_choice, _union_hook)
    made.register_structure_hook_factory(lambda kind: section_of(kind) is kind, _section_hook)
    return made


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) is Mapping


def _is_choice(kind: Any) -> bool:
    return sum(each is not type(None) for each in members(kind)) > 1


def _strict(value: object, kind: type) -> object:
    if kind is float and type(value) in (int, float):
        value = float(value)  # type: ignore[arg-type]
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        quoted = " in quotes" if kind is str and isinstance(value, (bool, int, float)) else ""
        raise RuleError(RULES[kind] + quoted, value)
    return value


def _option(value: object, kind: Any) -> object:
    if (type(value), value) not in [(type(option), option) for option in get_args(kind)]:
        raise RuleError(_rule(kind), value)
    return value


def _rule(kind: Any) -> str:
    if _is_literal(kind):
        return "one of " + ", ".join(map(repr, get_args(kind)))
    if _is_mapping(kind):
        return "a mapping"
    return RULES.get(kind, "a list" if _is_tuple(kind) else str(kind))


def _tuple_hook(kind: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    import cattrs

    kinds = get_args(kind)
    length = None if kinds[-1:] == (Ellipsis,) else len(kinds)

    def structure(value: Any, _: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or length not in (None, len(value)):
            raise RuleError("a list" if length is None else f"a list of {length}", value)
        made = []
        for index, each in enumerate(value):
            of = kinds[0] if length is None else kinds[index]
            try:
                made.append(converter.structure(each, of))
            except Exception as error:
                error.add_note(cattrs.IterableValidationNote("", index, of))
                raise
        return tuple(made)

    return structure


def _mapping_hook(kind: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    from cattrs.gen import mapping_structure_factory

    fill = mapping_structure_factory(kind, converter)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise RuleError(_rule(kind), value)
        return fill(value, kind)

    return structure


def _union_hook(kind: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    kinds = [each for each in members(kind) if each is not type(None)]

    def structure(value: Any, _: Any) -> Any:
        if value is None and type(None) in members(kind):
            return None
        for each in kinds:
            try:
                return converter.structure(value, each)
            except RuleError:
                continue
        raise RuleError(" or ".join(map(_rule, kinds)), value)

    return structure


def _section_hook(kind: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    from cattrs.gen import make_dict_structure_fn

    fill = make_dict_structure_fn(kind, converter)
    hints, missing = get_type_hints(kind), dataclasses.MISSING
    needed = []
    for field in init_fields(kind):
        section = section_of(hints[field.name])
        if section and field.default is missing is field.default_factory:
            needed.append(field.name)  # {} lets the error name what is missing inside
        elif section:  # else a recipe that names one key would lose the others' defaults
            own = (default := _default(field)) is None or default == section()
            assert own, f"{kind.__name__}.{field.name}: a section's defaults live on its own fields"

    def structure(value: Any, _: Any) -> Any:
        value = shorthand(kind, value)
        if not isinstance(value, Mapping | None):  # a section with every line commented out is None
            raise RuleError("a section of fields", value)
        return fill({**{name: {} for name in needed}, **(value or {})}, kind)

    return structure


def _default(field: dataclasses.Field[Any]) -> object:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()
