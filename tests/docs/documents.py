"""Reads the documentation: its code blocks, its commands, and their documented output."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A command of a console block, and its documented output: JSON, or lines of text."""

    document: str
    command: str
    shown: object | None
    lines: list[str]

    @property
    def fails(self) -> bool:
        """Whether the documented output is an error."""
        return isinstance(self.shown, dict) and self.shown.get("success") is False


def blocks(document: Path, language: str) -> list[str]:
    return [
        re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        for match in _BLOCK.finditer(document.read_text())
        if match["language"] == language
    ]


def examples(document: Path) -> Iterator[Example]:
    for block in blocks(document, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.replace("\\\n", " ").split("\n", 1)
            output = lines[1] if len(lines) > 1 else ""
            shown = _json(output)
            text = output.strip().splitlines() if shown is None else []
            yield Example(document.name, lines[0].strip(), shown, text)


def build_site(folder: Path) -> Path:
    """Run `make docs` with the environment that runs the tests; return the folder of the site."""
    environment = Path(sys.prefix)
    done = subprocess.run(
        ["make", "-o", f"{environment}/.installed", f"VENV={environment}", f"SITE={folder}", "docs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def text() -> str:
    return "\n".join(document.read_text() for document in DOCUMENTS)


def prose(document: Path) -> str:
    """Return the document without code blocks and inline code."""
    without_blocks = re.sub(r"^( *)```.*?^\1```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", without_blocks)


def headings(document: Path) -> list[str]:
    """Return the headings, with their inline code."""
    without_blocks = re.sub(r"^( *)```.*?^\1```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#+ (.*)$", without_blocks, re.MULTILINE)


def sections(document: Path) -> dict[str, str]:
    """Return the text under each title, up to the next title of any level."""
    _, *parts = re.split(r"^#+ (.*)$", "\n" + document.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _json(shown: str) -> object | None:
    """Return the documented JSON; a trailing `, ...` in it stands for further elements."""
    shown = shown.replace(", ...", "").strip()
    return orjson.loads(shown) if shown.startswith(("{", "[")) else None
