"""The documentation is consistent: links lead to existing headings, tables have all their cells."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, ROOT, headings, prose


def links() -> Iterator[tuple[Path, str]]:
    for document in [*DOCUMENTS, ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
            if not re.match(r"[a-z]+:", target):
                yield document, target


def anchors(document: Path) -> set[str]:
    """The anchors that code hosts give to headings."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in headings(document):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize(
    ("document", "target"), list(links()), ids=lambda value: value.name if isinstance(value, Path) else value
)
def test_a_link_leads_somewhere(document: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    linked = (document.parent / path).resolve() if path else document
    assert linked.is_relative_to(ROOT)
    assert linked.exists()
    assert not anchor or anchor in anchors(linked)


def test_there_are_links() -> None:
    assert len(list(links())) > 40


def test_every_documented_path_exists() -> None:
    places = re.compile(r"`((?:service|worker|sql|tests|bench|monitoring|docs|\.ci)/[\w./-]*)`")
    new = ROOT / "docs" / "adding-an-aggregation.md"  # it names the files to write
    for document in DOCUMENTS:
        for path in places.findall(document.read_text()) if document != new else ():
            assert (ROOT / path).exists(), f"{document.name}: {path}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_each_row_of_a_table_has_as_many_cells_as_its_head(document: Path) -> None:
    cells = 0
    for line in document.read_text().splitlines():
        if not line.startswith("|"):
            cells = 0
            continue
        found = len(re.findall(r"(?<!\\)\|", line))  # code hosts split at those in code too
        cells = cells or found
        assert found == cells, line
        assert line.endswith("|"), line
