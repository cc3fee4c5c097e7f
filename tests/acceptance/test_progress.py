"""Progress bars and errors as a terminal shows them, and as a pipe gets them."""

import os
import pty
import re
import subprocess
from pathlib import Path

import asyncpg
import pytest

from chat_stats.worker.local_servers import RedisServer
from tests.processes import COMMAND, ROOT, chat_stats, environment
from tests.rollup.workload import fill


def on_a_terminal(*arguments: str, env: dict[str, str]) -> str:
    """Run a command on a terminal of its own; return all that it wrote there."""
    ours, theirs = pty.openpty()
    command = [*COMMAND, *arguments]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env={**env, "COLUMNS": "150", "TERM": "xterm"},
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                more = os.read(ours, 65_536)
            except OSError:  # the command has ended, and with it the terminal
                break
            if not more:
                break
            written += more
        assert process.wait(timeout=60) == 0, written.decode()
    os.close(ours)
    return written.decode()


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
