"""schemathesis sends valid and invalid requests, and checks the answers against the OpenAPI document."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.openapi.conftest import KEY
from tests.processes import ROOT

#: `CHAT_STATS_OPENAPI_EXAMPLES=200` sends more examples, different ones each time, and follows links; by
#: default the same few examples of each operation are sent.
SEARCH = "CHAT_STATS_OPENAPI_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("CHAT_STATS_OPENAPI_EXAMPLES", "3"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 10 * EXAMPLES)]


def test_every_answer_conforms_to_the_document(service: httpx.Client, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(f"{Path(sys.executable).parent}/schemathesis", "run", f"{service.base_url}openapi.json"),
            *("--header", f"Authorization: Bearer {KEY}"),
            *("--exclude-path", "/api/monitoring/events"),  # its answer does not end
            *("--exclude-checks", "positive_data_acceptance"),  # tests.openapi.refusals does that
            *(
                "--phases",
                "examples,coverage,fuzzing,stateful" if SEARCH else "examples,coverage,fuzzing",
            ),
            *("--max-examples", str(EXAMPLES)),
            *("--request-timeout", "60"),  # a refresh with wait=true runs after all queued ones
            *(() if SEARCH else ("--seed", "1")),
            *("--generation-database", "none", "--continue-on-failure", "--no-color"),
        ],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.openapi.refusals", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(done.stdout)  # the number of requests, for `pytest -rP`
    assert done.returncode == 0, done.stderr
    assert "15 selected / 16 total" in done.stdout
