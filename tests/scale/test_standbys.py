"""What is read from a standby is as old as the standby; one that is down or too far behind is passed over."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from asgi_lifespan import LifespanManager

from chat_stats.service import stats
from chat_stats.service.app import create_app
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.compute import ladder
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import DatabaseUnavailable
from chat_stats.service.settings import Settings
from chat_stats.worker.cli.status import collect
from chat_stats.worker.local_servers import PostgresServer, RedisServer
from tests.conftest import make_settings, run_migrations
from tests.integration.conftest import Flow, open_flow
from tests.integration.http_client import get
from tests.integration.scrape import scrape
from tests.scale.standby import Pair, ask, pair

pytestmark = pytest.mark.slow

BEHIND_SECONDS = 20.0
#: A role that may do what services need, and no more.
ROLE = "chat_stats"
FILL = (
    "INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one')",
    "INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Alpha')",
    f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'",
    f"GRANT SELECT ON providers, models, chat_completion_requests TO {ROLE}",
    f"SELECT chat_stats_grant_read('{ROLE}')",
)
INSERT = "INSERT INTO chat_completion_requests (model_id, input_tokens) VALUES (1, 10) RETURNING 1"
COUNT = "SELECT count(*)::int FROM chat_completion_requests"
DEAD = "127.0.0.1:1"


@pytest.fixture(scope="module")
def servers(server_folder: Path) -> Iterator[Pair]:
    folder = server_folder / "standbys"
    folder.mkdir()
    folder.chmod(0o755)
    with pair(folder) as servers:
        asyncio.run(run_migrations(servers.primary.url()))
        asyncio.run(ask(servers.primary.url(), *FILL, INSERT))
        yield servers


@pytest.fixture
async def behind(servers: Pair) -> AsyncIterator[int]:
    """Stop the standby's replay; it lacks one request of the primary. Gives how many it has."""
    known: int = await ask(servers.primary.url(), COUNT)
    await asyncio.to_thread(servers.pause)
    await ask(servers.primary.url(), INSERT)
    yield known
    await asyncio.to_thread(servers.resume)


def settings_of(servers: Pair, redis: RedisServer, **overrides: Any) -> Settings:
    urls = {"database_url": url_of(servers.primary), "read_database_url": url_of(servers.standby)}
    return make_settings(**{"redis_url": redis.url, **urls, **overrides})


def url_of(server: PostgresServer) -> str:
    return server.url().replace(f"postgres:{server.password}", f"{ROLE}:{ROLE}")


def dead(server: PostgresServer) -> str:
    """Return the server's URL with a port where nothing listens."""
    return url_of(server).replace(f"127.0.0.1:{server.port}", DEAD)


async def total(settings: Settings) -> int:
    """Return how many requests a process with these settings computes."""
    async with open_flow(settings) as flow:
        entry = (await flow.stats.read(Query("counts"))).entry
        return int(entry.totals["total_requests"])


async def test_an_answer_of_a_standby_that_is_20_seconds_behind_says_so(
    servers: Pair, redis: RedisServer, behind: int
) -> None:
    await asyncio.sleep(BEHIND_SECONDS)
    settings = settings_of(servers, redis)
    async with AsyncExitStack() as stack:
        app = create_app(settings)
        await stack.enter_async_context(LifespanManager(app))
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/monitoring")
        )
        counts = (await get(client, "/chat-requests/counts"))["metadata"]
        assert counts["cache_age_seconds"] >= BEHIND_SECONDS
        assert counts["total_requests"] == behind
        requests = (await get(client, "/chat-requests"))["metadata"]
        assert requests["cache_age_seconds"] >= BEHIND_SECONDS
        assert requests["total_count"] == behind
        ready = (await client.get("http://test/health/ready")).json()
        assert ((await scrape(client)).value("standby_lag_seconds", standby="1") or 0) >= BEHIND_SECONDS
    assert (ready["standbys"][0]["ok"], ready["standbys"][0]["lag_seconds"] >= BEHIND_SECONDS) == (True, True)
    [standby] = (await collect(settings)).standbys
    assert (standby.host, standby.trouble) == (f"127.0.0.1:{servers.standby.port}", None)
    async with open_flow(settings) as flow:
        report = await flow.refresh(["counts"])
        assert flow.database.clock.seconds_since(report.computed_at) >= BEHIND_SECONDS


async def test_an_answer_from_behind_replaces_no_newer_one(
    servers: Pair, redis: RedisServer, behind: int
) -> None:
    settings = settings_of(servers, redis)
    newer = settings.model_copy(update={"read_database_url": None})
    assert await total(newer) == behind + 1
    async with open_flow(settings) as flow:
        report = await flow.refresh(["counts", "summary"], ["all"])
        assert report.published
        kept = [await flow.cache.get(Query(name).key()) for name in ("counts", "summary")]
        assert [entry is not None and entry.totals.get("total_requests") for entry in kept] == [
            behind + 1,
            None,
        ]
        assert kept[1] is not None
        assert kept[1].computed_at == report.computed_at


async def test_a_standby_too_far_behind_is_read_only_when_the_primary_does_not_answer(
    servers: Pair, redis: RedisServer, behind: int
) -> None:
    await asyncio.sleep(1)
    settings = settings_of(servers, redis, max_standby_lag_seconds=0.5)
    assert await total(settings) == behind + 1
    alone = settings_of(servers, redis, max_standby_lag_seconds=0.5, database_url=dead(servers.primary))
    assert await total(alone) == behind
    [standby] = (await collect(settings)).standbys
    assert standby.trouble == "it is more than 0.5 s behind"


async def test_what_cannot_get_fresh_is_not_recomputed_for_each_request(
    servers: Pair, redis: RedisServer, behind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.sleep(2)
    computed: list[Query] = []
    compute = ladder.compute

    async def noting(snapshot: Snapshot, query: Query, *, timeout: float) -> Any:
        computed.append(query)
        return await compute(snapshot, query, timeout=timeout)

    monkeypatch.setattr(stats, "compute", noting)
    async with open_flow(
        settings_of(servers, redis, fresh_seconds=0.5, database_url=dead(servers.primary))
    ) as flow:
        for _ in range(20):
            assert (await flow.stats.read(Query("counts"))).entry.totals["total_requests"] == behind
            await asyncio.sleep(0.05)
    assert 1 <= len(computed) <= 3


async def test_a_standby_that_has_all_of_an_idle_primary_is_not_behind(
    servers: Pair, redis: RedisServer
) -> None:
    await asyncio.sleep(5)  # the last commit is older
    async with open_flow(settings_of(servers, redis)) as flow:
        deadline = time.monotonic() + 60
        while True:
            async with flow.database.snapshot(wait_seconds=5) as snapshot:
                if snapshot.of_standby and flow.database.clock.seconds_since(snapshot.now) < 2:
                    break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)


async def test_a_host_that_hangs_leaves_time_for_the_others(servers: Pair, redis: RedisServer) -> None:
    connected = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(reader)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as hanging:
        hosts = [hanging.sockets[0].getsockname()[1], servers.standby.port, servers.primary.port]
        url = url_of(servers.primary).replace(
            f"127.0.0.1:{servers.primary.port}", ",".join(f"127.0.0.1:{port}" for port in hosts)
        )
        # The standby refuses to be the primary.
        settings = settings_of(
            servers, redis, database_url=url, read_database_url=None, connect_timeout_seconds=9
        )
        async with (
            open_flow(settings) as flow,
            flow.database.lock("any"),
            flow.database.transaction(reads=False) as snapshot,
        ):
            assert not snapshot.of_standby
    assert len(connected) == 1  # the primary comes first from then on


async def test_without_a_standby_the_primary_is_read_and_nothing_hangs(
    servers: Pair, redis: RedisServer
) -> None:
    await ask(servers.primary.url(), INSERT)
    known = await ask(servers.primary.url(), COUNT)
    assert await total(settings_of(servers, redis, read_database_url=dead(servers.standby))) == known
    several = f"{DEAD},127.0.0.1:{servers.standby.port}"
    url = url_of(servers.standby).replace(f"127.0.0.1:{servers.standby.port}", several)
    settings = settings_of(servers, redis, read_database_url=url, connect_timeout_seconds=1)
    async with open_flow(settings) as flow:
        await standby_is_read(flow)
        assert servers.standby.process is not None
        frozen = psutil.Process(servers.standby.process.pid)
        processes = [frozen.pid, *(child.pid for child in frozen.children(recursive=True))]
        for number in processes:
            os.kill(number, signal.SIGSTOP)
        try:
            async with asyncio.timeout(30):
                entry = (await flow.stats.read(Query("counts"))).entry
            assert entry.totals["total_requests"] == known
        finally:
            for number in processes:
                os.kill(number, signal.SIGCONT)
        await standby_is_read(flow)


async def standby_is_read(flow: Flow) -> None:
    """Wait until it is, with attempts that follow each other closely."""
    deadline = time.monotonic() + 60
    while True:
        with suppress(DatabaseUnavailable):  # so slow can this machine be
            async with flow.database.snapshot(wait_seconds=5) as snapshot:
                if snapshot.of_standby:
                    return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
