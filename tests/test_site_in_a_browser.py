"""The pages of the site are for everybody: axe-core finds nothing in them against WCAG 2.1 A and AA, in Chromium."""

from pathlib import Path

import pytest

from harness.chromium import judge
from harness.site import ROOT, build, serve

# Texts, tables, pictures, tabs, and code in every language.
KINDS = [
    "index.html",
    "404.html",
    "api/index.html",
    "api/SearchEmailAddresses.html",
    "console.html",
    "postfix.html",
    "start-developers.html",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of its own: tests run before `make docs`, too, and a site from then may be an old one."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, "--site-dir", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_a_page_of_each_kind_is_for_everybody(site: Path) -> None:
    """In light and dark, on a phone and a desk; with what a tab hides, and with the menu and a search open."""
    variants = [{"width": width, "scheme": scheme} for width in (390, 1280) for scheme in ("light", "dark")]
    with serve(site) as url:
        seen = judge(url, pages=KINDS, variants=variants, frame=True)
    assert seen["found"] == []


@pytest.mark.torture
def test_every_page_is_for_everybody(site: Path) -> None:
    """Once, from its file: at a phone's width tables scroll, and in the dark colours are nearest to each other."""
    pages = sorted({str(path.relative_to(site)) for path in site.rglob("*.html")} - set(KINDS))
    assert len(pages) > 50
    seen = judge(site.as_uri(), pages=pages, variants=[{"width": 390, "scheme": "dark"}], frame=False)
    assert seen["found"] == []
