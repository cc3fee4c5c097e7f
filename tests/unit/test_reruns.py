"""A test that needed a second run is named at the end, and logged for the end of CI's log."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FLAKY = """
from pathlib import Path

def test_flaky():
    runs = Path(__file__).with_suffix(".runs")
    runs.touch()
    runs.write_text(runs.read_text() + ".")
    assert runs.read_text() == ".."

def test_broken():
    assert False

def test_sound():
    assert True
"""
AGAIN = [
    "test_flaky.py::test_broken: run again 1 time(s), then failed",
    "test_flaky.py::test_flaky: run again 1 time(s), then passed",
]


@pytest.mark.slow
def test_tests_that_needed_a_second_run_have_their_own_heading(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_terminal_summary\n")
    (tmp_path / "test_flaky.py").write_text(FLAKY)
    log = tmp_path / "again"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--reruns", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "CHAT_STATS_RERUN_LOG": str(log), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "1 failed, 2 passed, 2 rerun" in done.stdout, done.stdout
    assert "tests that needed a second run: 2" in done.stdout
    assert log.read_text().splitlines() == AGAIN
