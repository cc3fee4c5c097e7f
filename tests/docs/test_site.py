"""`make docs` builds a site with all pages, valid links, a search, and no external resources."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, ROOT, build_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(tmp_path_factory.mktemp("documentation"))


def test_every_document_is_a_page_in_the_navigation(site: Path) -> None:
    start = (site / "index.html").read_text()
    for document in DOCUMENTS:
        page = document.relative_to(ROOT).with_suffix(".html")
        page = page.with_name("index.html") if document.name == "README.md" else page
        assert (site / page).exists(), page
        assert re.search(rf'href="(?:[.]/)?{page}" class="md-nav__link', start), page


def test_every_page_can_be_searched(site: Path) -> None:
    found = {
        item["location"].partition("#")[0] for item in json.loads((site / "search.json").read_text())["items"]
    }
    pages = {str(page.relative_to(site)) for page in site.rglob("*.html")} - {"404.html"}
    assert {page or "index.html" for page in found} == pages


@pytest.mark.parametrize(
    "words",
    [
        *("nginx", "Kubernetes", "production traffic only", "rotating keys", "memory Redis", "RDS pgbouncer"),
        *("interval per window", "embedding chart", "JavaScript Python clients", "alerting errors"),
        *("deleting user data", "adding column", "language models MCP", "Grafana"),
    ],
)
def test_what_owners_look_for_has_a_heading_that_the_search_finds(site: Path, words: str) -> None:
    items = json.loads((site / "search.json").read_text())["items"]
    found = [item for item in items if all(word.lower() in item["title"].lower() for word in words.split())]
    assert any(len(item["text"]) > 40 for item in found), "a heading with an answer below it"


def test_a_page_loads_no_external_resources(site: Path) -> None:
    loads = re.compile(
        r"""<(?:script|img|iframe|source)[^>]*\ssrc="?(?:https?:)?//|<link[^>]*href="?(?:https?:)?//"""
    )
    for page in site.rglob("*.html"):
        assert not loads.findall(page.read_text()), page


@pytest.mark.parametrize("link", ["nowhere.md", "operations.md#nowhere"])
def test_a_link_that_leads_nowhere_fails_the_build(site: Path, tmp_path: Path, link: str) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "README.md").write_text(f"# A page\n\n[A link]({link})\n")
    (pages / "operations.md").write_text("# Operations\n")
    settings = (ROOT / "zensical.toml").read_text()
    (tmp_path / "zensical.toml").write_text(re.sub(r"(?ms)^nav = \[.*?^\]\n", "", settings))
    done = subprocess.run(
        [Path(sys.prefix) / "bin/zensical", "build", "--strict", "--config-file", tmp_path / "zensical.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "does not exist" in done.stdout + done.stderr
