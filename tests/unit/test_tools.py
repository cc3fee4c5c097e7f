"""A test without its tool skips and says so; if the tool is required, it fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tools
from tests.tools import REQUIRED, Tool, need

ROOT = Path(__file__).parents[2]
HERE = Tool("here", "what is here", lambda: Path("/here"), package="here")
AWAY = Tool("away", "what is away", lambda: None, package="far")
FILE = Tool("file", "a file", lambda: None, source="../shared/file")


def test_a_test_gets_an_installed_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRED, "here,away")
    assert need(HERE) == Path("/here")


def test_a_test_without_its_tool_is_skipped_and_says_what_is_not_tested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(REQUIRED, "here")
    with pytest.raises(pytest.skip.Exception, match="away is not here: what is away is NOT TESTED"):
        need(AWAY)


def test_a_test_without_its_tool_fails_where_the_tool_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRED, "here,away")
    with pytest.raises(pytest.fail.Exception, match="what is away is NOT TESTED"):
        need(AWAY)


def test_one_line_says_what_is_not_tested_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "TOOLS", (HERE, AWAY, FILE))
    assert tools.summary() == (
        "Not tested here: what is away, a file. To test it: apt-get install far; ../shared/file"
    )
    monkeypatch.setattr(tools, "TOOLS", (HERE,))
    assert tools.summary() == "Not tested here: nothing."


def test_tools_are_not_installed_without_apt_and_a_message_says_so(tmp_path: Path) -> None:
    for program in ("bash", "dirname", "id"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    done = subprocess.run(
        [ROOT / ".ci/install-tools"],
        env={"PATH": str(tmp_path), "PYTHON": sys.executable, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Tools: chromium")
    assert "missing, and not installed: installing needs root and apt-get" in done.stdout
