"""schemathesis sends what the OpenAPI document allows, and what it does not, and holds the answers to it."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.openapi.conftest import KEY
from tests.processes import ROOT

#: Examples of each operation; `CHAT_STATS_OPENAPI_EXAMPLES=1000` for a longer search.
EXAMPLES = int(os.environ.get("CHAT_STATS_OPENAPI_EXAMPLES", "3"))

pytestmark = pytest.mark.timeout(120 + 10 * EXAMPLES)


def test_no_answer_is_at_odds_with_the_document(service: httpx.Client, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(f"{Path(sys.executable).parent}/schemathesis", "run", f"{service.base_url}openapi.json"),
            *("--header", f"Authorization: Bearer {KEY}"),
            *("--exclude-checks", "positive_data_acceptance"),  # tests.openapi.refusals does that
            *(
                "--phases",
                "examples,coverage,fuzzing" if EXAMPLES < 10 else "examples,coverage,fuzzing,stateful",
            ),
            *("--max-examples", str(EXAMPLES)),
            *("--generation-database", "none", "--continue-on-failure", "--no-color"),
        ],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.openapi.refusals", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 selected / 12 total" in done.stdout
