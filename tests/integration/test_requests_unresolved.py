"""`/chat-requests` of a status that no request has, and without a model that exists."""

import csv
import io
import json
from typing import Any

import asyncpg
import httpx
import pyarrow.parquet
import pytest

from chat_stats.service.explorer.reading import MERGED_MODELS
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings
from tests.integration.requests_log import PATH, get, ids, refused


async def test_a_status_that_no_request_has_is_an_empty_answer(
    client: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    for status in ("FAILED", "", "new"):
        assert await ids(client, status=status) == []
    await log.execute("UPDATE chat_completion_requests SET status = 'new' WHERE id = 1")
    assert await ids(client, status="new") == [1]


@pytest.mark.parametrize(
    "type_", ["status_of_request", "integer", "short_status", "uuid", "timestamptz", "char(6)"]
)
async def test_a_status_that_its_type_cannot_hold_is_an_empty_answer(
    client: httpx.AsyncClient, log: asyncpg.Connection, type_: str
) -> None:
    await log.execute(
        "CREATE TYPE status_of_request AS ENUM ('failed');"
        "CREATE DOMAIN short_status AS varchar(6) CHECK (value <> 'pending');"
        "ALTER TABLE chat_completion_requests ALTER COLUMN status DROP DEFAULT, "
        f"ALTER COLUMN status TYPE {type_} USING NULL"
    )
    for status in ("pending", "99999999999999999999", "\N{SNOWMAN}"):
        assert await ids(client, status=status) == []
        assert await ids(client, status=status, model_id="unresolved") == []
        plot = (await client.get(f"{PATH}/plot-data", params={"status": status})).json()
        assert (plot["data"]["recent_requests"], plot["metadata"]["total_count"]) == ([], 0)


UNRESOLVED: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [15, 14, 13]),
    ({"start_date": "2026-03-01", "end_date": "2026-03-01"}, [15, 14, 13]),
    ({"window": "24h"}, []),
    ({"status": "completed"}, [15, 14, 13]),
    ({"status": "failed"}, []),
    ({"provider_id": 1}, []),
    ({"model_name": "Alpha"}, []),
]


@pytest.mark.parametrize("rollup", [False, True], ids=["counted", "rolled up"])
async def test_requests_without_a_model_that_exists_are_listed_and_counted(
    client: httpx.AsyncClient, log: asyncpg.Connection, settings: Settings, rollup: bool
) -> None:
    if rollup:
        async with open_rollup(settings) as switch:
            await switch.enable(lambda _requests: None)
    for filters, expected in UNRESOLVED:
        assert (filters, await ids(client, model_id="unresolved", **filters)) == (filters, expected)
    rows = (await get(client, model_id="unresolved"))["data"]
    assert [(row["model_id"], row["models"]) for row in rows] == [(None, None), (99, None), (4, None)]
    assert (await get(client, model_id="unresolved"))["metadata"]["filters"]["model_id"] == "unresolved"
    # Deleting a model moves its requests there.
    await log.execute(
        "DELETE FROM models WHERE id = 2; UPDATE chat_completion_requests SET created_at = NULL WHERE id = 13"
    )
    assert await ids(client, model_id="unresolved") == [7, 2, 15, 14, 13, 12, 11]
    assert await ids(client) == [10, 5, 4, 3, 1, 6, 8, 9]


async def test_unresolved_requests_are_paged_downloaded_and_plotted(
    client: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    await log.execute(
        "INSERT INTO chat_completion_requests (id, model_id, created_at, input_tokens) "
        "SELECT n, CASE n % 3 WHEN 0 THEN 1000 + n END, '2026-04-01Z'::timestamptz + n * interval '1 s', n "
        "FROM generate_series(100, 100 + 3 * $1::int) AS n",
        MERGED_MODELS + 5,
    )
    expected = [*range(100 + 3 * (MERGED_MODELS + 5), 99, -1), 15, 14, 13]
    assert await ids(client, model_id="unresolved", limit=1000) == expected
    seen: list[int] = []
    place: dict[str, Any] = {}
    while place.get("cursor", "") is not None:
        page = await get(client, model_id="unresolved", limit=50, **place)
        seen += [row["id"] for row in page["data"]]
        place = {"cursor": page["metadata"]["next_cursor"]}
    assert seen == expected
    cursor = (await get(client, model_id="unresolved", limit=1))["metadata"]["next_cursor"]
    assert (await refused(client, cursor=cursor))[0] == "cursor"

    asked: dict[str, Any] = {
        "model_id": "unresolved",
        "limit": 2000,
        "fields": "id,model_id,model_name,provider_id",
    }
    text = (await client.get(PATH, params={**asked, "format": "csv"})).text
    assert [int(row["id"]) for row in csv.DictReader(io.StringIO(text))] == expected
    lines = (await client.get(PATH, params={**asked, "format": "ndjson"})).text.splitlines()
    assert json.loads(lines[-2]) == {"id": 14, "model_id": 99, "model_name": None, "provider_id": None}
    table = await client.get(PATH, params={**asked, "format": "parquet"})
    assert pyarrow.parquet.read_table(io.BytesIO(table.content)).to_pylist()[-1] == {
        "id": 13,
        "model_id": 4,
        "model_name": None,
        "provider_id": None,
    }

    plot = (await client.get(f"{PATH}/plot-data", params={"model_id": "unresolved", "points": 50})).json()
    assert plot["metadata"]["total_count"] == len(expected)
    assert [row["id"] for row in plot["data"]["recent_requests"]] == expected[:10]
    assert plot["metadata"]["sampling"]["method"] == "time_slots"
    assert set(plot["data"]["plot_data"]["tokens"]) <= {id_ + (1 if id_ < 16 else 0) for id_ in expected}
