"""A commit is checked by the same tools as `make check`."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_a_commit_is_checked_by_what_make_check_runs() -> None:
    (_, recipe) = re.split(r"^check:.*\n", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    made = set(re.findall(r"\$\(BIN\)/([\w-]+(?: (?:format|check))?)", recipe.split("\n\n")[0]))
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"  # nothing is fetched
    assert {hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]} == made
