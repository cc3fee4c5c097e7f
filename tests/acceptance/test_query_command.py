"""`chat-stats query` answers as the endpoint does."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.processes import chat_stats, serving

PARAMETERS = {
    "group_by": "status",
    "measures": "total_requests,total_tokens",
    "order_by": "-total_tokens",
    "limit": "2",
    "status!": "pending",
}


@pytest.fixture
def sample(env: dict[str, str]) -> dict[str, str]:
    env = {**env, "CHAT_STATS_CONNECT_TIMEOUT_SECONDS": "10"}  # a busy machine is no outage
    done = chat_stats("sample", "--requests", "2000", env=env)
    assert done.returncode == 0, done.stderr
    return env


def test_it_has_the_rows_of_the_endpoint_in_each_format(sample: dict[str, str], tmp_path: Path) -> None:
    with serving(sample, tmp_path / "service") as client:
        response = client.get("/query", params=PARAMETERS)
        assert response.status_code == 200, response.text
        expected = response.json()["data"]
    assert expected
    arguments = ["query", "--group-by", "status", "--measures", "total_requests,total_tokens"]
    arguments += ["--order-by=-total_tokens", "--limit", "2", "--filter", "status!=pending"]
    rows = list(csv.DictReader(io.StringIO(chat_stats(*arguments, env=sample).stdout)))
    assert rows == [{name: str(value) for name, value in row.items()} for row in expected]
    lines = chat_stats(*arguments, "--format", "ndjson", env=sample).stdout.splitlines()
    assert [json.loads(line) for line in lines] == expected
    table = chat_stats(*arguments, "--format", "table", env=sample).stdout
    for row in expected:
        assert f"{row['total_requests']} " in table
    assert "others: {" in table
    assert "total: {" in table


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--measures", "speed"], "total_requests"),
        (["--filter", "status"], "NAME=VALUE"),
        (["--format", "xml"], "table, csv, ndjson, json"),
        (["--filter", "planet=mars"], "planet"),
    ],
)
def test_wrong_usage_is_named_beside_what_is_known(
    env: dict[str, str], arguments: list[str], said: str
) -> None:
    done = chat_stats("query", *arguments, env=env)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
