"""The command line: `--a.b value` on top of a recipe, as one config.

In: a verb's dataclass and its arguments. Out: that dataclass, or `UserError`. A flag is read by
the type of its field, then converted as a recipe's value is, so both give the same errors.
Next: `nodes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

from ray_st.config import UserError, convert, nearest, paths
from ray_st.recipe import at_home, find_recipe, parse_list, read_yaml, scalar
from ray_st.secrets import require_no_secret
from ray_st.strict import members, section_of, shorthand

T = TypeVar("T")

HELP = ("-h", "--help")

CONFIG_HELP = """--config NAME_OR_PATH reads a recipe; flags override it, the last one wins.
A list is written --FIELD 1 2 or --FIELD=[1,2]; the empty list --FIELD=[] or --FIELD alone."""


def resolve(schema: type[T], argv: Sequence[str], *, recipe_schema: type | None = None) -> T:
    """Merge defaults, the recipe of `--config` and flags into `schema`.

    A recipe may hold sections of `recipe_schema` that this verb lacks: checked, then left out.
    """
    flags = parse_flags(schema, argv)
    name = flags.pop("config", None)
    path = find_recipe(at_home(name)) if name is not None else None
    where = str(path) if path else ""
    values = _own(schema, read_yaml(path), recipe_schema, where) if path else {}
    kinds = paths(schema)
    values = {name: shorthand(kinds.get(name), value) for name, value in values.items()}
    for field, value in flags.items():
        _put(values, field, value, where)
    require_no_secret(values)
    config: T = convert(schema, at_home(values), where=where, flags=flags)
    return config


def with_flag(schema: type, argv: Sequence[str], field: str) -> list[str]:
    """Give the words that no flag takes the flag of `field`, wherever they stand."""
    kinds = {"config": str, **paths(schema)}
    flags: list[str] = []
    loose: list[str] = []
    is_free, kind = True, None  # whether a word here is nobody's value; the type of the last flag
    for word in argv:
        if word.startswith("--"):
            flag, equals, _ = word.partition("=")
            kind = kinds[_field(flag, kinds)[0]]
            is_free = bool(equals)
            flags.append(word)
        elif is_free or (bool in members(kind) and not isinstance(scalar(word), bool)):
            is_free = True
            loose.append(word)
        else:
            is_free = not any(get_origin(each) is tuple for each in members(kind))
            flags.append(word)
    return [*flags, _flag(field), *loose] if loose else flags


def parted(schema: type, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags of `schema`, and all from the first word on that none of them takes.

    A flag takes one word here, and one that is true or false takes none.
    """
    kinds = {"config": str, **paths(schema)}
    words, takes = list(argv), False
    for at, word in enumerate(words):
        if word in HELP:
            takes = False
        elif word.startswith("--"):
            flag, equals, _ = word.partition("=")
            takes = not equals and bool not in members(kinds[_field(flag, kinds)[0]])
        elif takes:
            takes = False
        else:
            return words[:at], words[at:]
    return words, []


def parse_flags(schema: type, argv: Sequence[str]) -> dict[str, Any]:
    """Arguments -> dotted field name -> value of that field's type; the last flag wins."""
    kinds = {"config": str, **paths(schema)}
    values: dict[str, Any] = {}
    for flag, words in _grouped(argv):
        path, negated = _field(flag, kinds)
        if negated and words:
            raise UserError(f"{flag}: takes no value, got {' '.join(words)!r}")
        raw = False if negated else _raw(flag, words, kinds[path])
        values[path] = convert(kinds[path], raw, path=path)
    return values


def print_help(config: Any, verb: str, description: str) -> None:
    """Print every flag with its meaning, unit and default; the process goes on.

    `config` is a verb's dataclass, or a value of it whose fields are the defaults to show.
    """
    import tyro

    about = f"{description}\n\n{CONFIG_HELP}"
    try:
        if isinstance(config, type):
            tyro.cli(config, prog=f"ray-st {verb}", description=about, args=["--help"])
        else:
            schema, words = type(config), ["--help"]
            tyro.cli(schema, prog=f"ray-st {verb}", description=about, args=words, default=config)
    except SystemExit as done:
        if done.code:
            raise


def _own(
    schema: type, recipe: dict[str, Any], recipe_schema: type | None, where: str
) -> dict[str, Any]:
    """Check the sections of other verbs and return what is this verb's, unknown keys included.

    `eval --model FOLDER` gives one text the name that the recipe gives a section: both may stand.
    """
    mine, every = paths(schema), paths(recipe_schema) if recipe_schema else {}
    sections = {
        key
        for key in {*mine} & {*every}
        if section_of(every[key]) and not section_of(mine[key])
        if isinstance(recipe.get(key), Mapping)
    }
    others = [key for key in recipe if key not in mine or key in sections]
    for key in others:
        if key not in every or "." in str(key):
            near = nearest(str(key), {**every, **mine})
            move = f"did you mean {near}?" if near else "remove it"
            raise UserError(f"{where}: {key}: unknown key; {move}")
        convert(every[key], recipe[key], where=where, path=key)
    return {key: value for key, value in recipe.items() if key not in others}


def _put(values: dict[str, Any], field: str, value: object, where: str) -> None:
    *sections, last = field.split(".")
    for depth, name in enumerate(sections):
        inner = values.get(name) or {}
        if not isinstance(inner, Mapping):
            at = ".".join(sections[: depth + 1])
            raise UserError(f"{where}: {at}: must be a section of fields, got {inner!r}")
        values[name] = values = dict(inner)
    values[last] = value


def _grouped(argv: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each flag with the words that follow it; only `--` opens a flag, so -1 is a value."""
    groups: list[tuple[str, list[str]]] = []
    for word in argv:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            groups.append((flag, [value] if equals else []))
        elif groups:
            groups[-1][1].append(word)
        else:
            raise UserError(f"{word!r}: is not a flag; write --FIELD {word}")
    return groups


def _field(flag: str, kinds: Mapping[str, Any]) -> tuple[str, bool]:
    """Give the dotted field of a flag, and whether the flag is its `no-` form."""
    path = flag.removeprefix("--").replace("-", "_")
    head, dot, last = path.rpartition(".")
    plain = (path, path.removeprefix("no_"), head + dot + last.removeprefix("no_"))
    for field in plain:
        if field in kinds and (field == path or bool in members(kinds[field])):
            if (section := section_of(kinds[field])) and hasattr(section, "SHORTHAND"):
                return f"{field}.{section.SHORTHAND}", False
            if section:
                inside = next(name for name in kinds if name.startswith(f"{field}."))
                raise UserError(f"{flag}: is a section; set its fields, such as {_flag(inside)}")
            return field, field != path
    leaves = [name for name, kind in kinds.items() if not section_of(kind)]
    near = nearest(path, leaves)
    move = f"did you mean {_flag(near)}?" if near else "--help lists all flags"
    raise UserError(f"{flag}: unknown flag; {move}")


def _flag(path: str) -> str:
    return "--" + path.replace("_", "-")


def _raw(flag: str, words: list[str], kind: Any) -> Any:
    """Words of one flag -> what a recipe would hold."""
    kinds = members(kind)
    many = next((each for each in kinds if get_origin(each) is tuple), None)
    if not words and bool in kinds:
        return True
    if not words and many is not None and get_args(many)[-1] is Ellipsis:
        return []
    if not words:
        raise UserError(f"{flag}: needs a value; write {flag} VALUE")
    if len(words) == 1 and (many is None or (type(None) in kinds and _is_null(words[0]))):
        return _typed(words[0], kind)
    if many is None:
        raise UserError(f"{flag}: takes one value, got {len(words)}: {' '.join(words)!r}")
    listed = len(words) == 1 and words[0].startswith("[")
    return _typed(parse_list(words[0], flag) if listed else words, many)


def _typed(text: Any, kind: Any) -> Any:
    """Text -> number, boolean, null or text, as the field's type asks; the check comes later."""
    kinds = members(kind)
    if isinstance(text, list):
        of = [arg for each in kinds if get_origin(each) is tuple for arg in get_args(each)]
        of = of[:1] * len(text) if of[-1:] == [Ellipsis] else of
        return (
            [_typed(*pair) for pair in zip(text, of, strict=True)] if len(of) == len(text) else text
        )
    if not isinstance(text, str) or (type(None) in kinds and _is_null(text)):
        return None if isinstance(text, str) else text
    options = [o for each in kinds if get_origin(each) is Literal for o in get_args(each)]
    if text in map(str, options):
        return next(option for option in options if str(option) == text)
    return text if {*kinds} <= {str, type(None)} else scalar(text)


def _is_null(text: str) -> bool:
    return text.lower() in ("none", "null")
