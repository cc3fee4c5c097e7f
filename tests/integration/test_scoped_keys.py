"""Keys with a scope: which are accepted, until when, and what they leave to the other ways of a request."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from chat_stats.service.errors import SchemaError
from chat_stats.service.keys import known_keys
from chat_stats.service.keys.scopes import parse_scope
from chat_stats.service.keys.table import KeyTable, open_keys
from chat_stats.service.settings import Settings
from chat_stats.worker.local_servers import PostgresServer
from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient

QUERY = "/chat-requests/query"
DIMENSIONS = "user_id"

MakeKey = Callable[..., Awaitable[str]]


@pytest.fixture
async def users(gateway: asyncpg.Connection) -> asyncpg.Connection:
    """The gateway with the requests of 3 users: 3 of u1, 2 of u2, 1 of u3."""
    await gateway.execute("UPDATE chat_completion_requests SET user_id = 'u' || model_id")
    return gateway


@pytest.fixture
def scoped(users: asyncpg.Connection, settings_with: SettingsFactory) -> Settings:
    return settings_with(dimensions=DIMENSIONS, require_key=True)


@pytest.fixture
async def keys(scoped: Settings) -> AsyncIterator[KeyTable]:
    async with open_keys(scoped) as table:
        yield table


@pytest.fixture
async def make_key(keys: KeyTable, scoped: Settings) -> MakeKey:
    async def make(*scope: str, name: str = "one") -> str:
        return await keys.create(name, parse_scope(scope, scoped.known_dimensions))

    return make


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def requests_of(client: httpx.AsyncClient, key: str) -> int:
    """Return how many requests a key sees."""
    response = await client.get(QUERY, headers=bearer(key))
    assert response.status_code == 200, response.text
    total: int = response.json()["metadata"]["total"]["total_requests"]
    return total


async def test_a_key_reads_its_scope_and_the_unscoped_key_everything(
    client_of: OpenClient, scoped: Settings, make_key: MakeKey
) -> None:
    client = await client_of(scoped.model_copy(update={"api_keys": (SecretStr("all"),)}))
    first, second = await make_key("user_id=u1"), await make_key("user_id=u2", name="two")
    both = await make_key("user_id=u1", "status=failed", name="both")
    assert [await requests_of(client, key) for key in (first, second, both, "all", first)] == [3, 2, 1, 6, 3]
    failures = await make_key("error_kind=other", "model_id=1", name="failures")
    assert await requests_of(client, failures) == 1
    series = await client.get(f"{QUERY}?bucket=1mo", headers=bearer(failures))
    assert [row["total_requests"] for row in series.json()["data"]] == [1]  # not from 2020 on, when u3 came


async def test_the_figures_of_all_traffic_are_not_for_scoped_keys(
    scoped: Settings, make_key: MakeKey, client_of: OpenClient
) -> None:
    client = await client_of(scoped.model_copy(update={"usage_metrics": ("status",)}))
    refused = await client.get("http://test/metrics/usage", headers=bearer(await make_key("user_id=42")))
    assert (refused.status_code, refused.json()["title"]) == (403, "Not permitted")


async def test_without_a_key_or_with_one_that_is_none_nothing_is_read(
    client_of: OpenClient, scoped: Settings, make_key: MakeKey
) -> None:
    client = await client_of(scoped)
    key = await make_key("user_id=u1")
    for headers in ({}, bearer("csk_unknown"), bearer(key + "x"), bearer(key.swapcase()), {"Cookie": key}):
        for path in (QUERY, "/chat-requests/summary", "/chat-requests", "/chat-requests/query/"):
            assert (await client.get(path, headers=headers)).status_code == 401, (headers, path)
    several = [("Authorization", f"Bearer {key}"), ("X-API-Key", await make_key("user_id=u2", name="two"))]
    assert (await client.get(QUERY, headers=several)).status_code == 401


async def test_a_second_key_never_widens_a_scoped_one(
    client_of: OpenClient, scoped: Settings, make_key: MakeKey
) -> None:
    client = await client_of(scoped.model_copy(update={"api_keys": (SecretStr("all"),)}))
    key = await make_key("user_id=u2")
    for headers in (
        {"Authorization": f"Bearer {key}", "X-API-Key": "all"},
        {"Authorization": "Bearer all", "X-API-Key": key},
    ):
        for _ in range(2):
            answer = await client.get(QUERY, headers=headers)
            assert answer.json()["metadata"]["total"]["total_requests"] == 2


async def test_where_reading_is_open_a_scoped_key_is_refused_instead_of_ignored(
    client_of: OpenClient, scoped: Settings, make_key: MakeKey
) -> None:
    client = await client_of(scoped.model_copy(update={"require_key": False, "local_cache_seconds": 60}))
    key = await make_key("user_id=u1")
    for _ in range(3):  # also once the fast path knows the target
        assert (await client.get(QUERY)).status_code == 200
    refused = await client.get(QUERY, headers=bearer(key))
    assert refused.status_code == 403
    assert "CHAT_STATS_REQUIRE_KEY" in refused.json()["detail"]
    assert (await client.get(QUERY, headers=bearer("something else"))).status_code == 200


async def test_answers_to_keys_are_private_and_vary_by_them(
    client_of: OpenClient, scoped: Settings, make_key: MakeKey
) -> None:
    client = await client_of(scoped)
    answer = await client.get(QUERY, headers=bearer(await make_key("user_id=u1")))
    assert answer.headers["cache-control"].startswith("private")
    assert "Authorization" in answer.headers["vary"]


async def test_a_revoked_key_ends_within_a_second_in_all_processes(
    client_of: OpenClient, scoped: Settings, make_key: MakeKey, keys: KeyTable
) -> None:
    clients = [await client_of(scoped), await client_of(scoped)]
    key = await make_key("user_id=u1")
    other = await make_key("user_id=u2", name="two")
    for client in clients:
        assert await requests_of(client, key) == 3
    await keys.revoke("one")
    revoked_at = time.monotonic()
    for client in clients:
        while (await client.get(QUERY, headers=bearer(key))).status_code == 200:
            assert time.monotonic() < revoked_at + 10  # on a busy machine
            await asyncio.sleep(0.05)
        assert await requests_of(client, other) == 2
    assert known_keys.LOOK_SECONDS <= 0.5


async def test_a_new_key_of_an_old_name_has_the_new_scope(
    client_of: OpenClient, scoped: Settings, make_key: MakeKey, keys: KeyTable
) -> None:
    client = await client_of(scoped)
    old = await make_key("user_id=u1")
    assert await requests_of(client, old) == 3
    await keys.revoke("one")
    new = await make_key("user_id=u2")
    deadline = time.monotonic() + 10
    while (await client.get(QUERY, headers=bearer(new))).status_code == 401:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert await requests_of(client, new) == 2
    assert (await client.get(QUERY, headers=bearer(old))).status_code == 401


@pytest.fixture
async def outage(
    postgres: PostgresServer, scoped: Settings
) -> AsyncIterator[Callable[[bool], Awaitable[None]]]:
    """Begins (True) and ends (False) an outage: the database ends its connections and accepts none."""
    admin = await asyncpg.connect(postgres.url())
    database = scoped.database_url.get_secret_value().rpartition("/")[2].partition("?")[0]

    async def switch(off: bool) -> None:
        await admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS {not off}")
        if off:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
            )

    yield switch
    await switch(False)
    await admin.close()


async def test_known_keys_go_on_without_the_database_and_others_are_told_to_come_back(
    client_of: OpenClient,
    scoped: Settings,
    make_key: MakeKey,
    outage: Callable[[bool], Awaitable[None]],
) -> None:
    client, fresh = await client_of(scoped), await client_of(scoped)
    key = await make_key("user_id=u1")
    assert await requests_of(client, key) == 3
    await outage(True)
    assert await requests_of(client, key) == 3
    for asked, given in ((client, "csk_not_known"), (fresh, key)):
        answer = await asked.get(QUERY, headers=bearer(given))
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
    await outage(False)
    deadline = time.monotonic() + 20
    while (await fresh.get(QUERY, headers=bearer(key))).status_code == 503:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert await requests_of(fresh, key) == 3


async def test_a_long_outage_ends_known_keys(
    client_of: OpenClient,
    scoped: Settings,
    make_key: MakeKey,
    outage: Callable[[bool], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known_keys, "OFFLINE_SECONDS", 2.0)
    client = await client_of(scoped)
    key = await make_key("user_id=u1")
    assert await requests_of(client, key) == 3
    await outage(True)
    deadline = time.monotonic() + 20
    while (answer := await client.get(QUERY, headers=bearer(key))).status_code == 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert answer.status_code == 503


async def test_a_key_whose_dimension_is_gone_is_refused_and_the_log_says_why(
    client_of: OpenClient, scoped: Settings, make_key: MakeKey, caplog: pytest.LogCaptureFixture
) -> None:
    key = await make_key("user_id=u1")
    for declared in ("", "user_id=request_id"):
        client = await client_of(scoped.model_copy(update={"dimensions": declared}))
        for _ in range(3):
            answer = await client.get(QUERY, headers=bearer(key))
            assert answer.status_code == 403
        assert "the dimension" in answer.json()["detail"]
    assert len([text for text in caplog.messages if text.startswith("the key 'one' is refused")]) == 2


async def test_keys_that_were_edited_by_hand_are_refused_and_named_and_the_others_go_on(
    client_of: OpenClient, scoped: Settings, make_key: MakeKey, keys: KeyTable, users: asyncpg.Connection
) -> None:
    edits = {
        "null": "scope = 'null'",
        "object": "scope = scope -> 0",
        "text": "scope = to_jsonb(scope::text)",
        "empty": "scope = '[]'",
        "unknown": "scope = jsonb_set(scope, '{0,dimension}', '\"company\"')",
        "list": "scope = jsonb_set(scope, '{0,value}', '[\"u1\"]')",
        "without": "scope = jsonb_set(scope, '{0}', (scope -> 0) - 'value')",
        "twice": "scope = scope || jsonb_set(scope, '{0,value}', '\"u2\"')",
    }
    broken = {name: await make_key("user_id=u1", name=name) for name in edits}
    sound = await make_key("user_id=u1", name="sound")
    for name, edit in edits.items():
        await users.execute(f"UPDATE chat_stats_keys SET {edit} WHERE name = $1", name)
    await users.execute("UPDATE chat_stats_keys SET created_at = '0044-03-15 12:00Z BC' WHERE name = 'null'")
    client = await client_of(scoped)
    answers = {name: await client.get(QUERY, headers=bearer(key)) for name, key in broken.items()}
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(edits, 403)
    assert await requests_of(client, sound) == 3
    listed = await keys.listed()
    assert {each.name: each.scope for each in listed} == {**dict.fromkeys(edits), "sound": {"user_id": "u1"}}
    assert {each.name for each in listed if each.trouble} == set(edits)


async def test_each_scoped_key_has_its_own_limit(
    client_of: OpenClient, scoped: Settings, make_key: MakeKey
) -> None:
    client = await client_of(scoped.model_copy(update={"rate_limit_misses": "1/minute"}))
    first, second = await make_key("user_id=u1"), await make_key("user_id=u2", name="two")
    statuses = [
        (await client.get(f"{QUERY}?limit={limit}", headers=bearer(key))).status_code
        for key, limit in ((first, 1), (first, 2), (second, 1), (second, 2), (first, 1))
    ]
    assert statuses == [200, 429, 200, 429, 200]


async def test_before_migrate_made_the_table_no_key_is_known(
    client_of: OpenClient, scoped: Settings, users: asyncpg.Connection
) -> None:
    await users.execute("DROP TABLE chat_stats_keys")
    client = await client_of(scoped)
    assert (await client.get(QUERY, headers=bearer("csk_any"))).status_code == 401
    with pytest.raises(SchemaError, match="run: chat-stats migrate"):
        async with open_keys(scoped) as keys:
            await keys.listed()


async def test_the_keys_of_a_table_that_another_role_owns_are_none(
    client_of: OpenClient, scoped: Settings, make_key: MakeKey, users: asyncpg.Connection
) -> None:
    client = await client_of(scoped)
    key = await make_key("user_id=u1")
    role = f"planter_of_{await users.fetchval('SELECT current_database()')}"
    await users.execute(f"CREATE ROLE {role}; ALTER TABLE chat_stats_keys OWNER TO {role}")
    try:
        assert (await client.get(QUERY, headers=bearer(key))).status_code == 401
    finally:
        await users.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_role_that_may_only_read_knows_the_keys(
    client_of: OpenClient, as_reader: Settings, scoped: Settings, make_key: MakeKey
) -> None:
    client = await client_of(scoped.model_copy(update={"database_url": as_reader.database_url}))
    assert await requests_of(client, await make_key("user_id=u1")) == 3
