"""The command line answers at once where nothing is to be done: help, and what the shell completes."""

import subprocess
import sys

import pytest

from tests.processes import ROOT, chat_stats, environment, on_a_terminal

#: Each takes long to load, and no help needs it.
HEAVY = {
    "arq",
    "asyncpg",
    "fastapi",
    "httpx",
    "jinja2",
    "mcp",
    "prometheus_client",
    "pydantic",
    "redis",
    "uvicorn",
}

#: As the installed program, by whose name the shell asks.
PROGRAM = "import sys; sys.argv[0] = 'chat-stats'; from chat_stats.worker.cli import main; main()"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["rollup", "--help"], ["import", "--help"], ["query", "--help"]]
)
def test_help_loads_nothing_that_only_work_needs(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv[1:] = {arguments!r}\n"
        "from chat_stats.worker.cli import main\n"
        "try: main()\n"
        "except SystemExit: print('loaded:', *sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    usage, _, loaded = ran.stdout.partition("loaded:")
    assert "Usage: " in usage
    assert not HEAVY & set(loaded.split())


def completed(typed: str, env: dict[str, str]) -> list[str]:
    """Return what bash is offered for a command line."""
    asked = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)}
    env = {**env, **asked, "_CHAT_STATS_COMPLETE": "complete_bash"}
    ran = chat_stats(env=env, command=(sys.executable, "-c", PROGRAM))
    assert "Traceback" not in ran.stderr
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("chat-stats mi", ["migrate"]),
        ("chat-stats refresh --window 3", ["30d", "365d"]),
        ("chat-stats refresh su", ["summary"]),
        ("chat-stats query --window 24", ["24h"]),
        ("chat-stats query --group-by status,t", ["status,team"]),
        ("chat-stats query --measures total_tokens,failed", ["total_tokens,failed_requests"]),
        ("chat-stats query --bucket 15", ["15m"]),
    ],
)
def test_windows_and_names_are_completed(typed: str, offered: list[str]) -> None:
    env = environment(
        "postgresql://x@127.0.0.1:1/x", "redis://127.0.0.1:1", dimensions="team=metadata->>team"
    )
    assert completed(typed, env) == offered


def test_names_that_the_database_knows_are_completed(env: dict[str, str]) -> None:
    assert completed("chat-stats key revoke pa", env) == []
    assert (
        chat_stats("key", "create", "--name", "partner", "--scope", "status=failed", env=env).returncode == 0
    )
    assert completed("chat-stats key revoke pa", env) == ["partner"]
    nowhere = environment("postgresql://x@127.0.0.1:1/x", "redis://127.0.0.1:1")
    assert completed("chat-stats key revoke pa", nowhere) == []


def test_the_help_of_refresh_names_the_aggregations() -> None:
    shown = on_a_terminal("refresh", "--help", env=environment("", ""))
    assert "Aggregations: providers, models, model, counts, summary, timeseries." in shown
