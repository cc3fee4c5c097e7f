"""`/chat-requests` as a client sees it: rows, filters, pages."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from chat_stats.service.explorer.reading import MERGED_MODELS
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings
from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient
from tests.integration.requests_log import ALL, PATH, get, ids, refused


async def test_the_newest_requests_come_first_and_those_without_a_time_last(
    reader: httpx.AsyncClient,
) -> None:
    assert await ids(reader) == ALL


async def test_a_row_nests_its_model_and_the_model_its_provider(reader: httpx.AsyncClient) -> None:
    body = await get(reader, model_id=2, status="completed")
    assert body["data"] == [
        {
            "id": 7,
            "request_id": None,
            "model_id": 2,
            "input_tokens": 7,
            "output_tokens": 1,
            "total_tokens": 8,
            "processing_time_ms": 70,
            "status": "completed",
            "error_message": None,
            "user_id": None,
            "cost_usd": 0.5,
            "created_at": "2026-03-02T12:00:00Z",
            "models": {
                "id": 2,
                "model_id": None,
                "model_name": "50%_o\\ff",
                "model_identifier": "one/half",
                "provider_model_id": "one/half",
                "provider_id": 1,
                "providers": {"id": 1, "name": "One", "slug": "one"},
            },
        }
    ]


async def test_numbers_beyond_reason_are_null_and_sums_stay_within_64_bits(reader: httpx.AsyncClient) -> None:
    rows = {row["id"]: row for row in (await get(reader))["data"]}
    assert rows[9]["total_tokens"] == 2**63 - 1
    assert rows[10]["total_tokens"] == 0
    for name in ("processing_time_ms", "cost_usd", "created_at"):
        assert rows[9][name] is rows[10][name] is None


FILTERED: list[tuple[dict[str, Any], list[int]]] = [
    ({"model_id": 3}, [10, 5, 3, 9]),
    ({"model_id": 4}, []),
    ({"model_id": 4711}, []),
    ({"model_id": "6f9619ff-8b86-d011-b42d-00cf4fc964ff"}, []),
    ({"provider_id": 1}, [7, 4, 2, 1, 6, 8, 12, 11]),
    ({"provider_id": 1, "model_id": 3}, []),
    ({"model_name": "alpha"}, [10, 5, 4, 3, 1, 6, 8, 9]),
    ({"model_name": "%"}, [7, 2, 12, 11]),
    ({"model_name": "_"}, [7, 2, 12, 11]),
    ({"model_name": "\\"}, [7, 2, 12, 11]),
    ({"model_name": "a_p"}, []),
    ({"model_name": ""}, ALL),
    ({"status": "failed"}, [2, 8, 12, 11]),
    ({"status": "failed", "model_id": 2}, [2, 12, 11]),
    ({"status": "completed", "model_name": "ABE", "start_date": "2026-01-01"}, [10, 3]),
    ({"start_date": "2026-03-01T12:00:00.000001Z"}, [10, 7, 5, 4, 3, 2]),
    ({"end_date": "2026-03-01T12:00:00.000001Z"}, [1, 6, 8, 9]),
    ({"start_date": "2026-03-01", "end_date": "2026-03-01"}, [5, 4, 3, 2, 1]),
    ({"start_date": "2026-03-01", "end_date": "2026-03-01", "provider_id": 2}, [5, 3]),
    ({"window": "24h"}, []),
]


@pytest.mark.parametrize("rollup", [False, True], ids=["counted", "rolled up"])
async def test_every_filter_applies_to_the_rows_and_to_their_number(
    client: httpx.AsyncClient, log: asyncpg.Connection, settings: Settings, rollup: bool
) -> None:
    if rollup:
        async with open_rollup(settings) as switch:
            await switch.enable(lambda _requests: None)
    for filters, expected in FILTERED:
        assert (filters, await ids(client, **filters)) == (filters, expected)


async def test_the_total_count_comes_from_the_rollup_if_it_is_on(
    client: httpx.AsyncClient, log: asyncpg.Connection, settings: Settings
) -> None:
    assert (await get(client))["metadata"]["method"] == "query"
    async with open_rollup(settings) as switch:
        await switch.enable(lambda _requests: None)
    assert (await get(client))["metadata"]["method"] == "rpc"
    assert (await get(client, status="failed"))["metadata"]["method"] == "query"


async def test_many_models_give_the_same_order(client: httpx.AsyncClient, log: asyncpg.Connection) -> None:
    await log.execute(
        "INSERT INTO models (id, provider_id, model_name) "
        "SELECT n, 2, 'alphas' FROM generate_series(5, $1) AS n",
        5 + MERGED_MODELS,
    )
    assert await ids(client) == ALL
    assert await ids(client, model_name="alpha") == [10, 5, 4, 3, 1, 6, 8, 9]
    assert await ids(client, provider_id=2, status="completed") == [10, 3, 9]


@pytest.mark.parametrize("size", [1, 2, 5, 11, 12])
async def test_pages_by_cursor_give_all_rows_in_order(reader: httpx.AsyncClient, size: int) -> None:
    assert await pages(reader, size) == ALL


async def test_pages_by_cursor_give_all_rows_where_ids_are_text(
    client: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    await log.execute("""
        ALTER TABLE chat_completion_requests ALTER id DROP IDENTITY IF EXISTS;
        ALTER TABLE chat_completion_requests ALTER id TYPE text USING 'chatcmpl-' || to_char(id, 'FM00')
    """)
    assert await pages(client, 5) == [f"chatcmpl-{number:02}" for number in ALL]


async def pages(client: httpx.AsyncClient, size: int) -> list[Any]:
    seen: list[Any] = []
    parameters: dict[str, Any] = {"limit": size}
    while True:
        body = await get(client, **parameters)
        assert body["metadata"]["total_count"] == len(ALL)
        seen += [row["id"] for row in body["data"]]
        if body["metadata"]["next_cursor"] is None:
            return seen
        parameters["cursor"] = body["metadata"]["next_cursor"]


async def test_pages_by_offset_give_all_rows_in_order(reader: httpx.AsyncClient) -> None:
    for offset in range(len(ALL) + 2):
        body = await get(reader, limit=3, offset=offset)
        assert [row["id"] for row in body["data"]] == ALL[offset : offset + 3]
        assert (body["metadata"]["offset"], body["metadata"]["limit"]) == (offset, 3)
        assert (body["metadata"]["next_cursor"] is None) == (offset + 3 >= len(ALL))


async def test_concurrent_writes_neither_repeat_nor_hide_a_row(
    client: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    first = await get(client, limit=5)
    await log.execute("INSERT INTO chat_completion_requests (id, model_id) VALUES (100, 1)")
    second = await get(client, limit=100, cursor=first["metadata"]["next_cursor"])
    assert [row["id"] for row in first["data"] + second["data"]] == ALL
    assert (await get(client, limit=2))["data"][1]["id"] == 100


async def test_the_pages_of_a_window_share_the_moment_at_which_it_ends(
    client: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    await log.execute(
        "UPDATE chat_completion_requests SET created_at = now() - interval '1 hour' + interval '2 s' "
        "+ id * interval '1 microsecond' WHERE id <= 4"
    )
    first = await get(client, limit=2, window="1h")
    assert first["metadata"]["total_count"] == 4
    await log.execute("SELECT pg_sleep(2.1)")
    second = await get(client, window="1h", cursor=first["metadata"]["next_cursor"])
    assert [row["id"] for row in second["data"]] == [2, 1]
    assert await ids(client, window="1h") == []


async def test_metadata(reader: httpx.AsyncClient) -> None:
    metadata = (await get(reader, limit=2, model_name="ALPHA", start_date="2026-01-01"))["metadata"]
    assert metadata["filters"] == {
        "model_id": None,
        "provider_id": None,
        "model_name": "ALPHA",
        "status": None,
        "window": None,
        "start_date": "2026-01-01T00:00:00Z",
        "end_date": None,
        "dimensions": {},
    }
    assert (metadata["total_count"], metadata["returned_count"]) == (6, 2)
    assert (metadata["window"], metadata["start_date"]) == (None, "2026-01-01T00:00:00Z")
    assert (metadata["unavailable"], metadata["generation"]) == ([], None)
    age = datetime.now(UTC) - datetime.fromisoformat(metadata["timestamp"])
    assert abs(age) < timedelta(seconds=5)


@pytest.mark.parametrize("parameters", [{}, {"limit": 5000}, {"format": "csv"}], ids=str)
async def test_the_headers_say_that_the_cache_was_bypassed(
    reader: httpx.AsyncClient, parameters: dict[str, Any]
) -> None:
    headers = (await reader.get(PATH, params=parameters)).headers
    assert headers["cache-status"] == "chat-stats; fwd=bypass"
    assert (headers["age"], headers["cache-control"]) == ("0", "public, no-cache")


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"limit": 0}, "limit", "from 1 to 100000"),
    ({"limit": 100_001}, "limit", "from 1 to 100000"),
    ({"offset": -1}, "offset", "from 0 to"),
    ({"fields": "id,passwort"}, "fields", "known: id,"),
    ({"fields": "models", "format": "csv"}, "fields", "known: id,"),
    ({"format": "xml"}, "format", "known: json, csv, ndjson, parquet"),
    ({"window": "2d"}, "window", "known: 1h"),
    ({"start_date": "yesterday"}, "start_date", "ISO 8601"),
    ({"model_id": "gpt-4"}, "model_id", "UUID"),
    ({"provider_id": "x"}, "provider_id", "UUID"),
    ({"model_name": "\0"}, "model_name", "NUL"),
    ({"cursor": "x"}, "cursor", "next_cursor"),
    ({"cursor": "x", "offset": 1}, "cursor", "not both"),
]


async def test_a_bad_parameter_is_named_with_what_is_allowed(reader: httpx.AsyncClient) -> None:
    for parameters, named, allowed in BAD:
        parameter, detail = await refused(reader, **parameters)
        assert parameter == named
        assert allowed in detail


async def test_unchanged_rows_are_a_304(client: httpx.AsyncClient, log: asyncpg.Connection) -> None:
    tag = (await client.get(PATH)).headers["etag"]
    assert (await client.get(PATH, headers={"If-None-Match": tag})).status_code == 304
    await log.execute("UPDATE chat_completion_requests SET input_tokens = 12345 WHERE id = 1")
    assert (await client.get(PATH, headers={"If-None-Match": tag})).status_code == 200


async def test_reading_rows_needs_a_key_if_keys_are_set(client_of: OpenClient, kept: Settings) -> None:
    client = await client_of(kept.model_copy(update={"api_keys": (SecretStr("secret"),)}))
    for path in (PATH, f"{PATH}?format=csv", f"{PATH}/plot-data"):
        assert (await client.get(path)).status_code == 401
        response = await client.get(path, headers={"X-API-Key": "secret"})
        assert response.status_code == 200
        assert response.headers["cache-control"].startswith("private")


async def test_a_count_that_takes_too_long_is_null_and_named_as_unavailable(
    client_of: OpenClient, settings_with: SettingsFactory, log: asyncpg.Connection
) -> None:
    # A view that is slow for each row, so that counting is slow and reading one row is not.
    await log.execute(
        "ALTER TABLE chat_completion_requests RENAME TO requests;"
        "CREATE VIEW chat_completion_requests AS SELECT * FROM requests WHERE pg_sleep(0.1) IS NOT NULL"
    )
    client = await client_of(settings_with(query_timeout_seconds=2.4))
    body = await get(client, limit=1, model_id=1)
    assert body["metadata"]["total_count"] is None
    assert body["metadata"]["unavailable"] == ["total_count"]


@pytest.mark.parametrize("path", [PATH, f"{PATH}?limit=2000", f"{PATH}?format=csv", f"{PATH}/plot-data"])
async def test_head_gets_the_headers_of_get(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, path: str
) -> None:
    head, got = await client.head(path), await client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    wanted = ("etag", "content-type", "cache-control", "vary")
    assert [head.headers.get(name) for name in wanted] == [got.headers.get(name) for name in wanted]
    assert (await client.head(PATH, params={"limit": 0})).status_code == 422
