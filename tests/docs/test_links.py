"""Every relative link of the documentation leads somewhere, to the very heading."""

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
