"""Code and documents name who acts: words that hide it are rare."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (".ci", "bench", "docs", "monitoring", "service", "sql", "tests", "worker")

#: Write instead: the caller, a client, no process, recompute. Names with underscores are searched too.
WORDS = re.compile(r"(?<![a-z])(whoever|somebody|nobody|everybody|anew)(?![a-z])", re.IGNORECASE)

#: The number that is allowed: some stay, such as the name of the system user without rights.
LIMIT = 10


def files() -> Iterator[Path]:
    yield from (file for file in ROOT.glob("[!.]*") if file.is_file())
    for folder in FOLDERS:
        found = (ROOT / folder).rglob("*")
        yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)


def test_words_that_hide_who_acts_are_rare() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in files()
        if file != Path(__file__)
        for number, line in enumerate(file.read_text(errors="ignore").splitlines(), start=1)
        for _ in WORDS.findall(line)
    ]
    assert len(found) <= LIMIT, "\n".join(found)
