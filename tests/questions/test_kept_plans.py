"""Connections keep the plans of statements, unless a proxy may give each transaction another session."""

import os
import pwd
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import asyncpg
import pytest

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.question_parameters import parse_question
from chat_stats.service.compute.computed import Computed
from chat_stats.service.compute.ladder import compute
from chat_stats.service.database.pool import Database
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.rollup.own import OwnRollups
from chat_stats.service.rollup.upkeep import Rollup
from chat_stats.service.settings import Settings
from chat_stats.worker.local_servers import free_port
from tests.processes import until
from tests.questions.conftest import DIMENSIONS
from tests.questions.recount import Request
from tests.tools import PGBOUNCER, need

pytestmark = pytest.mark.every_postgres

KNOWN = known_dimensions(DIMENSIONS)
#: The plans of questions that the connection keeps, and how often they served.
KEPT = """
SELECT count(*) AS kept, sum(generic_plans)::int AS used
FROM pg_prepared_statements
WHERE statement LIKE '%Figures of groups%'
"""


@pytest.fixture
async def with_rollups(connection: asyncpg.Connection, requests: list[Request]) -> asyncpg.Connection:
    """The built-in rollups, and one by users."""
    rollup = Rollup(connection)
    await rollup.enable(lambda _done: None)
    rollups = OwnRollups(rollup, KNOWN)
    await rollups.add(await rollups.declare("users", ["user_id"], percentiles=True), lambda _done: None)
    return connection


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(
        Settings(database_url=url, dimensions=DIMENSIONS, _env_file=None), application_name="tests"
    )
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def ask(snapshot: Snapshot, question: str) -> Computed:
    return await compute(snapshot, parse_question(parse_qsl(question), KNOWN), timeout=30)


@pytest.mark.usefixtures("with_rollups")
async def test_a_question_to_a_rollup_is_planned_once_for_all_arguments(database_url: str) -> None:
    async with opened(database_url) as database:
        for user, limit in (("u1", 5), ("u2", 7), ("u1", 5)):
            async with database.snapshot(wait_seconds=5) as snapshot:
                asked = f"user_id={user}&group_by=user_id&limit={limit}&measures=p95_processing_time_ms"
                answer = await ask(snapshot, asked)
                assert answer.totals["source"] == "rollup:users"
        async with database.snapshot(wait_seconds=5) as snapshot:
            [found] = await snapshot.fetch(KEPT, timeout=5)
            assert (found["kept"], found["used"]) == (1, 3)


@pytest.mark.usefixtures("with_rollups")
async def test_what_reads_the_requests_themselves_is_planned_for_its_arguments(database_url: str) -> None:
    async with opened(database_url) as database, database.snapshot(wait_seconds=5) as snapshot:
        for key in ("1", "2"):
            answer = await ask(snapshot, f"key={key}&start_date=2026-03-26&end_date=2026-03-27")
            assert answer.totals["source"] == "scan"
        [found] = await snapshot.fetch(KEPT, timeout=5)
        assert found["kept"] == 0


async def test_a_column_that_got_another_type_is_read_again(
    database_url: str, with_rollups: asyncpg.Connection
) -> None:
    async with opened(database_url) as database:
        answers = []
        for type_ in ("bigint", "integer", "bigint"):
            await with_rollups.execute(f"ALTER TABLE providers ALTER COLUMN id TYPE {type_}")
            async with database.snapshot(wait_seconds=5) as snapshot:
                answer = await ask(snapshot, "group_by=provider_id&measures=total_requests")
                assert answer.totals["source"] == "rollup:model"
                answers.append(answer.data)
        assert answers[0] == answers[1] == answers[2]


@pytest.fixture
def pooled_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    """The database behind pgbouncer, which gives each transaction one of two sessions."""
    program, server = need(PGBOUNCER), urlsplit(database_url)
    port = free_port()
    file = tmp_path / "pgbouncer.ini"
    user = tmp_path / "users.txt"
    user.write_text(f'"{server.username}" "{server.password}"\n')
    file.write_text(f"""
[databases]
* = host={server.hostname} port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {user}
pool_mode = transaction
default_pool_size = 2
server_round_robin = 1
ignore_startup_parameters = datestyle, timezone, extra_float_digits
""")
    command = [str(program), str(file)]
    if os.geteuid() == 0:  # it refuses to run as root
        for path in (tmp_path, file, user):
            path.chmod(0o755)
        command[1:1] = ["-u", pwd.getpwnam("nobody").pw_name]
    with (tmp_path / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(
            lambda: "process up" in (tmp_path / "pgbouncer.log").read_text(),
            what=(tmp_path / "pgbouncer.log").read_text,
        )
        yield server._replace(netloc=f"{server.username}:{server.password}@127.0.0.1:{port}").geturl()
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("with_rollups")
async def test_behind_a_proxy_that_pools_transactions_no_plan_is_kept(pooled_url: str) -> None:
    async with opened(pooled_url) as database:
        for _ in range(6):
            async with database.snapshot(wait_seconds=5) as snapshot:
                assert (await ask(snapshot, "group_by=user_id")).totals["source"] == "rollup:users"
                assert not await snapshot.fetch("SELECT name FROM pg_prepared_statements", timeout=5)
