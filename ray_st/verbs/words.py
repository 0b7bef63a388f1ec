"""Words of a command line -> a verb and its config, or one line of refusal.

In: a verb's name and its flags. Out: its module and its config; nothing is started. Next:
`pretrain.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from ray_st.config import UserError, nearest
from ray_st.flags import resolve, with_flag
from ray_st.verbs import VERBS


def verb_of(name: str) -> Any:
    """Import a verb; raises `UserError` for a word that is none."""
    if name not in VERBS:
        near = nearest(name, VERBS)
        move = f"did you mean {near}?" if near else "`ray-st --help` lists them"
        raise UserError(f"{name}: unknown verb; {move}")
    return import_module(f"ray_st.verbs.{name.replace('-', '_')}")


def config_of(verb: Any, flags: Sequence[str]) -> Any:
    """Resolve a verb's flags, on top of the recipe that they name."""
    words = list(flags)
    if hasattr(verb, "POSITIONAL"):
        words = with_flag(verb.CONFIG, words, verb.POSITIONAL)
    words = _completed(verb, words)
    return resolve(verb.CONFIG, words, recipe_schema=_sections(words))


def defaults_of(verb: Any) -> Any:
    """What `--help` shows: the verb's dataclass, or a value of it where a recipe is its own."""
    if hasattr(verb, "DEFAULT_RECIPE"):
        return resolve(verb.CONFIG, _completed(verb, []), recipe_schema=None)
    return verb.CONFIG


def _completed(verb: Any, flags: list[str]) -> list[str]:
    """Give the demo its recipe."""
    recipe = getattr(verb, "DEFAULT_RECIPE", None)
    return ["--config", recipe, *flags] if recipe and not names_recipe(flags) else flags


def names_recipe(flags: Sequence[str]) -> bool:
    """Whether `--config` is among them."""
    return any(flag == "--config" or flag.startswith("--config=") for flag in flags)


def _sections(flags: list[str]) -> type | None:
    """What a recipe may hold, where one is read: knowing it costs a second, for it loads Ray."""
    if not names_recipe(flags):
        return None
    from ray_st.verbs.verb import Recipe

    return Recipe
