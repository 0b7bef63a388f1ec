"""The files of jobs/: what they say of themselves, and commands that their verbs take."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from ray_st.verbs import VERBS
from ray_st.verbs.words import config_of, verb_of

pytestmark = pytest.mark.pure

JOBS = Path(__file__).parents[1] / "jobs"
FILES = sorted(JOBS.glob("*.py"))
WITHOUT = {"submit", "status", "models"}  # one sends jobs, one looks at them, one prints a table


def docstring(path: Path) -> str:
    found = ast.get_docstring(ast.parse(path.read_text()))
    assert found is not None
    return found


def test_every_verb_has_its_file() -> None:
    assert {path.stem.replace("_", "-") for path in FILES} == {*VERBS} - WITHOUT


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_what_it_does_and_costs(path: Path) -> None:
    text = docstring(path)
    for section in ("Command:", "Reads:", "Writes:", "Costs:"):
        assert f"\n{section}" in text
    verb = path.stem.replace("_", "-")
    assert f'main(["{verb}", *sys.argv[1:]])' in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_files_command_is_one_that_its_verb_takes(path: Path) -> None:
    command = docstring(path).partition("Command:\n")[2].partition("\n\n")[0]
    words = shlex.split(command.replace("\\\n", " "))
    sent = words[words.index("--") + 1 :]
    assert words[:3] == ["ray", "job", "submit"]
    assert sent[:2] == ["python", f"jobs/{path.name}"]
    config_of(verb_of(path.stem.replace("_", "-")), sent[2:])


def test_the_table_lists_every_file() -> None:
    text = (JOBS / "README.md").read_text()
    listed = re.findall(r"^\| `(\w+\.py)` \|", text, re.MULTILINE)
    assert sorted(listed) == [path.name for path in FILES]
