"""A recipe as text: YAML without YAML 1.1's surprises, found by name or path.

In: a file, or a config. Out: a plain mapping, or YAML text. Next: `config.py` gives it types.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ray_st.config import UserError, as_dict, from_dict, require

T = TypeVar("T")

# PyYAML speaks YAML 1.1 (`no` is false, `1e-4` is text, `010` is 8); recipes are read by these.
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)$")
NUMBER = re.compile(
    r"[-+]?(([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf)$|\.nan$"
)
BOOLEAN = re.compile(r"(true|True|TRUE|false|False|FALSE)$")
NULL = re.compile(r"(null|Null|NULL|~|)$")
HOME = re.compile(r"((?:\w+:)?)(~(?:/.*)?)$", re.DOTALL)
FOLDERS = (Path(__file__).parent / "recipes", Path(__file__).parents[1] / "jobs" / "recipes")


def find_recipe(name: str) -> Path:
    """Give the file of a path, or of the name of a recipe in the wheel or the checkout."""
    if Path(name).is_file():
        return Path(name)
    stem = name.removesuffix(".yaml")
    known = {file.stem: file for folder in reversed(FOLDERS) for file in folder.glob("*.yaml")}
    if stem in known:
        return known[stem]
    likeness = {each: difflib.SequenceMatcher(None, stem, each).ratio() for each in known}
    names = ", ".join(sorted(known, key=lambda each: (-likeness[each], each))) or "none"
    raise UserError(f"--config: no file or recipe {name!r}; known recipes: {names}")


def load(schema: type[T], path: str | Path) -> T:
    """Read one YAML file as `schema`."""
    return from_dict(schema, read_yaml(path), str(path))


def dump(config: object) -> str:
    """YAML text in field order; loads back to an equal config."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Lists on one line; text is quoted where YAML 1.1 or 1.2 would take it for a number."""

    _teach_scalars(Dumper)
    Dumper.add_representer(list, _one_line)
    text = yaml.dump(as_dict(config), Dumper=Dumper, sort_keys=False, width=4096)
    return str(text)


def scalar(text: str) -> object:
    """Read a number or a boolean as a recipe would; other text stays text."""
    if INTEGER.match(text):
        return int(text)
    if NUMBER.match(text):
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    return text.lower() == "true" if BOOLEAN.match(text) else text


def at_home(value: Any) -> Any:
    """Write out the home folder in `~/x` and `coco:~/x`, in every text of a nested value.

    A shell does it for a word that begins so, but not behind `=` or a scheme, nor in a file.
    """
    if isinstance(value, Mapping):
        return {key: at_home(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(at_home(each) for each in value)
    found = HOME.match(value) if isinstance(value, str) else None
    return found[1] + str(Path(found[2]).expanduser()) if found else value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a recipe; refuses what is not one mapping without repeated keys."""
    try:
        return parse_yaml(Path(path).read_bytes(), path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def parse_yaml(text: bytes, path: str | Path) -> dict[str, Any]:
    """The same of what was read from `path` already."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own table, emptied

    _teach_scalars(Loader)
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        _refuse_repeats(node, path)
        value = None if node is None else loader.construct_document(node)
    except RecursionError as error:
        raise UserError(
            f"{path}: is nested too deeply, or refers to itself; write the values out"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{path}{line}: is not valid YAML: {what}") from error
    if value is None:
        raise UserError(f"{path}: is empty; a recipe is a mapping of sections, such as `train:`")
    require(isinstance(value, dict), str(path), "a mapping of sections", value)
    return dict(value)


def parse_list(text: str, where: str) -> list[Any]:
    """Read `[0.5, 1]` as a list of texts, which the field's type then reads."""
    import yaml

    try:
        value = yaml.load(text, Loader=yaml.BaseLoader)  # makes lists and text only
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{where}: must be a list such as [0.5, 1], got {text!r}") from error
    require(isinstance(value, list), where, "a list such as [0.5, 1]", text)
    return list(value)


def _one_line(dumper: Any, items: list[Any]) -> Any:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


def _teach_scalars(reader: Any) -> None:
    for name, pattern in (("null", NULL), ("bool", BOOLEAN), ("int", INTEGER), ("float", NUMBER)):
        reader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", pattern, None)


def _refuse_repeats(node: Any, path: str | Path) -> None:
    seen = set()
    for child in node.value if node is not None and not isinstance(node.value, str) else ():
        key, value = child if isinstance(child, tuple) else (None, child)
        if key is not None and isinstance(key.value, str):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UserError(f"{path}:{line}: {key.value}: is set twice; keep one")
            seen.add(key.value)
        _refuse_repeats(value, path)
