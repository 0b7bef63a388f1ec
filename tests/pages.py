"""A report's page as a browser would meet it, without one."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from ray_st.report import write_report


class Page(HTMLParser):
    """What a browser would meet: tags with their attributes, and the text between."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] != "style":
            self.text += data.replace("\u00a0", " ")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def render(out: Path) -> tuple[str, Page]:
    """Write the report of a folder; its text, and what is in it."""
    html = write_report(out).read_text("utf-8")
    return html, Page(html)
