"""Single requests by any dimension, and in other orders than by time."""

from typing import Any

import asyncpg
import httpx
import pytest

from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient
from tests.integration.requests_log import ALL, PATH, fill, get, ids, refused


@pytest.fixture
async def reader(
    connection: asyncpg.Connection, client_of: OpenClient, settings_with: SettingsFactory
) -> httpx.AsyncClient:
    await fill(connection)
    await connection.execute("""
        ALTER TABLE chat_completion_requests ADD COLUMN tags jsonb, ADD COLUMN number int;
        UPDATE chat_completion_requests SET user_id = 'u' || id % 3 WHERE id < 9;
        UPDATE chat_completion_requests SET tags = '{"team": "red"}', number = id WHERE id IN (1, 2, 14);
        UPDATE chat_completion_requests SET error_message = 'HTTP 429' WHERE id IN (2, 11);
    """)
    return await client_of(settings_with(dimensions="user_id, number, team=tags->>team"))


FILTERED: list[tuple[dict[str, Any], list[int]]] = [
    ({"user_id": "u1"}, [7, 4, 1]),
    ({"user_id": ["u1", "u2"]}, [7, 5, 4, 2, 1, 8]),
    ({"user_id!": ["u1", "u2"]}, [10, 3, 6, 9, 12, 11]),
    ({"user_id": "__null__"}, [12, 11]),
    ({"user_id": ["__null__", "u0"]}, [3, 6, 12, 11]),
    ({"team": "red"}, [2, 1]),
    ({"not_team": "red"}, [each for each in ALL if each not in (1, 2)]),
    ({"number": ["1", "x"]}, [1]),
    ({"error_kind": "rate_limited"}, [2, 11]),
    ({"error_kind!": "__null__", "user_id": "u2"}, [2, 8]),
    ({"status": ["failed", "pending"]}, [5, 2, 8, 12, 11]),
    ({"status!": "completed", "model_id": 2}, [2, 12, 11]),
    ({"model_id": [1, 2]}, [7, 4, 2, 1, 6, 8, 12, 11]),
    ({"model_id!": [1, 2]}, [10, 5, 3, 9]),
    ({"provider_id!": 1}, [10, 5, 3, 9]),
    ({"provider_id": [1, 2], "model_name": "abet"}, [10, 5, 3, 9]),
    ({"team": "red", "model_id": "unresolved"}, [14]),
    ({"team": "red", "provider_id": "unresolved"}, [14]),
    ({"provider_id": "unresolved", "model_id": 1}, []),
    ({"provider_id!": 1, "model_id": "unresolved"}, [15, 14, 13]),
]


async def test_a_filter_holds_for_rows_count_downloads_and_points(reader: httpx.AsyncClient) -> None:
    for parameters, expected in FILTERED:
        assert await ids(reader, **parameters) == expected, parameters
        text = (await reader.get(PATH, params={**parameters, "format": "csv", "fields": "id"})).text
        assert [int(line) for line in text.split()[1:]] == expected, parameters
        plot = (await reader.get(f"{PATH}/plot-data", params=parameters)).json()
        assert [row["id"] for row in plot["data"]["recent_requests"]] == expected[:10], parameters
        assert plot["metadata"]["total_count"] == len(expected), parameters
    metadata = (await get(reader, **{"user_id!": ["u1", "__null__"], "team": "red", "status": "failed"}))[
        "metadata"
    ]
    assert metadata["filters"]["dimensions"] == {"team": ["red"], "user_id!": ["u1", "__null__"]}
    assert metadata["filters"]["status"] == "failed"
    for parameters in ({"users": "u1"}, {"not_teams": "red"}):
        assert "not_team" in (await refused(reader, **parameters))[1]


async def test_the_rollup_counts_the_requests_of_some_models(
    reader: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await Rollup(connection).enable(lambda _done: None)
    for parameters, count, method in (
        ({"model_id": [1, 2]}, 8, "rpc"),
        ({"provider_id!": 1}, 4, "rpc"),
        ({"model_id": [1, 2], "user_id": "u1"}, 3, "query"),
    ):
        metadata = (await get(reader, **parameters))["metadata"]
        assert (metadata["total_count"], metadata["method"]) == (count, method), parameters


async def test_points_of_many_requests_are_of_those_that_a_filter_wants(
    reader: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute("""
        INSERT INTO chat_completion_requests
            (id, model_id, created_at, status, user_id, input_tokens, error_message)
        SELECT
            1000 + n, 1, '2026-03-01'::timestamptz + n * interval '1 minute', 'failed', 'v' || n % 2, n % 2,
            'timeout'
        FROM generate_series(1, 3000) AS n
    """)
    parameters: dict[str, Any] = {"user_id": "v1", "error_kind": "timeout", "points": 100}
    plot = (await reader.get(f"{PATH}/plot-data", params=parameters)).json()
    assert plot["metadata"]["sampling"]["method"] == "time_slots"
    assert plot["metadata"]["total_count"] == 1500
    assert set(plot["data"]["plot_data"]["tokens"]) == {1}


COLUMNS = ("input_tokens", "output_tokens", "processing_time_ms", "cost_usd")


@pytest.mark.parametrize("by", COLUMNS)
async def test_an_order_without_an_index_is_refused_with_the_statement_that_creates_it(
    reader: httpx.AsyncClient, connection: asyncpg.Connection, by: str
) -> None:
    parameter, detail = await refused(reader, order_by=f"-{by}")
    assert parameter == "order_by"
    await connection.execute(f"CREATE INDEX partial ON chat_completion_requests ({by}) WHERE id > 3")
    assert (await refused(reader, order_by=by))[0] == "order_by"
    await connection.execute(detail.partition(": ")[2])
    rows = (await get(reader, order_by=f"-{by}"))["data"]
    assert len(rows) == len(ALL)


async def walk(reader: httpx.AsyncClient, limit: int, **parameters: Any) -> list[int]:
    """Return the ids of all pages; each has the total."""
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        body = await get(reader, limit=limit, **parameters, **cursor)
        seen += [row["id"] for row in body["data"]]
        cursor = {"cursor": body["metadata"]["next_cursor"]}
        if cursor["cursor"] is None:
            assert body["metadata"]["total_count"] == len(seen)
            return seen


@pytest.mark.parametrize("by", ["created_at", *COLUMNS])
async def test_pages_are_exact_in_every_order(
    reader: httpx.AsyncClient, connection: asyncpg.Connection, by: str
) -> None:
    await connection.execute(f"""
        CREATE INDEX ON chat_completion_requests ({by}, id);
        INSERT INTO chat_completion_requests
            (id, model_id, created_at, status, user_id, input_tokens, output_tokens, processing_time_ms,
             cost_usd)
        SELECT
            1000 + n, n % 3 + 1,
            CASE WHEN n % 5 > 0 THEN '2026-03-01'::timestamptz + n % 4 * interval '1 hour' END, 'completed',
            'w', NULLIF(n % 4, 1), NULLIF(n % 3, 1),
            CASE n % 6 WHEN 0 THEN NULL WHEN 1 THEN 'NaN'::numeric ELSE n % 4 / 3.0 END,
            CASE WHEN n % 7 > 0 THEN n % 2 * 1e-9 END
        FROM generate_series(1, 60) AS n;
    """)
    for sign, direction in (("-", "DESC"), ("", "ASC")):
        for parameters, condition in (
            ({}, "model_id <= 3"),
            ({"user_id": "w", "model_id": 2}, "user_id = 'w' AND model_id = 2"),
            (
                {"start_date": "2026-03-01T01:00:00Z"},
                "created_at >= '2026-03-01T01:00:00Z' AND model_id <= 3",
            ),
            ({"model_id": "unresolved"}, "model_id IS NULL OR model_id > 3"),
        ):
            expected = await connection.fetch(
                f"SELECT id FROM chat_completion_requests WHERE {condition} "
                f"ORDER BY {by} IS NULL, {by} {direction}, id {direction}"
            )
            for limit in (7, 100):
                found = await walk(reader, limit, order_by=f"{sign}{by}", **parameters)
                assert found == [record["id"] for record in expected], (sign, parameters, limit)
    skipped = await get(reader, order_by=f"-{by}", offset=55, limit=10)
    whole = await get(reader, order_by=f"-{by}")
    assert skipped["data"] == whole["data"][55:65]
    newest = (await get(reader, limit=3))["metadata"]["next_cursor"]
    assert (await refused(reader, limit=3, cursor=newest, order_by="created_at"))[0] == "cursor"


async def test_what_no_order_is_is_named(reader: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    for text in ("", "-", "--cost_usd", "total_tokens", "cost_usd; --"):
        parameter, detail = await refused(reader, order_by=text)
        assert (parameter, "known: created_at, input_tokens" in detail) == ("order_by", True)
    await connection.execute("ALTER TABLE chat_completion_requests DROP COLUMN cost_usd")
    assert "no number cost_usd" in (await refused(reader, order_by="cost_usd"))[1]
