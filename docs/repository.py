"""A hook of MkDocs: what the pages link to outside of docs/ is part of the site as well.

Links stay as whoever reads the repository needs them, and nothing is copied into docs/. Files keep
their paths, below `repository/`; a folder without a README is a list of its files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SITE = "repository/"
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")  # neither an address nor a place on the page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is linked to, and what that links to."""
    waiting = [f"docs/{page.src_uri}" for page in files.documentation_pages()]
    known = {*waiting}
    for page in waiting:
        for target in _targets(page):
            if target in known or target.startswith("docs/"):
                continue
            known.add(target)
            files.append(_file(target, config))
            if target.endswith(".md"):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Point links at where their targets lie on the site."""
    here = page.file.src_uri
    source = here.removeprefix(SITE) if here.startswith(SITE) else f"docs/{here}"

    def moved(link: re.Match[str]) -> str:
        target = _target(source, link[0])
        return link[0] if target is None else relpath(_on_site(target), dirname(here))

    return _LINK.sub(moved, markdown)


def _targets(page: str) -> Iterator[str]:
    for link in _LINK.findall(_text(page)):
        if (target := _target(page, link)) is not None:
            yield target


def _target(page: str, link: str) -> str | None:
    """The file, by its path in the repository; None where there is none: MkDocs then complains."""
    path = normpath(join(dirname(page), link))
    if path.startswith("..") or not (ROOT / path).exists():
        return None
    return f"{path}/README.md" if (ROOT / path).is_dir() else path


def _text(page: str) -> str:
    """The page, or in its place a list of the files of its folder."""
    source = ROOT / page
    if source.is_file():
        return source.read_text(encoding="utf-8")
    names = sorted(each.name for each in source.parent.iterdir() if each.is_file())
    lines = [f"# {dirname(page)}", "", *(f"- [{name}]({name})" for name in names)]
    return "\n".join(lines)


def _on_site(path: str) -> str:
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{SITE}{path}"


def _file(path: str, config: MkDocsConfig) -> File:
    if path.endswith(".md"):
        return File.generated(config, _on_site(path), content=_text(path))
    return File.generated(config, _on_site(path), abs_src_path=str(ROOT / path))
