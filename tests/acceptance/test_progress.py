"""Progress bars and errors as a terminal shows them, and as a pipe gets them."""

import re
from pathlib import Path

import asyncpg
import pytest

from chat_stats.worker.local_servers import RedisServer
from tests.processes import chat_stats, environment, on_a_terminal
from tests.rollup.workload import fill


async def test_the_bar_of_rollup_enable_moves_and_ends_full_and_never_beyond(
    connection: asyncpg.Connection, env: dict[str, str]
) -> None:
    await fill(connection, 30_000)
    await connection.execute("ANALYZE")
    for command in ("enable", "verify", "repair"):
        shown = [int(share) for share in re.findall(r"(\d+)%", on_a_terminal("rollup", command, env=env))]
        assert shown == sorted(shown)
        assert shown[-1] == 100
        assert len({share for share in shown if 0 < share < 100}) >= 2, (command, shown)


@pytest.mark.parametrize("content", ["", "created_at,input_tokens\nyesterday,1\n"], ids=["empty", "columns"])
def test_an_error_of_the_import_begins_on_the_first_line(
    database_url: str, redis: RedisServer, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "log.csv"
    file.write_text(content)
    done = chat_stats("import", str(file), env=environment(database_url, redis.url))
    assert done.returncode != 0
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stdout == ""
