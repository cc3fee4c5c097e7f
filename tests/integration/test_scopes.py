"""Two scopes against each other: a key gets what it would get if there were no rows outside of its scope."""

import asyncio
import io
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import orjson
import pyarrow.parquet
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from chat_stats.service.app import BASE_PATH
from chat_stats.service.keys.scopes import parse_scope
from chat_stats.service.keys.table import open_keys
from chat_stats.service.rollup.own import open_own_rollups
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings
from chat_stats.worker.local_servers import PostgresServer, RedisServer
from tests.conftest import _create_database, _drop_database, make_settings
from tests.integration.conftest import OpenClient
from tests.integration.wire import ports_of, request

Row = dict[str, Any]

NOW = datetime.now(UTC).replace(microsecond=0)
PROVIDERS = {1: "One", 2: "Two", 3: "secret provider"}
#: Their providers, by id. Only b has requests of 4 and 5; 6 has none.
MODELS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 2, 6: 1}
CREATE = "ALTER TABLE chat_completion_requests ADD COLUMN tags jsonb"


def made_rows() -> list[Row]:
    draw = random.Random(11)  # noqa: S311
    rows = []
    for number in range(1, 301):
        user = draw.choice(["a", "a", "secret-b", "secret-b", None])
        of_b = user == "secret-b"
        age = timedelta(minutes=draw.randint(5, 20 * 24 * 60))
        rows.append(
            {
                "id": 999_999_000 + number if of_b else number,
                "request_id": f"{'secret' if of_b else 'r'}-{number}",
                "model_id": draw.choice([1, 2, 3, 4, 5, 88] if of_b else [1, 2, 3, 77, None]),
                "input_tokens": draw.randint(1, 900),
                "output_tokens": draw.randint(1, 90),
                "processing_time_ms": draw.choice([None, draw.randint(1, 5000)]),
                "status": draw.choice(["completed", "completed", "failed", "pending"]),
                "error_message": draw.choice(["HTTP 429", "sierra" if of_b else "timeout"]),
                "user_id": user,
                "cost_usd": draw.choice([None, draw.randint(1, 99) / 64]),
                # b came first, and has what has no time.
                "created_at": (None if draw.random() < 0.05 else NOW - age - timedelta(days=900))
                if of_b
                else NOW - age,
                "tags": None
                if user is None
                else orjson.dumps({"team": "sierra" if of_b else "red"}).decode(),
            }
        )
    return rows


def provider_of(row: Row) -> int | None:
    return MODELS.get(row["model_id"])


@dataclass(frozen=True)
class Tenant:
    """A scope, and the rows that it means."""

    scope: tuple[str, ...]
    has: Callable[[Row], bool]
    #: Of the tenant whose requests warm the caches.
    other: tuple[str, ...]
    #: Whether answers come from rollups.
    rolled_up: bool = False


USER = Tenant(("user_id=a",), lambda row: row["user_id"] == "a", ("user_id=secret-b",))
TENANTS = [
    pytest.param(USER, id="user"),
    pytest.param(
        Tenant(
            ("team=red", "status=completed"),
            lambda row: row["user_id"] == "a" and row["status"] == "completed",
            ("team=sierra",),
        ),
        id="team and status",
    ),
    pytest.param(
        Tenant(("provider_id=1",), lambda row: provider_of(row) == 1, ("provider_id=3",)),
        id="provider",
    ),
    pytest.param(
        Tenant(("user_id=__null__",), lambda row: row["user_id"] is None, ("user_id=secret-b",)),
        id="no user",
    ),
    pytest.param(replace(USER, rolled_up=True), id="user of a rollup"),
]

#: A target of each endpoint.
ENDPOINTS = [
    *(f"/chat-requests/{name}" for name in ("providers", "models", "models/1", "counts", "summary")),
    "/chat-requests/timeseries?bucket=1d&group_by=model",
    "/chat-requests",
    "/chat-requests/plot-data",
    "/chat-requests/query?group_by=user_id&bucket=1d",
    "/chat-requests/dimensions?name=user_id",
]
#: What a client tries, beside the random targets.
HOSTILE = [
    "/chat-requests/query?user_id=secret-b",
    "/chat-requests/query?user_id!=a&group_by=user_id",
    "/chat-requests/query?not_user_id=a&group_by=user_id",
    "/chat-requests/query?user_id=a&user_id=secret-b&group_by=user_id",
    "/chat-requests/query?user_id=__null__&group_by=user_id",
    "/chat-requests/query?not_status=completed&group_by=status",
    "/chat-requests/query?team=sierra&team=red&group_by=team,user_id",
    "/chat-requests/query?not_team=red&group_by=team",
    "/chat-requests/query?provider_id=3&group_by=model_id",
    "/chat-requests/query?not_provider_id=1&group_by=provider_id",
    "/chat-requests/query?model_id=unresolved&group_by=user_id",
    "/chat-requests/query?group_by=user_id,model_id,error_kind&order_by=-total_cost_usd&limit=10000",
    "/chat-requests/query?bucket=1mo&group_by=team",
    "/chat-requests/query?bucket=15m",
    "/chat-requests/query?group_by=user_id&window=7d&compare=previous",
    "/chat-requests/query?group_by=user_id&start_date=2000-01-01&compare=2001-01-01&bucket=1mo",
    "/chat-requests/query?group_by=user_id&format=csv",
    "/chat-requests/query?group_by=user_id,model_id&format=parquet",
    "/chat-requests/query?group_by=user_id&format=ndjson&user_id=secret-b",
    "/chat-requests/dimensions",
    *(f"/chat-requests/dimensions?name={name}" for name in ("team", "model_id", "provider_id", "error_kind")),
    "/chat-requests/dimensions?name=user_id&prefix=secret",
    "/chat-requests/dimensions?name=model_id&prefix=s",
    "/chat-requests/dimensions?name=provider_id&prefix=3",
    *(f"/chat-requests/models/{model}" for model in (2, 3, 4, 5, 6, 88, 123)),
    *(f"/chat-requests?{filters}" for filters in ("user_id=secret-b", "not_user_id=a", "model_id=4")),
    "/chat-requests?model_id=unresolved&limit=1000",
    "/chat-requests?provider_id=3",
    "/chat-requests?model_name=e",
    "/chat-requests?limit=50&offset=10",
    *(f"/chat-requests?format={name}&limit=1000" for name in ("csv", "ndjson", "parquet")),
    "/chat-requests/plot-data?points=10",
    "/chat-requests/plot-data?model_id=unresolved",
    "/chat-requests/timeseries?bucket=1mo",
    "/chat-requests/timeseries?bucket=1d&group_by=provider",
    *(f"/chat-requests/{name}?provider_id=3" for name in ("summary", "providers", "models", "counts")),
    *(f"/chat-requests/{name}?model_id=4" for name in ("summary", "providers", "models", "counts")),
    *(f"/chat-requests/{name}?model_id=unresolved" for name in ("summary", "timeseries")),
    *(f"/chat-requests/{name}?user_id=secret-b" for name in ("summary", "models", "counts", "timeseries")),
    "/chat-requests/models?order_by=-total_cost_usd&limit=1",
    "/chat-requests/summary?window=30d",
    "/chat-requests/summary?end_date=2024-01-01",
]


def random_targets(count: int) -> list[str]:
    draw = random.Random(5)  # noqa: S311
    targets = []
    for _ in range(count):
        grouped = draw.sample(["user_id", "team", "model_id", "provider_id", "status", "error_kind"], 2)
        parts = [f"group_by={','.join(grouped)}"]
        parts += draw.sample(
            [
                *("user_id=a", "user_id=secret-b", "not_user_id=secret-b", "team=red", "not_team=sierra"),
                *("status=failed", "not_status=failed", "model_id=4", "not_model_id=4", "provider_id=1"),
                *("error_kind=other", "model_id=unresolved", "not_model_id=unresolved"),
            ],
            draw.randint(0, 3),
        )
        parts += draw.choice([[], ["bucket=1w"], ["window=30d"], ["start_date=2021-01-01"], ["limit=1"]])
        targets.append("/chat-requests/query?" + "&".join(parts))
    return targets


#: What tells when and how an answer was made, and no number.
VOLATILE = (
    "timestamp",
    "computed_at",
    "cache_age_seconds",
    "compute_ms",
    "generation",
    "cache",
    "next_cursor",
)


def plain(response: httpx.Response) -> Any:
    """Return what an answer says, without when and how it was made."""
    kind = response.headers["content-type"]
    if kind == "application/vnd.apache.parquet":
        return pyarrow.parquet.read_table(io.BytesIO(response.content)).to_pylist()
    if not kind.startswith("application/json"):
        return response.content if "problem" not in kind else response.json()["detail"]
    answer = response.json()
    metadata = answer["metadata"]
    return answer | {"metadata": {name: metadata[name] for name in metadata if name not in VOLATILE}}


@dataclass
class World:
    """A service over a database, and keys for it."""

    client: httpx.AsyncClient
    settings: Settings
    #: By whose they are: "own", "other" and "all".
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def app(self) -> FastAPI:
        return self.client._transport.app  # type: ignore[attr-defined]

    async def get(self, target: str, who: str = "own", **headers: str) -> httpx.Response:
        return await self.client.get(target, headers={"Authorization": f"Bearer {self.keys[who]}", **headers})


OpenWorld = Callable[[list[Row], Tenant], Awaitable[World]]
NewDatabase = Callable[[], Awaitable[str]]


@pytest.fixture
async def new_database(
    postgres: PostgresServer, migrated_template: dict[int, str], database_url: str
) -> AsyncIterator[NewDatabase]:
    """Makes databases like that of `database_url`, which makes their template."""
    async with AsyncExitStack() as stack:

        async def make() -> str:
            name = await _create_database(postgres, template=migrated_template[postgres.port])
            stack.push_async_callback(_drop_database, postgres, name)
            return postgres.url(name)

        yield make


@pytest.fixture
def open_world(new_database: NewDatabase, redis: RedisServer, client_of: OpenClient) -> OpenWorld:
    async def open_one(rows: list[Row], tenant: Tenant) -> World:
        url = await new_database()
        await fill(url, rows)
        settings = make_settings(
            url,
            redis.url,
            dimensions="user_id, team=tags->>team",
            require_key=True,
            api_keys=(SecretStr("everything"),),
            local_cache_seconds=60,
            fresh_seconds=7200,
            rate_limit_rows="",
            rate_limit_misses="",
        )
        if tenant.rolled_up:
            async with open_rollup(settings) as rollup:
                await rollup.enable(lambda _: None)
            async with open_own_rollups(settings) as own:
                for name, by in (("users", ["user_id"]), ("users_models", ["user_id", "model_id", "team"])):
                    await own.add(await own.declare(name, by, percentiles=True), lambda _: None)
        world = World(await client_of(settings), settings, {"all": "everything"})
        async with open_keys(settings) as keys:
            for who, scope in (("own", tenant.scope), ("other", tenant.other)):
                world.keys[who] = await keys.create(who, parse_scope(scope, settings.known_dimensions))
        return world

    return open_one


async def fill(url: str, rows: list[Row]) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(CREATE)
    models = {row["model_id"] for row in rows} | {6}
    providers = {MODELS[model] for model in models if model in MODELS}
    await connection.executemany(
        "INSERT INTO providers (id, name, slug) VALUES ($1, $2, $2)",
        [(id_, name) for id_, name in PROVIDERS.items() if id_ in providers],
    )
    await connection.executemany(
        "INSERT INTO models (id, model_name, provider_id) VALUES ($1, $2, $3)",
        [
            (id_, f"secret model {id_}" if id_ in (4, 5) else f"Model {id_}", provider)
            for id_, provider in MODELS.items()
            if id_ in models
        ],
    )
    columns = list(rows[0])
    await connection.copy_records_to_table(
        "chat_completion_requests",
        columns=columns,
        records=[tuple(row[name] for name in columns) for row in rows],
    )
    await connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("tenant", TENANTS)
async def test_no_answer_to_a_scoped_key_depends_on_rows_outside_of_its_scope(
    open_world: OpenWorld, tenant: Tenant
) -> None:
    rows = made_rows()
    both = await open_world(rows, tenant)
    alone = await open_world([row for row in rows if tenant.has(row)], tenant)
    answered = []
    further = [*HOSTILE, *random_targets(15)]
    for target in [*ENDPOINTS, *(further if tenant is USER else further[::3])]:
        expected = await alone.get(target)
        # So that the caches and the fast path know the target.
        tags = [(await both.get(target, who)).headers.get("etag", "") for who in ("other", "all", "all")]
        for _ in range(2):
            got = await both.get(target)
            assert got.status_code == expected.status_code, (target, got.text, expected.text)
            assert plain(got) == plain(expected), target
            assert got.headers.get("etag") == expected.headers.get("etag"), target
        if got.status_code != 200:
            continue
        answered.append(target)
        assert got.headers["cache-control"].startswith("private")
        if "etag" in got.headers and got.headers["etag"] not in tags:
            unchanged = await both.get(target, **{"If-None-Match": ", ".join(filter(None, tags))})
            assert unchanged.status_code == 200, target
        head = await both.client.head(target, headers={"X-API-Key": both.keys["own"]})
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers.get("etag") == got.headers.get("etag"), target
    assert set(ENDPOINTS) <= set(answered)
    source = (await both.get("/chat-requests/query?group_by=user_id")).json()["metadata"]["source"]
    assert source == ("rollup:users" if tenant.rolled_up else "scan")


async def test_every_endpoint_that_reads_is_among_those_that_are_compared(open_world: OpenWorld) -> None:
    world = await open_world(made_rows(), USER)
    paths = {path for path in world.app.openapi()["paths"] if path.startswith(BASE_PATH)}
    compared = {target.partition("?")[0].replace("models/1", "models/{model_id}") for target in ENDPOINTS}
    assert paths == {f"{BASE_PATH}{path}" for path in (*compared, "/events", "/refresh")}
    # The others say nothing of requests, or want another key.
    refused = await world.client.post("/refresh", headers={"X-API-Key": world.keys["own"]})
    assert refused.status_code == 404


async def test_a_cursor_of_another_key_is_refused(open_world: OpenWorld) -> None:
    world = await open_world(made_rows(), USER)
    for target in (
        "/chat-requests/query?group_by=model_id&limit=1",
        "/chat-requests?limit=5",
        "/chat-requests/models?limit=1",
    ):
        cursors = {}
        for who in ("own", "other", "all"):
            cursors[who] = (await world.get(target, who)).json()["metadata"]["next_cursor"]
        assert (await world.get(f"{target}&cursor={cursors['own']}")).status_code == 200
        for who in ("other", "all"):
            refused = await world.get(f"{target}&cursor={cursors[who]}")
            assert (refused.status_code, refused.json()["parameter"]) == (422, "cursor")


async def test_the_http_protocol_answers_each_key_within_its_scope_until_it_is_revoked(
    open_world: OpenWorld, answered: list[bytes]
) -> None:
    world = await open_world(made_rows(), USER)
    url = BASE_PATH + "/chat-requests/query?group_by=user_id"
    users = {"all": {"a", "secret-b", None}, "own": {"a"}, "other": {"secret-b"}}
    async with ports_of(world.app) as ports:
        connection = await ports.connect()

        async def get(who: str) -> tuple[bytes, set[str | None]]:
            """Return the status and the users in the rows, if there are any."""
            answer = await connection.send(request(url, f"X-API-Key: {world.keys[who]}"))
            rows = orjson.loads(answer.partition(b"\r\n\r\n")[2]).get("data", [])
            return answer.split()[1], {row["user_id"] for row in rows}

        for _ in range(4):
            for who, expected in users.items():
                assert await get(who) == (b"200", expected)
        assert answered == [url.encode()] * 9  # the first one of each was checked by the route
        async with open_keys(world.settings) as keys:
            await keys.revoke("own")
        revoked_at = time.monotonic()
        while (await get("own"))[0] == b"200":
            assert time.monotonic() < revoked_at + 10  # on a busy machine
            await asyncio.sleep(0.05)
        for _ in range(2):
            assert await get("own") == (b"401", set())
            assert await get("other") == (b"200", {"secret-b"})


async def test_requests_that_wait_together_wait_for_the_answer_within_their_scope(
    open_world: OpenWorld, waited: list[str]
) -> None:
    rows = made_rows()
    world = await open_world(rows, USER)
    of_user = {"all": len(rows)} | {
        who: sum(row["user_id"] == user for row in rows)
        for who, user in (("own", "a"), ("other", "secret-b"))
    }
    for who in of_user:  # from now on the process knows these keys
        await world.get("/chat-requests/dimensions", who)
    url = BASE_PATH + "/chat-requests/query?group_by=model_id"
    async with ports_of(world.app) as ports:
        askers = [(who, await ports.connect()) for who in list(of_user) * 5]
        for who, connection in askers:
            connection.client.send(request(url, f"X-API-Key: {world.keys[who]}"))
        for who, connection in askers:
            answer = orjson.loads((await connection.rest()).partition(b"\r\n\r\n")[2])
            assert answer["metadata"]["total"]["total_requests"] == of_user[who]
    assert len(waited) >= 3 * 3  # of each five, all but those that check the target and start the read
