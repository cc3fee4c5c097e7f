"""`chat-stats mcp` lets the SDK's own client ask a running service, and only read."""

import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from chat_stats.service.catalogue.question_parameters import PARAMETERS, VALUE_PARAMETERS
from tests.processes import COMMAND, ROOT, chat_stats, serving

pytestmark = pytest.mark.slow

KEY = "let-me-read"


def server(url: str, env: dict[str, str], key: str = KEY) -> StdioServerParameters:
    """A client starts the command with a clean environment, as its configuration says."""
    given = {"CHAT_STATS_URL": url, "CHAT_STATS_KEY": key}
    paths = {name: env[name] for name in ("PYTHONPATH",) if name in env}
    return StdioServerParameters(
        command=COMMAND[0], args=[*COMMAND[1:], "mcp"], env={**given, **paths}, cwd=ROOT
    )


def text(result: Any) -> str:
    return result.content[0].text


async def test_a_client_asks_what_the_service_answers(env: dict[str, str], tmp_path: Path) -> None:
    env = {**env, "CHAT_STATS_API_KEYS": KEY, "CHAT_STATS_CONNECT_TIMEOUT_SECONDS": "10"}
    done = chat_stats("sample", "--requests", "2000", env=env)
    assert done.returncode == 0, done.stderr
    with serving(env, tmp_path / "service") as http:
        http.headers["Authorization"] = f"Bearer {KEY}"
        root = str(http.base_url.copy_with(path="/"))
        async with Client(server(root, env)) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == {"query", "dimensions"}
            for tool, parameters in (("query", PARAMETERS), ("dimensions", VALUE_PARAMETERS)):
                annotations = tools[tool].annotations
                assert annotations is not None
                assert annotations.read_only_hint
                known = set(tools[tool].input_schema["properties"])
                assert known - {"filters"} == set(parameters) - {"format"}

            asked: dict[str, Any] = {"group_by": "status", "measures": "total_requests,total_tokens"}
            expected = http.get("/query", params={**asked, "limit": 2, "not_status": ["pending", "x"]}).json()
            arguments = {name: value.split(",") for name, value in asked.items()}
            filters = {"not_status": ["pending", "x"]}
            result = await client.call_tool("query", {**arguments, "limit": 2, "filters": filters})
            assert not result.is_error, text(result)
            assert result.structured_content is not None
            assert len(expected["data"]) == 2
            assert result.structured_content["data"] == expected["data"]
            assert result.structured_content["metadata"]["total"] == expected["metadata"]["total"]

            listed = await client.call_tool("dimensions", {})
            assert listed.structured_content is not None
            assert {"status", "model_id"} <= {each["name"] for each in listed.structured_content["data"]}
            values = await client.call_tool("dimensions", {"name": "status", "prefix": "comp"})
            assert values.structured_content is not None
            assert [each["value"] for each in values.structured_content["data"]] == ["completed"]

            refused = await client.call_tool("query", {"measures": ["speed"]})
            assert refused.is_error
            assert "total_requests" in text(refused), "a refusal says what is known"
        async with Client(server(root, env, key="of another")) as client:
            refused = await client.call_tool("query", {})
            assert refused.is_error
            assert "key" in text(refused)
    async with Client(server(root, env)) as client:
        refused = await client.call_tool("query", {})
        assert refused.is_error
        assert "cannot be reached" in text(refused)


def test_an_address_that_cannot_be_one_is_refused(env: dict[str, str]) -> None:
    done = chat_stats("mcp", "--url", "localhost:8000", env=env)
    assert done.returncode == 2
    assert "http://host:port" in done.stderr


@pytest.mark.parametrize("missing", ["mcp", "httpx2"])
def test_without_the_extra_the_command_says_what_to_install(env: dict[str, str], missing: str) -> None:
    # An import of None fails as that of a package that is not installed.
    program = f"import sys; sys.modules[{missing!r}] = None; from chat_stats.worker.cli import main; main()"
    done = chat_stats("mcp", env=env, command=(sys.executable, "-c", program))
    assert done.returncode == 2
    assert "pip install 'chat-stats[mcp]'" in done.stderr
    assert "Traceback" not in done.stderr
