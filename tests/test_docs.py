"""The pages of docs/ as a site, built as strictly as `make docs` builds them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[1]
# What a browser fetches by itself; an <a> may lead elsewhere.
_REMOTE = re.compile(r"<(?:link|script|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


def test_every_page_is_on_the_site_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in ROOT.glob("docs/**/*.md")}
    folders = {page.parent if page.name == "index" else page for page in pages}
    assert {*map(str, folders)} >= {".", "guide", "guide/faq", "training"}
    for folder in folders:
        text = (site / folder / "index.html").read_text(encoding="utf-8")
        assert _REMOTE.findall(text) == []
        assert "<h1" in text


def test_what_lies_outside_of_docs_is_on_the_site_where_links_lead(site: Path) -> None:
    page = (site / "labeling" / "index.html").read_text(encoding="utf-8")
    assert 'href="../repository/clusters/"' in page
    clusters = (site / "repository" / "clusters" / "index.html").read_text(encoding="utf-8")
    assert 'href="../jobs/"' in clusters
    readme = (site / "repository" / "index.html").read_text(encoding="utf-8")
    assert 'src="../images/report.png"' in readme
    recipe = Path("jobs", "recipes", "demo.yaml")
    assert (site / "repository" / recipe).read_bytes() == (ROOT / recipe).read_bytes()
    assert "demo.yaml" in (site / "repository" / recipe.parent / "index.html").read_text()


def test_no_file_of_the_tool_is_on_the_site(site: Path) -> None:
    assert list(site.rglob("*.py")) == []


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("[x](nowhere.md)", "'nowhere.md'"),
        ("[x](../nowhere.md)", "'../nowhere.md'"),
        ("[x](training.md#nowhere)", "nowhere"),
        ("[x](../../elsewhere.md)", "elsewhere.md"),
    ],
)
def test_a_link_to_nothing_ends_the_build(tmp_path: Path, link: str, said: str) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for name in ("README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("jobs", "clusters"):
        shutil.copytree(ROOT / name, tmp_path / name)
    with (tmp_path / "docs" / "design.md").open("a") as page:
        page.write(f"\n{link}\n")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    assert built.stderr.count("WARNING") == 1
    assert said in built.stderr


def test_a_page_that_the_menu_does_not_name_ends_the_build(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    config |= {"hooks": [], "nav": ["index.md"]}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "docs").mkdir()
    for name in ("index.md", "forgotten.md"):
        (tmp_path / "docs" / name).write_text("# A page\n")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    assert "forgotten.md" in built.stderr
