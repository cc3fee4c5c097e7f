"""The protocol, the fast path's ASGI layer and the ordinary route: clients get the same answers from all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import fastapi.dependencies.utils
import fastapi.routing
import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.http.fast_path import LONGEST_QUERY_STRING, RENDERED_SECONDS
from chat_stats.service.http.hits import Hits
from chat_stats.service.settings import Settings
from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient
from tests.integration.wire import Connection, ports_of, stop_time

Headers = list[tuple[str, str]]

BASE = "/chat-requests"
PATHS = [
    *("/providers", "/models", "/counts", "/summary", "/models/1", "/models/%31", "/models/01"),
    *("/models?", "/models?&", "/models?window=24h", "/models?window=all", "/models?%77indow=24h"),
    *("/models?window=24h&window=1y", "/models?window=24h&unknown=1", "/models?_=1", "/models?_=1&_=2&a=1"),
    *("/models?WINDOW=1y", "/models?window=24h#window=1y", "/models?window=24h;x", "/models?window=24h%00"),
    *("/models?provider_id=1", "/models?provider_id=1&provider_id=2", "/models?provider_id=%31"),
    *("/models?provider_id=424242", "/models?provider_id=-1", "/models?provider_id=", "/models?provider_id"),
    *("/summary?start_date=2020-01-01", "/summary?start_date=2020-01-01&end_date=2020-01-01"),
    *("/summary?start_date=2020-01-01T00:00:00%2B01:00", "/summary?start_date=2020-01-01T00:00:00+01:00"),
    *("/summary?start_date=yesterday", "/summary?window=24h&start_date=2020-01-01", "/counts?window="),
    *(
        "/models/4",
        "/models/424242",
        "/models/abc",
        "/models/1/",
        "/Models",
        "//models",
        "/nothing",
        "/%6dodels",
    ),
    *("/counts?window=1y", "/counts?%ff=%fe", "/counts?window=%ff", "/counts?a=" + "x" * 500),
]
ENCODINGS = [
    "",
    "gzip",
    "identity",
    "gzip;q=0",
    "*",
    "*;q=0",
    "br, gzip;q=0.5",
    "gzip;q=0.5, identity",
    "x, y;q=z",
    "gzip, deflate, br, zstd",
    "zstd;q=0.5, gzip;q=0.4",
]
TAGS = [
    "{etag}",
    "{strong}",
    "*",
    '"other", {etag}',
    '"a, b" , {strong}',
    '"other"',
    "",
    "{bare}",
    '"*"',
    "{etag}x",
]
KEYS: list[Headers] = [
    [],
    [("X-API-Key", "first")],
    [("X-API-Key", "First")],
    [("X-API-Key", "")],
    [("X-API-Key", "wrong"), ("X-API-Key", "second")],
    [("Authorization", "Bearer second")],
    [("Authorization", "bearer   first ")],
    [("Authorization", "Bearer")],
    [("Authorization", "Basic first")],
    [("Authorization", "Bearer wrong"), ("X-API-Key", "first")],
    [("Authorization", "Bearer first, second")],
]


@dataclass
class Ways:
    """Two services on the same cache: one with the fast path, one without."""

    fast: httpx.AsyncClient
    ordinary: httpx.AsyncClient
    #: Requests that the fast path passed on to the route.
    handed_on: list[str] = field(default_factory=list)
    #: Connections by what answers on them first: the protocol, the fast path's ASGI layer, the route.
    connections: dict[str, Connection] = field(default_factory=dict)
    #: Requests that the protocol answered by itself.
    hits: int = 0

    async def compare(self, method: str, path: str, headers: Headers = ()) -> httpx.Response:  # type: ignore[assignment]
        """Send the request all ways, after the fast path has learned its target; return its answer."""
        await self.fast.get(BASE + path, headers=[("X-API-Key", "first")])
        lines = [f"{method} /api/monitoring{BASE}{path} HTTP/1.1", "Host: test"]
        request = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers), "", ""]).encode()
        answers = {name: await each.send(request) for name, each in self.connections.items()}
        answers["protocol, again"] = await self.connections["protocol"].send(request)
        assert set(answers.values()) == {answers["route"]}, (request, answers)
        head, _, body = answers["route"].partition(b"\r\n\r\n")
        (_, status, *_), *fields = (line.split(b" ") for line in head.splitlines())
        named = [(name[:-1], b" ".join(value)) for name, *value in fields]
        return httpx.Response(int(status), headers=named, content=body)


@pytest.fixture
async def open_ways(client_of: OpenClient, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator["OpenWays"]:
    async with AsyncExitStack() as stack:

        async def open_with(settings: Settings) -> Ways:
            ways = Ways(await client_of(settings), await client_of(settings))
            await app_of(ways.ordinary).state.services.fast_path.close()
            fast_path = app_of(ways.fast).state.services.fast_path
            ordinary_way = fast_path._app

            async def counted(scope: Scope, receive: Receive, send: Send) -> None:
                ways.handed_on.append(scope["path"])
                await ordinary_way(scope, receive, send)

            fast_path._app = counted
            # Both find all answers in Redis, and then in their own memory.
            for client in (ways.fast, ways.ordinary):
                for path in PATHS * 2:
                    await client.get(BASE + path, headers=[("X-API-Key", "first")])
            stop_time(monkeypatch, app_of(ways.fast), app_of(ways.ordinary))
            fast, ordinary = [
                await stack.enter_async_context(ports_of(app_of(client)))
                for client in (ways.fast, ways.ordinary)
            ]
            ways.connections = {
                "protocol": await fast.connect(),
                "ASGI layer": await fast.connect(hits=False),
                "route": await ordinary.connect(),
            }
            answer = Hits.answer

            def counted_answer(self: Hits, *arguments: Any) -> bool:
                is_answered = answer(self, *arguments)
                ways.hits += is_answered
                return is_answered

            monkeypatch.setattr(Hits, "answer", counted_answer)
            return ways

        yield open_with


def app_of(client: httpx.AsyncClient) -> FastAPI:
    return client._transport.app  # type: ignore[attr-defined]


OpenWays = Callable[[Settings], Awaitable[Ways]]


@pytest.fixture
async def many_models(gateway: asyncpg.Connection) -> None:
    """Add as many models as a body needs to be compressed, with zstd too."""
    await gateway.execute("""
        INSERT INTO models (id, provider_id, model_name, provider_model_id)
        SELECT n, 1, 'Model ' || n, 'one/' || n FROM generate_series(5, 60) AS n;
        INSERT INTO chat_completion_requests (model_id, created_at)
        SELECT n, now() FROM generate_series(5, 60) AS n;
    """)


@pytest.fixture(params=[60, 0], ids=["own copies", "asking Redis each time"])
def local_cache_seconds(request: pytest.FixtureRequest) -> Iterator[int]:
    return request.param


@pytest.mark.usefixtures("many_models")
async def test_both_paths_answer_every_request_alike(
    open_ways: OpenWays, settings_with: SettingsFactory, local_cache_seconds: int
) -> None:
    ways = await open_ways(settings_with(local_cache_seconds=local_cache_seconds))
    statuses, encodings = set(), set()
    ways.hits = 0
    for path in PATHS:
        for method in ("GET", "HEAD", "POST", "OPTIONS") if local_cache_seconds else ("GET",):
            statuses.add((await ways.compare(method, path)).status_code)
    assert statuses == {200, 307, 404, 422} | ({405} if local_cache_seconds else set())
    for path in ("/models", "/counts?window=24h", "/models/1", "/models/abc"):
        etag = (await ways.fast.get(BASE + path)).headers.get("etag", 'W/"none"')
        strong = etag.removeprefix("W/")
        for method in ("GET", "HEAD"):
            for encoding in ENCODINGS:
                answer = await ways.compare(method, path, [("Accept-Encoding", encoding)])
                encodings.add(answer.headers.get("content-encoding"))
            for tag in TAGS:
                value = tag.format(etag=etag, strong=strong, bare=strong.strip('"'))
                await ways.compare(method, path, [("If-None-Match", value), ("Accept-Encoding", "gzip")])
    assert encodings == {None, "gzip", "zstd"}
    assert (ways.hits > 100) is bool(local_cache_seconds)  # so many requests were compared, twice


async def test_the_first_request_does_not_wait_for_routes_to_be_built(
    client_of: OpenClient,
    settings_with: SettingsFactory,
    gateway: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = await client_of(settings_with())
    built: list[object] = []
    get_dependant = fastapi.dependencies.utils.get_dependant

    def noting(**arguments: Any) -> Any:
        built.append(arguments)
        return get_dependant(**arguments)

    monkeypatch.setattr(fastapi.routing, "get_dependant", noting)
    for path in (f"{BASE}/counts", BASE, f"{BASE}/query"):
        await client.get(path)
    assert built == []


@pytest.mark.usefixtures("many_models")
async def test_hits_take_the_fast_path(open_ways: OpenWays, settings_with: SettingsFactory) -> None:
    ways = await open_ways(settings_with(local_cache_seconds=60))
    ways.handed_on.clear()
    for path in ("/models", "/models/%31", "/summary?start_date=2020-01-01"):
        for method in ("GET", "HEAD"):
            response = await ways.fast.request(method, BASE + path)
            assert response.status_code == 200
            assert response.headers["cache-status"].startswith("chat-stats; hit")
    assert ways.handed_on == []
    await ways.fast.post(f"{BASE}/models")
    await ways.fast.get(f"{BASE}/models?window=1y")
    await ways.fast.get(f"{BASE}/models?window=30d&window=24h")  # a new target for a known key
    assert len(ways.handed_on) == 3


async def test_of_many_requests_for_one_computation_all_but_the_first_take_the_fast_path(
    open_ways: OpenWays, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    ways = await open_ways(settings_with(local_cache_seconds=60))
    ways.handed_on.clear()
    target = f"{BASE}/counts?start_date=2020-01-02"
    answers = await asyncio.gather(*(ways.fast.get(target) for _ in range(50)), ways.fast.head(target))
    assert [answer.status_code for answer in answers] == [200] * 51
    assert {answer.headers["cache-status"] for answer in answers} == {"chat-stats; fwd=miss; stored"}
    assert len({answer.json()["metadata"]["generation"] for answer in answers[:-1]}) == 1
    assert len(ways.handed_on) == 1


async def test_waiting_for_a_failing_computation_gives_the_same_error_on_both_paths(
    open_ways: OpenWays, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    ways = await open_ways(settings_with())
    await gateway.execute("ALTER TABLE chat_completion_requests RENAME TO elsewhere")
    target = "/counts?start_date=2020-01-02"
    assert (await ways.compare("GET", target)).status_code == 503
    answers = await asyncio.gather(*(ways.fast.get(BASE + target) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["title"] for answer in answers} == {"Database schema incomplete"}
    assert all(answer.json()["request_id"] == answer.headers["x-request-id"] for answer in answers)


@pytest.mark.usefixtures("many_models")
async def test_both_paths_require_the_same_keys(open_ways: OpenWays, settings_with: SettingsFactory) -> None:
    ways = await open_ways(settings_with(api_keys="first, second", local_cache_seconds=60))
    statuses = [
        (await ways.compare(method, "/models?window=24h", headers)).status_code
        for headers in KEYS
        for method in ("GET", "HEAD")
    ]
    assert statuses[::2] == statuses[1::2] == [401, 200, 401, 401, 200, 200, 200, 401, 401, 200, 401]


@pytest.mark.usefixtures("many_models")
@pytest.mark.parametrize("origins", ["https://dashboard.example", "*"])
async def test_both_paths_send_the_same_cors_headers(
    open_ways: OpenWays, settings_with: SettingsFactory, origins: str
) -> None:
    ways = await open_ways(settings_with(cors_origins=origins, local_cache_seconds=60))
    ways.handed_on.clear()
    for origin in ("https://dashboard.example", "https://elsewhere.example"):
        response = await ways.compare("GET", "/models", [("Origin", origin)])
        allowed = origins == "*" or origin == origins
        assert ("access-control-allow-origin" in response.headers) is allowed
        assert "Origin" in response.headers["vary"]
        preflight = [("Origin", origin), ("Access-Control-Request-Method", "GET")]
        assert (await ways.compare("OPTIONS", "/models", preflight)).status_code == (200 if allowed else 400)
    assert "Origin" in (await ways.compare("GET", "/models")).headers["vary"]
    assert ways.handed_on == []


async def test_the_number_of_known_targets_is_bounded(
    client_of: OpenClient,
    settings_with: SettingsFactory,
    gateway: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chat_stats.service.http.fast_path.CAPACITY", 5)
    client = await client_of(settings_with(local_cache_seconds=60))
    targets = app_of(client).state.services.fast_path._targets
    await client.get(f"{BASE}/counts?{'&' * LONGEST_QUERY_STRING}&")
    await client.get(f"{BASE}/counts?_=1")
    await client.get(f"{BASE}/counts?unknown=1")
    assert len(targets) == 0
    for number in range(8):
        await client.get(f"{BASE}/counts?{'&' * number}")
    assert [query_string for _, query_string, _ in targets] == [
        b"&&&",
        b"&&&&",
        b"&&&&&",
        b"&&&&&&",
        b"&&&&&&&",
    ]


async def test_ages_advance_and_a_newer_answer_is_served_at_once(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    client = await client_of(settings_with(local_cache_seconds=60))

    async def metadata() -> dict[str, Any]:
        answer: dict[str, Any] = (await client.get(f"{BASE}/counts")).json()["metadata"]
        return answer

    await metadata()
    earlier = await metadata()
    await asyncio.sleep(2 * RENDERED_SECONDS)
    later = await metadata()
    assert earlier["cache"] == later["cache"] == "hit"
    assert later["cache_age_seconds"] > earlier["cache_age_seconds"]
    assert later["timestamp"] > earlier["timestamp"]

    stats = app_of(client).state.services.stats
    key = Query("counts").key()
    entry = stats.recent(key)
    stats._local.put(key, replace(entry, generation="newer", computed_at=datetime.now(UTC)))
    assert (await metadata())["generation"] == "newer"


async def test_the_fast_path_serves_stale_numbers_and_has_them_recomputed(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    client = await client_of(settings_with(fresh_seconds=1, local_cache_seconds=0.1))
    states = []
    for _ in range(1000):
        states.append((await client.get(f"{BASE}/counts")).json()["metadata"]["cache"])
        if "stale" in states and states[-1] == "hit":
            break
        await asyncio.sleep(0.01)
    assert states[:2] == ["miss", "hit"]
    assert "stale" in states
    assert states[-1] == "hit"


async def test_a_deleted_model_is_not_found_on_both_paths(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    """After its answer has left all caches: the fast path stores targets, not answers."""
    settings = settings_with(fresh_seconds=0.05, stale_seconds=0.05)
    client = await client_of(settings)
    assert (await client.get(f"{BASE}/models/4")).status_code == 200
    await gateway.execute("DELETE FROM models WHERE id = 4")
    statuses: list[int] = []
    while len(statuses) < 200 and statuses[-1:] != [404]:
        statuses.append((await client.get(f"{BASE}/models/4")).status_code)
        await asyncio.sleep(0.01)
    assert statuses[-1] == 404
