"""Switching the rollup on and off over a live table."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chat_stats.service.errors import DatabaseBusy
from chat_stats.service.rollup import chunks
from chat_stats.service.rollup.state import ROLLUP_TABLES
from chat_stats.service.rollup.upkeep import Rollup, open_rollup
from chat_stats.service.settings import Settings
from chat_stats.worker import tasks
from tests.conftest import Connection
from tests.processes import ROOT, chat_stats
from tests.rollup.conftest import Connect, ignored
from tests.rollup.exactness import assert_exact
from tests.rollup.workload import ORDINARY
from tests.rollup.writers import writing

READY = "SELECT chat_stats_rollup_ready()"
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'chat\\_stats\\_%'"

#: `chat-stats rollup enable` with a backfill in many small chunks.
SMALL_CHUNKS = (
    "import sys; from chat_stats.service.rollup import chunks; chunks.CHUNK_REQUESTS = 200;"
    "sys.argv = ['', 'rollup', 'enable']; from chat_stats.worker.cli import main; main()"
)


@pytest.mark.slow
async def test_it_is_exact_over_a_table_that_is_written_to_and_keeps_no_writer_waiting(
    requests: Connection, database_url: str, rollup: Rollup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_REQUESTS", 2000)
    async with writing(database_url, 4) as written:
        await asyncio.sleep(1)
        usual, written.slowest_seconds = written.slowest_seconds, 0
        await rollup.enable(ignored)
        slowest = written.slowest_seconds
        assert await requests.fetchval(READY)
        await asyncio.sleep(0.3)
    print(f"slowest statement of a writer: {usual * 1000:.0f} ms before, {slowest * 1000:.0f} ms during")  # noqa: T201
    assert slowest < max(0.2, usual) + 0.5  # 200 ms, and what else runs on this machine
    await assert_exact(requests)


@pytest.mark.slow
async def test_two_connections_backfill_days_of_their_own_at_the_same_time_and_it_is_exact(
    requests: Connection, database_url: str, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_REQUESTS", 1000)
    settings = Settings(database_url=env["CHAT_STATS_DATABASE_URL"], redis_url="redis://x", _env_file=None)
    await requests.execute(ORDINARY, 20_000)
    sizes = []
    async with writing(database_url, 2), open_rollup(settings) as rollup:
        together = rollup.chunks.together

        async def heard(place: str, end: str, count: int) -> AsyncIterator[list[chunks.Chunk]]:
            async for found in together(place, end, count):
                sizes.append(len(found))
                yield found

        monkeypatch.setattr(rollup.chunks, "together", heard)
        await rollup.enable(ignored)
    assert sizes.count(2) >= 5
    await assert_exact(requests)


@pytest.mark.slow
async def test_while_a_long_transaction_is_open_writers_wait_only_for_a_moment_at_a_time(
    requests: Connection, database_url: str, connect: Connect
) -> None:
    long = await connect()
    transaction = long.transaction()
    await transaction.start()
    await long.execute(ORDINARY, 1)
    async with writing(database_url, 2) as written:
        enabling = asyncio.create_task(Rollup(requests).enable(ignored))
        await asyncio.sleep(3)
        assert not enabling.done()
        assert written.slowest_seconds < 2.5
        await transaction.commit()
        await asyncio.wait_for(enabling, 20)
    await assert_exact(requests)


async def test_a_backfill_that_is_killed_goes_on_where_it_stopped_and_ends_exact(
    requests: Connection, env: dict[str, str], tmp_path: Path
) -> None:
    place = "SELECT NULLIF(backfilled_to, '-infinity')::text FROM chat_stats_rollup_state"
    await requests.execute(ORDINARY, 20_000)
    with (tmp_path / "log").open("wb") as log:
        enabling = subprocess.Popen(  # noqa: ASYNC220  (it only starts it)
            [sys.executable, "-c", SMALL_CHUNKS], env=env, cwd=ROOT, stderr=log
        )
    try:
        while not await requests.fetchval(place):
            assert enabling.poll() is None, (tmp_path / "log").read_text()
            await asyncio.sleep(0.01)
    finally:
        enabling.kill()
        enabling.wait()
    assert not await requests.fetchval(READY)
    status = chat_stats("rollup", "status", "--json", env=env)
    assert (status.returncode, json.loads(status.stdout)["state"]) == (0, "backfilling")
    scanned = await requests.fetchval("SELECT sum(request_count) FROM get_model_request_counts()")
    assert scanned == await requests.fetchval(
        "SELECT count(*) FROM chat_completion_requests AS r JOIN models AS m ON m.id = r.model_id"
    )
    await requests.execute(ORDINARY, 500)

    stopped_at = await requests.fetchval(place)
    places = []
    rollup = Rollup(requests)
    one_by_one = rollup.chunks.one_by_one

    def noted(place: str, end: str = "infinity") -> AsyncIterator[chunks.Chunk]:
        places.append(place)
        return one_by_one(place, end)

    rollup.chunks.one_by_one = noted  # type: ignore[method-assign]
    until_free = time.monotonic() + 20
    while time.monotonic() < until_free:
        try:
            await rollup.enable(ignored)
            break
        except DatabaseBusy:  # the server has not yet noticed that the command is gone
            await asyncio.sleep(0.1)
    assert places == [stopped_at]
    assert await requests.fetchval(READY)
    await assert_exact(requests)


async def test_disable_drops_the_triggers_empties_the_rollup_and_scans_again(
    rolled_up: Connection, rollup: Rollup
) -> None:
    assert await rolled_up.fetchval(TRIGGERS) == 4
    await rollup.disable()
    assert await rolled_up.fetchval(TRIGGERS) == 0
    assert not await rolled_up.fetchval(READY)
    for table in ROLLUP_TABLES:
        assert await rolled_up.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert (await rollup.status()).state == "off"
    await rollup.enable(ignored)
    await assert_exact(rolled_up)


async def test_a_reader_with_an_older_snapshot_keeps_reading_the_disabled_rollup(
    rolled_up: Connection, connect: Connect
) -> None:
    reader = await connect()
    counts = "SELECT * FROM get_model_request_counts()"
    async with reader.transaction(isolation="repeatable_read"):
        await reader.fetchval("SELECT 1 FROM pg_class LIMIT 1")
        expected = await rolled_up.fetch(counts)
        await Rollup(rolled_up).disable()
        await rolled_up.execute(ORDINARY, 10)
        assert await reader.fetch(counts) == expected


async def test_enabling_and_disabling_twice_is_harmless(rolled_up: Connection, rollup: Rollup) -> None:
    await rollup.enable(ignored)
    await assert_exact(rolled_up)
    await rollup.disable()
    await rollup.disable()
    assert (await rollup.status()).state == "off"


async def test_of_two_at_once_one_says_that_the_other_is_under_way(
    requests: Connection, connect: Connect
) -> None:
    results = await asyncio.gather(
        Rollup(requests).enable(ignored), Rollup(await connect()).enable(ignored), return_exceptions=True
    )
    (busy,) = (result for result in results if result is not None)
    assert isinstance(busy, DatabaseBusy)
    assert "under way" in str(busy)
    await assert_exact(requests)


async def test_the_commands_report_what_they_did(requests: Connection, env: dict[str, str]) -> None:
    for command, said in {
        "status": "off: chat-stats rollup enable",
        "enable": "the rollup is on",
        "verify": "0 buckets differ",
        "repair": "0 buckets were repaired",
        "disable": "the rollup is off",
    }.items():
        done = chat_stats("rollup", command, env=env)
        assert (done.returncode, said in done.stdout) == (0, True), (command, done)
    refused = chat_stats("rollup", "verify", env=env)
    assert (refused.returncode, "the rollup is off" in refused.stderr) == (3, True), refused


async def test_the_worker_folds_what_writers_append(
    rolled_up: Connection, env: dict[str, str], tmp_path: Path
) -> None:
    await rolled_up.execute(ORDINARY, 10)
    settings = Settings(database_url=env["CHAT_STATS_DATABASE_URL"], redis_url="redis://x", _env_file=None)
    assert await tasks.fold(settings) > 0
    assert await tasks.audit(settings) == 0
    assert (await Rollup(rolled_up).status()).unfolded_deltas == 0
