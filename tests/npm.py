"""Packages of npm for tests that check with them."""

import subprocess
from pathlib import Path

import pytest

from tests.tools import NPM, need

TYPESCRIPT = "typescript@5.9.3"


def install(folder: Path, *packages: str) -> None:
    """Install packages in a folder; skip the test where they cannot be had."""
    need(NPM)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install the packages: {installed.stderr[-300:]}")
