"""What MkDocs does for this site beyond docs/: pages out of declarations and from other folders, links that lead there.

A page that would fetch anything from elsewhere is a warning, and so the end of `make docs`.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import api_pages
from readdress.api.catalogue import OPERATIONS

_log = logging.getLogger("mkdocs.readdress")

ROOT = Path(__file__).parents[2]
# Documents of other folders that are pages, too.
PAGES_FROM_ELSEWHERE = {
    "CHANGELOG.md": "changes.md",
    "bench/README.md": "bench/measures.md",
    "bench/results.md": "bench/results.md",
    "examples/python/README.md": "examples/python.md",
    "examples/javascript/README.md": "examples/javascript.md",
}
_SOURCES = {page: source for source, page in PAGES_FROM_ELSEWHERE.items()}
OPERATIONS_MARK = "<!-- the operations, each with its page -->"

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source|embed)\b[^>]*\ssrc=\"?(?:https?:)?//|<link\b[^>]*href=\"?(?:https?:)?//"
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The operations and the decisions take their places in the navigation."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    _section(config.nav, "API").extend(api_pages.navigation(OPERATIONS))
    _section(_section(config.nav, "Reference"), "Decisions").extend(f"decisions/{path.name}" for path in decisions)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages that are in no file of docs/."""
    for source, page in PAGES_FROM_ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    for operation in OPERATIONS:
        files.append(File.generated(config, api_pages.path(operation), content=api_pages.page(operation)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links as the repository has them become links of the site; what it does not show keeps its name alone."""
    uri = page.file.src_uri
    source = _SOURCES.get(uri, f"docs/{uri}")

    def lead(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if there in PAGES_FROM_ELSEWHERE:
            inside = PAGES_FROM_ELSEWHERE[there]
        elif there.startswith("docs/"):
            inside = there.removeprefix("docs/")
        else:
            return label
        return f"[{label}]({posixpath.relpath(inside, posixpath.dirname(uri) or '.')}{anchor})"

    return _LINK.sub(lead, markdown.replace(OPERATIONS_MARK, api_pages.tables(OPERATIONS)))


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """The promise that a reader's browser asks nobody else."""
    fetched = _FETCHED.search(output)
    if fetched:
        _log.warning("%s fetches from elsewhere: %s", page.file.src_uri, fetched[0])
    return output


def _section(nav: Any, title: str) -> list[Any]:
    """The entries of a section of the navigation, as the configuration has them."""
    (entries,) = (entry[title] for entry in nav if isinstance(entry, dict) and title in entry)
    return entries  # type: ignore[no-any-return]
